"""`python -m benchmarks.ablations`: what the linear layer of the default should see, by leave-one-out.

The bundled network is frozen, so that everything the layer might see is taken once, on the clean view of pictures drawn
at random: per block the mean of the tokens, of their squares, and of the products of pairs of 64 directions, which tell
how channels vary together over a face (Lin, RoyChowdhury and Maji 2015, "Bilinear CNN Models"), over the whole crop and
over its middle. Every row of the table then is a fit on other columns of the same pictures. Features are kept in
`--cache`, and taken up from there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit
from torch import Tensor

from benchmarks._page import machine, publish, table
from dashboard.settings import ROOT
from model.backbones import ViTCells
from model.checkpoint import CheckpointError
from model.detector import Detector
from model.files import write_whole
from model.metrics import roc_auc
from model.training import data
from model.training.config import ConfigError, DataConfig
from model.training.features import BATCH, CropLoader
from model.training.identity import digest
from model.training.leave_one_out import leave_one_out
from model.training.precision import autocast
from model.training.progress import Log

PAGE = ROOT / "docs" / "training.md"
WIDTH = 768
DIRECTIONS = 64
PAIRS = DIRECTIONS * (DIRECTIONS + 1) // 2
FIGURES = ("Mean AUC", "Mean recall", "Worst AUC", "AUC on `test`")  # as `figures` returns them
_CHUNK = 16 * BATCH  # pictures in one file of the cache
_AXES_FROM = 12 * BATCH  # pictures that the directions are taken from


@dataclass(frozen=True)
class Directions:
    """Two sets of directions (D, 64) per block, each of about unit variance over tokens, and the tokens' mean (D,)."""

    principal: list[Tensor]
    drawn: list[Tensor]  # at random, in the space where tokens are white
    means: list[Tensor]


MIDDLE = "middle "
PARTS = {  # columns of a block, in this order
    **{"means": WIDTH, "squares": WIDTH, "principal": PAIRS, "drawn": PAIRS},
    **{MIDDLE + "means": WIDTH, MIDDLE + "squares": WIDTH, MIDDLE + "principal": PAIRS},
}
_SIDE = 8  # of the middle, in patches
_ALL = (3, 4, 5, 6, 7, 8, 9)
_Group = tuple[tuple[int, ...], tuple[str, ...]]  # blocks, and their parts
_MOMENTS: _Group = (_ALL, ("means", "squares"))


def _seen(last: int, products: tuple[int, ...], *, middle: bool = False) -> tuple[_Group, ...]:
    """What the shipped network sees, if blocks after `last` were not computed."""
    groups = (tuple(range(_ALL[0], last + 1)), ("means", "squares")), (products, ("principal",))
    again = tuple((blocks, tuple(MIDDLE + part for part in parts)) for blocks, parts in groups)
    return groups + again if middle else groups


ROWS: dict[str, tuple[_Group, ...]] = {
    "tokens of blocks 5 to 8": (((5, 6, 7, 8), ("means",)),),
    "tokens of blocks 5 to 8 and their squares": (((5, 6, 7, 8), ("means", "squares")),),
    "tokens of blocks 3 to 9": ((_ALL, ("means",)),),
    "tokens of blocks 3 to 9 and their squares": (_MOMENTS,),
    "these and products along principal axes": (_MOMENTS, (_ALL, ("principal",))),
    "these and products along principal axes, of blocks 3 to 5": (_MOMENTS, ((3, 4, 5), ("principal",))),
    "these and products along principal axes, of blocks 5 to 8": (_MOMENTS, ((5, 6, 7, 8), ("principal",))),
    "these and products along principal axes, of blocks 7 to 9": _seen(9, (7, 8, 9)),
    "these too, and all of it again of the middle": _seen(9, (7, 8, 9), middle=True),
    "these and products along random white directions": (_MOMENTS, (_ALL, ("drawn",))),
    "tokens and squares of blocks 3 to 8, products of 6 to 8": _seen(8, (6, 7, 8)),
    "the same, and again of the middle": _seen(8, (6, 7, 8), middle=True),
    "tokens and squares of blocks 3 to 7, products of 6 and 7": _seen(7, (6, 7)),
    "this too, and again of the middle": _seen(7, (6, 7), middle=True),
    "tokens and squares of blocks 3 to 6, products of 6": _seen(6, (6,)),
    "tokens and squares of blocks 3 to 5, products of 5": _seen(5, (5,)),
    "products along principal axes alone": ((_ALL, ("principal",)),),
    "products along random white directions alone": ((_ALL, ("drawn",)),),
}


def main() -> int:
    """Measure, print and, if asked, write."""
    parser = arguments("ablations", __doc__.split("\n")[0])
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    log = Log(options.cache)
    try:
        frame = drawn_at_random(options)
        detector = Detector.load()
        loader = loader_of(detector, frame, options.cache, log)
        values = features(detector, frame, loader, options.cache, log)
    except (CheckpointError, ConfigError) as error:
        print(f"benchmarks.ablations: {error}", file=sys.stderr)
        return 2
    folds = data.folds(options.folds, frame)
    options_of = detector.checkpoint.header["options"]
    taps = options_of["taps"]
    shipped = _seen(taps[-1], tuple(options_of["products"]), middle=bool(options_of.get("middle")))
    rows = []
    for title, groups in ROWS.items():
        log.line(title)
        chosen = np.concatenate([_columns(values, taps, blocks, parts) for blocks, parts in groups], axis=1)
        found = measure(frame, folds, chosen, penalty_of(detector), log)
        rows.append([title + (" (shipped)" if groups == shipped else ""), *(f"{figure:.3f}" for figure in found)])
    text = "\n\n".join((_text(frame, penalty_of(detector)), table(("What the layer sees", *FIGURES), rows)))
    publish(text, PAGE, "ablations", write=options.write)
    return 0


def arguments(name: str, description: str) -> argparse.ArgumentParser:
    """What every table by leave-one-out is told: which pictures, which folds, and how it is fitted."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled pictures")
    parser.add_argument("--manifest", type=Path, help="CSV of the pictures; the folder's name with .csv if not given")
    parser.add_argument("--folds", type=Path, required=True, help="CSV of the leave-one-out folds")
    parser.add_argument("--cache", type=Path, default=Path("runs", name), help=f"default runs/{name}")
    parser.add_argument("--pictures", type=int, default=5120, help="so many, drawn at random (default 5120)")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write the section of docs/training.md")
    return parser


def drawn_at_random(options: argparse.Namespace) -> pd.DataFrame:
    """The pictures that the arguments name, as `model.training.data.load` reads them."""
    manifest = options.manifest or options.data.with_suffix(".csv")
    frame = data.load(DataConfig(root=options.data, manifest=manifest, validation_share=0.1), 0)
    drawn = np.random.default_rng(options.seed).permutation(len(frame))[: options.pictures]
    return frame.iloc[drawn].reset_index(drop=True)


def _text(frame: pd.DataFrame, penalty: float) -> str:
    return (
        f"**What the linear layer could see of CLIP**, again. {machine()} Written by `python -m benchmarks.ablations "
        f"--data FOLDER --folds TABLE --write` on {len(frame):,} pictures drawn at random, clean views, penalty "
        f"{penalty:g}; all rows have the same pictures."
    )


def loader_of(detector: Detector, frame: pd.DataFrame, cache: Path, log: Log) -> CropLoader:
    """Crops of the pictures as the detector frames and normalises them; the faces are kept in `cache`."""
    header, framing = detector.checkpoint.header, detector.checkpoint.framing
    boxes = data.crop_boxes(frame, framing, cache / "faces.json", log)
    return CropLoader(frame, boxes, framing, header["mean"], header["std"], 0)


def penalty_of(detector: Detector) -> float:
    """What the linear head was fitted with."""
    return float(detector.checkpoint.header["training"]["config"]["method"]["penalty"])


def features(detector: Detector, frame: pd.DataFrame, loader: CropLoader, cache: Path, log: Log) -> np.ndarray:
    """All parts of all blocks of every picture: (N, blocks, columns), float16."""
    extractor = detector.network.extractor
    assert isinstance(extractor, ViTCells)
    key = digest(detector.checkpoint.sha256, PARTS, *loader.pictures)[:16]
    batches = [
        [(row, "clean") for row in range(first, min(first + BATCH, len(frame)))]
        for first in range(0, len(frame), BATCH)
    ]
    with torch.inference_mode(), autocast(torch.device("cpu")), ThreadPoolExecutor(1) as pool:
        directions = _directions(extractor, loader, len(frame))
        parts = []
        for first in log.track(range(0, len(frame), _CHUNK), "features"):
            path = cache / f"{key}-{first:05d}.npy"
            if not path.exists():
                loaded = pool.map(loader.batch, batches[first // BATCH : (first + _CHUNK) // BATCH])
                found = torch.cat([_parts(extractor, images, directions) for images in loaded])
                write_whole(path, partial(np.save, arr=found.numpy().astype(np.float16)))
            parts.append(np.load(path))
    return np.concatenate(parts)


def _directions(extractor: ViTCells, loader: CropLoader, count: int) -> Directions:
    """From the tokens of a few pictures: the first principal axes, and as many random directions."""
    rows = np.random.default_rng(0).choice(count, min(_AXES_FROM, count), replace=False)
    blocks = len(extractor.taps)
    sums, products = torch.zeros(blocks, WIDTH), torch.zeros(blocks, WIDTH, WIDTH)
    tokens = 0
    for first in range(0, len(rows), BATCH):
        images = loader.batch([(int(row), "clean") for row in rows[first : first + BATCH]])
        for block, found in enumerate(extractor.tokens(images)):
            flat = found.float().reshape(-1, WIDTH)
            sums[block] += flat.sum(0)
            with torch.autocast("cpu", enabled=False):
                products[block] += flat.T @ flat
        tokens += len(flat)
    means = sums / tokens
    generator = torch.Generator().manual_seed(0)
    principal, drawn = [], []
    for mean, product in zip(means, products / tokens, strict=True):
        variances, axes = torch.linalg.eigh((product - torch.outer(mean, mean)).double())
        random = torch.linalg.qr(torch.randn(WIDTH, DIRECTIONS, generator=generator, dtype=torch.float64))[0]
        floor = variances.mean() / 100
        principal.append((axes[:, -DIRECTIONS:] / variances[-DIRECTIONS:].sqrt()).float())
        drawn.append((axes @ ((axes.T @ random) / (variances + floor).sqrt()[:, None])).float())
    return Directions(principal, drawn, list(means))


def _parts(extractor: ViTCells, images: Tensor, directions: Directions) -> Tensor:
    """All parts of all blocks: (B, blocks, columns)."""
    upper = torch.triu_indices(DIRECTIONS, DIRECTIONS)
    blocks = []
    start = (extractor.grid - _SIDE) // 2
    for block, tokens in enumerate(extractor.tokens(images)):
        with torch.autocast("cpu", enabled=False):
            tokens = tokens.float()
            grid = tokens.unflatten(1, (extractor.grid, extractor.grid))
            inside = grid[:, start : start + _SIDE, start : start + _SIDE].flatten(1, 2)
            parts = []
            principal, drawn = directions.principal[block], directions.drawn[block]
            for own, sets in ((tokens, (principal, drawn)), (inside, (principal,))):
                parts += [own.mean(dim=1), (own * own).mean(dim=1)]
                for chosen in sets:
                    along = (own - directions.means[block]) @ chosen  # (B, T, 64)
                    parts.append((along.transpose(1, 2) @ along / along.shape[1])[:, upper[0], upper[1]])
        blocks.append(torch.cat(parts, dim=1))
    return torch.stack(blocks, dim=1)


def _columns(values: np.ndarray, taps: Sequence[int], blocks: Sequence[int], parts: Sequence[str]) -> np.ndarray:
    """Some parts of some blocks: (N, columns), float32."""
    ends = dict(zip(PARTS, np.cumsum(list(PARTS.values())), strict=True))
    places = [taps.index(block) for block in blocks]
    chosen = [values[:, places, ends[part] - PARTS[part] : ends[part]].reshape(len(values), -1) for part in parts]
    return np.concatenate(chosen, axis=1).astype(np.float32)


def measure(
    frame: pd.DataFrame, folds: Sequence[data.Fold], values: np.ndarray, penalty: float, log: Log
) -> tuple[float, float, float, float]:
    """`figures` of the head that is fitted on some features (N, columns)."""
    return figures(frame, folds, refitting(frame, values, penalty), log)


def refitting(frame: pd.DataFrame, values: np.ndarray, penalty: float) -> Callable[[np.ndarray], np.ndarray]:
    """A function from a mask of the pictures that may be fitted on (N,) to the scores of all (N,)."""
    train = (frame["split"] == "train").to_numpy()
    labels = frame["label"].to_numpy()
    scaled = (values - values[train].mean(axis=0)) / (values[train].std(axis=0) + 1e-6)
    products = scaled @ scaled.T  # (N, N): all that the fits need
    return lambda allowed: dual_fit(products, frame, labels, np.flatnonzero(train & allowed), penalty)


def figures(
    frame: pd.DataFrame, folds: Sequence[data.Fold], refit: Callable[[np.ndarray], np.ndarray], log: Log
) -> tuple[float, float, float, float]:
    """Leave-one-out mean AUC, mean recall at 1 % false positives and worst AUC; AUC on `test` of a fit on all."""
    measured = [leave_one_out(frame, fold, refit(~fold.held_out), log) for fold in folds]
    aucs = [own["roc_auc"]["value"] for own in measured]  # type: ignore[index]
    recalls = [own["tpr_at_1_percent_fpr"]["value"] for own in measured]  # type: ignore[index]
    test = (frame["split"] == "test").to_numpy()
    labels = frame["label"].to_numpy()
    whole = roc_auc(labels[test], expit(refit(np.ones(len(frame), dtype=bool))[test]))
    assert whole.value is not None
    return float(np.mean(aucs)), float(np.mean(recalls)), float(np.min(aucs)), whole.value


def dual_fit(
    products: np.ndarray, frame: pd.DataFrame, labels: np.ndarray, rows: np.ndarray, penalty: float
) -> np.ndarray:
    """Scores (N,) of all pictures by the least squares of `model.training.linear`, fitted on some of them.

    Solved in the dual, where columns outnumber pictures: with K the products of pictures measured from the weighted
    mean, W their weights and y = -1 or +1, the weights of the pictures are W (K W + penalty)^-1 y.

    Parameters
    ----------
    products : ndarray of shape (N, N)
        Inner products of standardised features.
    """
    weights = data.balanced_weights(frame.iloc[rows])
    own = products[:, rows].astype(np.float64)
    to_mean = own @ weights  # (N,): of each picture with the weighted mean
    kernel = own - to_mean[:, None] - to_mean[rows][None] + weights @ to_mean[rows]
    root = np.sqrt(weights)
    inner = root[:, None] * kernel[rows] * root
    inner[np.diag_indices_from(inner)] += penalty
    solved = cho_solve(cho_factor(inner, overwrite_a=True), root * np.where(labels[rows] == 1, 1.0, -1.0))
    scores: np.ndarray = kernel @ (root * solved)
    return scores


if __name__ == "__main__":
    sys.exit(main())
