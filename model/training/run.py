"""A training run from configuration to checkpoint: `train` is what `reality-check train` calls.

Everything that takes long is kept in the run's folder and not done twice: an interrupted run continues where it was.
"""

from __future__ import annotations

import contextlib
import datetime
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from model import checkpoint
from model.backbones import LinearHeadNet, build
from model.calibration import Calibration, Thresholds
from model.checkpoint import CheckpointInfo
from model.faces import Framing
from model.network import load_network, save
from model.tiers import TIERS
from model.training import calibrate, card, data
from model.training.config import ConfigError, LinearConfig, TrainConfig, is_checkpoint
from model.training.donors import DONORS, obtain
from model.training.features import BATCH, CropLoader
from model.training.finetune import fit_network, predict
from model.training.fold_runs import ALL, choose, fold_means, train_folds, unseen_scores, write_table
from model.training.frozen import fit_frozen
from model.training.hashes import hashes_of
from model.training.precision import autocast
from model.training.progress import Log
from model.training.resnet import load_folded, load_imagenet, widen

_BASELINE_FACES = 512


def train(
    config: TrainConfig,
    out: Path,
    *,
    fold_names: Sequence[str] | None = None,
    folds_only: bool = False,
    quiet: bool = False,
) -> CheckpointInfo | None:
    """Train, calibrate and write `<out>/<name>.safetensors` with its model card.

    Parameters
    ----------
    config : TrainConfig
    out : Path
        The run's folder; also holds what makes the run resumable (`cache/`, `state.pt`, `folds/`), `log.csv`, curves,
        and `leave_one_out.csv`.
    fold_names : sequence of str, optional
        Leave-one-out folds to measure, or `all`. By default all for a linear head, where they cost seconds, and none
        for gradient training, where each is a training of its own. Folds that were finished before are not done again.
    folds_only : bool
        Measure folds, all if none is named, and leave the checkpoint out.

    Returns
    -------
    CheckpointInfo or None
        Of the written checkpoint; None with `folds_only`.

    Raises
    ------
    model.training.config.ConfigError
        If the data, the folds or the initial weights cannot be used.
    model.checkpoint.CheckpointError
        If there is no such teacher.
    """
    torch.manual_seed(config.seed)
    cache = out / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    log = Log(out, quiet=quiet)
    framing = _framing(config)
    frame = data.load(config.data, config.seed)
    log.line(f"{len(frame)} pictures: {frame.groupby(['split', 'label']).size().to_dict()}")
    known = data.folds(config.data.folds, frame) if config.data.folds is not None else []
    if (fold_names or folds_only) and not known:
        raise ConfigError("there is no table of folds: name one with --folds, or as `folds` in the recipe")
    if not fold_names:
        fold_names = [ALL] if folds_only or isinstance(config.method, LinearConfig) else []
    chosen = choose(known, fold_names)
    if is_checkpoint(config.init):
        _refuse_seen(checkpoint.read_info(Path(config.init)), frame, chosen)
    network, origin = initial_network(config, cache)
    if config.distil is not None:
        teacher = checkpoint.read_info(checkpoint.resolve(config.distil.teacher))
        if (
            teacher.header["training"].get("config", {}).get("method", {}).get("kind") != "linear"
        ):  # else it saw no label
            _refuse_seen(teacher, frame, chosen)
        origin += f"; then taught without labels by {teacher.name}, which was {teacher.header['origin']}"
    boxes = data.crop_boxes(frame, framing, cache / "faces.json", log)
    loader = CropLoader(frame, boxes, framing, config.mean, config.std, config.seed)

    metrics: dict[str, Any] = {}
    unseen: pd.DataFrame | None = None
    if isinstance(config.method, LinearConfig):
        fitted = fit_frozen(config, config.method, network, frame, loader, chosen, cache, log)
        logits, unseen = fitted.val, fitted.unseen
        if fitted.leave_one_out:
            metrics |= {"leave_one_out": fitted.leave_one_out, "leave_one_out_means": fitted.means}
    elif figures := train_folds(
        config, config.method, frame, loader, known, chosen, lambda: initial_network(config, cache)[0], out, log
    ):
        metrics |= {"leave_one_out": figures, "leave_one_out_means": fold_means(frame, known, figures, out)}
        unseen = unseen_scores(figures, out)
    if metrics:
        write_table(metrics["leave_one_out"], out / "leave_one_out.csv")
    if folds_only:
        return None
    if not isinstance(config.method, LinearConfig):
        network = fit_network(config, config.method, network, frame, loader, out, log)
        logits = {view: predict(network, loader, _rows(frame, "val"), view, log) for view in TIERS}
    set_baseline(network, loader, frame, log)
    calibration, thresholds = _decide(frame, logits, config.max_false_positive_rate)
    strict = unseen is not None and bool((unseen["label"] == 0).any())
    if unseen is not None:
        if strict:
            thresholds = calibrate.for_unseen(thresholds, unseen, config.max_false_positive_rate)
        metrics |= calibrate.unseen_entries(calibrate.unseen_error_table(unseen, thresholds))
    header = {
        "name": config.name,
        "architecture": config.architecture,
        "options": config.options,
        "framing": asdict(framing),
        "mean": config.mean,
        "std": config.std,
        "classes": ["real", "fake"],
        "temperature": calibration.temperature,
        "calibration_bias": calibration.bias,
        "thresholds": {
            "real": thresholds.real,
            "fake": thresholds.fake,
            "fpr": thresholds.fpr,
            "unseen": strict,
        },
        "training": summary(config, frame) | {"command": _command(config, known, metrics.get("leave_one_out", {}))},
        "metrics": metrics,
        "licence": config.licence,
        "origin": origin,
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }
    path = out / f"{config.name}.safetensors"
    hashes = hashes_of(frame.loc[frame["split"].isin(("train", "val")), "path"])
    save(path, network, header, storage=config.storage, hashes=hashes)
    info = checkpoint.read_info(path)
    info.card.write_text(card.render(info), "utf-8")
    log.line(f"wrote {path} ({path.stat().st_size / 1e6:.0f} MB) and its card")
    return info


def _framing(config: TrainConfig) -> Framing:
    try:
        return Framing(**config.framing)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"framing: {error}") from error


def _refuse_seen(info: CheckpointInfo, frame: pd.DataFrame, folds: Sequence[data.Fold]) -> None:
    """Leave-one-out is strict only if nothing that training starts from saw what a fold holds out."""
    hashes = checkpoint.training_hashes(info)
    if hashes is None:
        return
    seen = {bytes(digest).hex() for digest in hashes[0]}
    short = frame["sha256"].str[: 2 * checkpoint.HASH_BYTES].isin(seen).to_numpy()
    for fold in folds:
        if count := int((short & fold.held_out).sum()):
            raise ConfigError(
                f"{info.path.name} was trained on {count} of the pictures that fold {fold.name!r} holds out, so that "
                "leaving them out now says nothing: start from other weights, or train without folds"
            )


def initial_network(config: TrainConfig, cache: Path) -> tuple[LinearHeadNet, str]:
    """The network to start from, and a sentence on where its weights come from.

    Raises
    ------
    ConfigError
        If the weights cannot be downloaded, or are not for this architecture.
    """
    try:
        network = build(config.architecture, config.options)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    kind, _, name = config.init.partition(":")
    if kind == "scratch":
        return network, "random initial weights"
    if kind == "imagenet":
        try:
            load_imagenet(network, config.architecture)
        except (OSError, RuntimeError) as error:  # urllib's errors, and a file whose digest is wrong
            raise ConfigError(
                f"torchvision's ImageNet weights could not be downloaded ({error}). Put the file into "
                f"{torch.hub.get_dir()}/checkpoints, or start from other weights: --init donor:NAME, scratch or a "
                "checkpoint."
            ) from error
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return network, "initialised from torchvision's ImageNet weights (BSD-3-Clause)"
    if kind == "donor":
        if name not in DONORS:
            raise ConfigError(f"there is no donor {name!r}; there are {', '.join(DONORS)}")
        try:
            state = load_file(obtain(name, cache / "donors"))
        except RuntimeError as error:
            raise ConfigError(str(error)) from error
        except ModuleNotFoundError as error:
            raise ConfigError(f"reading donor {name} needs {error.name}: install the extra `train`") from error
        with _fitting(config):
            if name == "half_resnet50":
                load_folded(network, state)
            else:
                wanted = network.extractor.state_dict()
                fitted = {key: value for key, value in wanted.items() if key.startswith("moments.")}  # no donor has it
                network.extractor.load_state_dict({key: state[key] for key in wanted if key in state} | fitted)
        return network, f"initialised from {DONORS[name].licence}"
    info = checkpoint.read_info(Path(config.init))
    start = load_network(info)
    start.set_baseline(torch.zeros(start.head.in_features, 1, 1))
    with _fitting(config):
        if info.header["options"] == config.options:
            network.load_state_dict(start.state_dict())
        else:
            widen(start, network, seed=config.seed)
    return network, info.header["origin"]


@contextlib.contextmanager
def _fitting(config: TrainConfig) -> Iterator[None]:
    """Weights of another architecture or size, as one clear line."""
    try:
        yield
    except (RuntimeError, KeyError) as error:
        wanted = f"{config.architecture} with options {config.options}"
        raise ConfigError(f"the weights of {config.init} do not fit {wanted}") from error


def set_baseline(network: LinearHeadNet, loader: CropLoader, frame: pd.DataFrame, log: Log) -> None:
    """Measure cells from the mean cell, place by place, of training faces drawn evenly from labels and sources.

    Logits do not change; the evidence map then shows what sets a face apart from the usual one.
    """
    rows = _rows(frame, "train")
    weights = data.balanced_weights(frame.iloc[rows])
    chosen = np.random.default_rng(loader.seed).choice(rows, min(_BASELINE_FACES, 4 * len(rows)), p=weights)
    total: torch.Tensor | None = None
    network.eval()
    with torch.inference_mode(), autocast(torch.device("cpu")):
        for first in log.track(range(0, len(chosen), BATCH), "baseline"):
            images = loader.batch([(int(row), "clean") for row in chosen[first : first + BATCH]])
            cells = network.forward_features(images).float().sum(dim=0)  # (C, H, W)
            total = cells if total is None else total + cells
    assert total is not None
    baseline = network.baseline + total.clone() / len(chosen)
    halved = baseline.half().float()  # as near as needed, and half of it to store
    network.set_baseline(halved if bool(torch.isfinite(halved).all()) else baseline)


def summary(config: TrainConfig, frame: pd.DataFrame) -> dict[str, object]:
    """What a checkpoint's header says of its training."""
    fitted = frame[frame["split"].isin(("train", "val"))]
    counts = (
        fitted.assign(label=fitted["label"].map({0: "real", 1: "fake"}))
        .groupby(["label", "source", "generator", "split"])
        .size()
        .unstack("split", fill_value=0)
        .reset_index()
    )
    return {
        "digest": data.digest(fitted),
        "train": int((frame["split"] == "train").sum()),
        "val": int((frame["split"] == "val").sum()),
        "counts": counts.to_dict("records"),
        "config": _recipe(config),
    }


def _recipe(config: TrainConfig) -> dict[str, Any]:
    """The configuration with its whole framing, without the places of pictures and tables, which are this machine's."""
    recipe = config.model_dump(mode="json", exclude={"data": {"root", "manifest", "folds"}})
    recipe["framing"] = asdict(Framing(**config.framing))
    numbers = range(2, 2 + len(config.data.extra))
    recipe["data"]["extra"] = [{"root": f"FOLDER_{n}", "manifest": f"TABLE_{n}.csv"} for n in numbers]
    return recipe


def _command(config: TrainConfig, folds: Sequence[data.Fold], measured: Collection[str]) -> str:
    """The command that repeats the run from the recipe in its card; places of pictures and tables are left open."""
    words = ["reality-check", "train", "--config", f"{config.name}.toml", "--data", "FOLDER"]
    if config.data.manifest is not None:
        words += ["--manifest", "TABLE.csv"]
    if folds:
        words += ["--folds", "FOLDS.csv"]
    names = [ALL] if len(measured) == len(folds) else list(measured)
    if folds and not (isinstance(config.method, LinearConfig) and names == [ALL]):
        words += [word for name in names for word in ("--fold", name)]
    return shlex.join(words)


def _rows(frame: pd.DataFrame, split: str) -> np.ndarray:
    return np.flatnonzero(frame["split"].to_numpy() == split)


def _decide(
    frame: pd.DataFrame, logits: dict[str, np.ndarray], max_false_positive_rate: float
) -> tuple[Calibration, Thresholds]:
    """Calibrate on the mixture of tiers of val; thresholds for the worst tier."""
    labels = frame["label"].to_numpy()[_rows(frame, "val")]
    return calibrate.decide({view: (values, labels) for view, values in logits.items()}, max_false_positive_rate)
