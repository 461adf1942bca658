"""Teaching a convolutional network the tokens of a larger one, without labels.

The student's deepest stages learn to give, through a linear layer each that is thrown away afterwards, what the blocks
of a frozen teacher hold at the same place: regression on intermediate features (Romero et al. 2015, "FitNets: Hints for
Thin Deep Nets"). No label is looked at, and no picture that a leave-one-out fold holds out, so that one training serves
all folds.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model import checkpoint
from model.backbones import LinearHeadNet, ViTCells
from model.backbones.resnet import StageCells, pooled
from model.files import write_whole
from model.network import load_network
from model.normalise import Normaliser
from model.training.config import ConfigError, DistilConfig
from model.training.features import CropLoader
from model.training.gradient import average, groups, load_state, prefetch, save_state, schedule
from model.training.identity import digest, of_arrays
from model.training.precision import autocast
from model.training.progress import Log
from model.training.resnet import settle_batch_norms

_BATCH = 32  # crops that the teacher sees at once
_FIRST = 8  # batches that the directions, and the spread of targets, are taken from
_SETTLE_BATCHES = 4  # batches whose statistics the batch norms start from
_WARMUP = 0.03  # share of the steps
_LOG_EVERY, _SAVE_EVERY = 50, 250  # steps
_CLIP = 5.0  # largest norm of a gradient


@dataclass(frozen=True)
class Lessons:
    """Crops and what the teacher says of them, on disk.

    Attributes
    ----------
    crops : ndarray of shape (N, S, S, 3), uint8
    targets : ndarray of shape (N, T, K * blocks), float16
        Tokens of the teacher's blocks along K principal axes each, the weaker ones enlarged.
    """

    crops: np.ndarray
    targets: np.ndarray

    def draw(
        self, rng: np.random.Generator, count: int, normalise: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[Tensor, Tensor]:
        """Some images (B, 3, S, S), half of them mirrored, and their targets (B, T, K * blocks)."""
        chosen = np.sort(rng.choice(len(self.crops), count))
        mirrored = torch.from_numpy(rng.random(count) < 0.5)
        images = torch.from_numpy(np.stack([normalise(crop) for crop in self.crops[chosen]]))
        grid = math.isqrt(self.targets.shape[1])
        targets = torch.from_numpy(self.targets[chosen]).float().unflatten(1, (grid, grid))
        images[mirrored], targets[mirrored] = images[mirrored].flip(3), targets[mirrored].flip(2)
        return images.contiguous(memory_format=torch.channels_last), targets.flatten(1, 2)


def distil(
    method: DistilConfig, network: LinearHeadNet, loader: CropLoader, rows: np.ndarray, folder: Path, log: Log
) -> str:
    """Train a network's stages, in place, on views of some pictures; resumable.

    Parameters
    ----------
    rows : ndarray of shape (N,), int
        Pictures that may be looked at.
    folder : Path
        Keeps what the teacher said (some gigabytes) and the state of training.

    Returns
    -------
    str
        SHA-256 of the trained weights.

    Raises
    ------
    ConfigError
        If the networks cannot be student and teacher, or there are no pictures.
    """
    student = network.extractor
    if not isinstance(student, StageCells) or len(student.tapped) < len(method.blocks):
        raise ConfigError(f"distil: the network has no {len(method.blocks)} stages to teach; see option `taps`")
    if not len(rows):
        raise ConfigError("distil: every training picture is held out by a fold: some must be left that none holds out")
    folder.mkdir(parents=True, exist_ok=True)
    info = checkpoint.read_info(checkpoint.resolve(method.teacher))
    asked = (info.sha256, method.blocks, method.directions, method.views, loader.framing, loader.seed)
    given = digest(*asked, [loader.pictures[row] for row in rows])[:24]
    lessons = _lessons(method, info, loader, rows, folder, given, log)
    read = (loader.normalise.mean, loader.normalise.std)
    key = digest(given, sorted(method.model_dump().items()), _weights(student), read)
    _train(method, network, student, lessons, loader, folder, key, log)
    return _weights(student)


def _weights(network: nn.Module) -> str:
    return of_arrays(*(value.numpy() for _, value in sorted(network.state_dict().items())))


def _lessons(
    method: DistilConfig,
    info: checkpoint.CheckpointInfo,
    loader: CropLoader,
    rows: np.ndarray,
    folder: Path,
    key: str,
    log: Log,
) -> Lessons:
    """Have the teacher look at all views; what was finished before is not done again."""
    teacher = load_network(info).extractor
    taps = getattr(teacher, "taps", ())
    if not isinstance(teacher, ViTCells) or not set(method.blocks) <= set(taps):
        raise ConfigError(f"distil: {info.path.name} does not keep blocks {method.blocks}; it keeps {list(taps)}")
    places = [taps.index(block) for block in method.blocks]
    read = Normaliser(info.header["mean"], info.header["std"])
    jobs: list[tuple[int, str | int]] = [
        (int(row), "clean" if view == 0 else view) for view in range(method.views) for row in rows
    ]
    jobs = [jobs[place] for place in np.random.default_rng(loader.seed).permutation(len(jobs))]
    batches = [jobs[first : first + _BATCH] for first in range(0, len(jobs), _BATCH)]

    def cut(batch: Sequence[tuple[int, str | int]]) -> np.ndarray:
        return np.stack([np.asarray(loader.picture(row, view)) for row, view in batch])

    def tokens(crops: np.ndarray) -> list[Tensor]:
        images = torch.from_numpy(np.stack([read(crop) for crop in crops]))
        with torch.inference_mode(), autocast(torch.device("cpu")):
            found = list(teacher.tokens(images))
        return [found[place].float() for place in places]

    side, count = loader.framing.side, teacher.grid**2
    crops = _on_disk(folder / f"{key}-crops.npy", (len(jobs), side, side, 3), np.uint8)
    targets = _on_disk(folder / f"{key}-targets.npy", (len(jobs), count, method.directions * len(places)), np.float16)
    progress = folder / f"{key}.json"
    done = json.loads(progress.read_text()) if progress.is_file() else 0  # batches
    if done == len(batches):
        return Lessons(crops, targets)
    kept = folder / f"{key}-directions.pt"  # another machine would come to slightly others
    if not kept.is_file():
        found = _directions([tokens(cut(batch)) for batch in batches[:_FIRST]], method.directions)
        write_whole(kept, partial(torch.save, found))
    directions = torch.load(kept, weights_only=True)
    for batch, seen in prefetch(lambda batch: cut(batches[batch]), done, len(batches)):
        along = [(own - mean) @ axes for own, (mean, axes) in zip(tokens(seen), directions, strict=True)]
        first = batch * _BATCH
        crops[first : first + len(seen)] = seen
        targets[first : first + len(seen)] = torch.cat(along, dim=2).numpy()
        if batch % 16 == 15 or batch + 1 == len(batches):
            crops.flush()
            targets.flush()
            write_whole(progress, partial(Path.write_text, data=json.dumps(batch + 1)))
            log.line(f"teacher: {batch + 1} of {len(batches)} batches")
    return Lessons(crops, targets)


def _on_disk(path: Path, shape: tuple[int, ...], kind: type) -> np.memmap:
    """An array in a file, as it was left there."""
    if path.is_file():
        return np.lib.format.open_memmap(path, "r+")
    return np.lib.format.open_memmap(path, "w+", kind, shape)


def _directions(batches: Sequence[Sequence[Tensor]], count: int) -> list[tuple[Tensor, Tensor]]:
    """Mean (D,) and principal axes (D, K) of each block's tokens.

    An axis is scaled by the inverse square root of its tokens' deviation: weak directions count for more in the loss
    than they would as they are, and for less than white ones would, of which the last are noise.
    """
    out = []
    for parts in zip(*batches, strict=True):
        flat = torch.cat([part.flatten(0, 1) for part in parts]).double()
        variances, axes = torch.linalg.eigh(torch.cov(flat.T))
        scaled = axes[:, -count:] / variances[-count:].clamp_min(1e-9) ** 0.25
        out.append((flat.mean(dim=0).float(), scaled.float()))
    return out


def _train(
    method: DistilConfig,
    network: LinearHeadNet,
    student: StageCells,
    lessons: Lessons,
    loader: CropLoader,
    folder: Path,
    key: str,
    log: Log,
) -> None:
    """Gradient training of the student, whose averaged weights stay in it."""
    steps = math.ceil(method.epochs * len(lessons.crops) / method.batch_size)
    saved = folder / "state.pt"

    def draw(step: int) -> tuple[Tensor, Tensor]:
        return lessons.draw(np.random.default_rng([loader.seed, step]), method.batch_size, loader.normalise)

    drawn = [draw(step) for step in range(_FIRST)]
    if not saved.is_file():
        settle_batch_norms(network, torch.cat([images for images, _ in drawn[:_SETTLE_BATCHES]]))
    student.requires_grad_(True).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stages = student.tapped[-len(method.blocks) :]
    with torch.no_grad():
        sides = [math.isqrt(tokens.shape[1]) for tokens in student.eval().tokens(drawn[0][0][:1])][-len(stages) :]

    def wanted(targets: Tensor) -> list[Tensor]:
        """Targets (B, T, K * blocks) -> those of each stage (B, H*H, K), on the stage's grid."""
        return [pooled(own, side) for own, side in zip(targets.split(method.directions, dim=2), sides, strict=True)]

    spreads = [
        (own.var(dim=(0, 1)).mean(), own.mean(dim=1).var(dim=0))
        for own in wanted(torch.cat([targets for _, targets in drawn]))
    ]
    torch.manual_seed(loader.seed)
    widths = student.moments.widths[-len(stages) :]
    adaptors = nn.ModuleList(nn.Linear(width, method.directions) for width in widths)
    both = nn.ModuleList([student, adaptors])
    optimiser = torch.optim.AdamW(groups(both.parameters(), method.learning_rate, method.weight_decay))
    averaged = copy.deepcopy(student).eval()
    first, running = 0, np.zeros(2 * len(stages))
    if saved.is_file():
        state = load_state(saved, key, torch.device("cpu"))
        both.load_state_dict(state["network"])
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        first, running, log.rows = state["step"], np.array(state["loss"]), state["log"]
        log.line(f"continuing at step {first} of {steps}")

    for step, (images, targets) in prefetch(draw, first, steps):
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * schedule(step, steps, _WARMUP)
        student.train()
        with autocast(torch.device("cpu")):
            taps = list(student.tokens(images))[-len(stages) :]
        losses: list[Tensor] = []
        for adaptor, tokens, own, spread in zip(adaptors, taps, wanted(targets), spreads, strict=True):
            losses += _losses(adaptor(tokens.float()) - own, *spread)
        optimiser.zero_grad(set_to_none=True)
        torch.stack(losses).sum().backward()
        nn.utils.clip_grad_norm_(both.parameters(), _CLIP)
        optimiser.step()
        average(averaged, student, method.average_decay, step)
        now = np.array([loss.item() for loss in losses])
        running = now if step == 0 else 0.98 * running + 0.02 * now
        if (step + 1) % _LOG_EVERY == 0 or step + 1 == steps:
            names = [f"{stage}_{what}" for stage in stages for what in ("tokens", "means")]
            shares = dict(zip(names, running.tolist(), strict=True))
            log.record(step=step + 1, learning_rate=optimiser.param_groups[0]["lr"], **shares)
            log.line(f"step {step + 1}/{steps}: " + ", ".join(f"{name} {value:.3f}" for name, value in shares.items()))
        if (step + 1) % _SAVE_EVERY == 0 or step + 1 == steps:
            state = {
                "key": key,
                "log": log.rows,
                "step": step + 1,
                "loss": running.tolist(),
                "network": both.state_dict(),
                "averaged": averaged.state_dict(),
                "optimiser": optimiser.state_dict(),
            }
            save_state(saved, state)
    student.load_state_dict(averaged.state_dict())
    student.eval().requires_grad_(False)


def _losses(error: Tensor, of_tokens: Tensor, of_means: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of variance that errors (B, T, K) leave: of single tokens, and of their mean over the face.

    A linear head will see the mean.
    """
    return error.square().mean() / of_tokens, (error.mean(dim=1).square() / of_means).mean()
