"""Leave-one-out for gradient training: one network per fold, each in a resumable folder of its own."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from model.backbones import LinearHeadNet
from model.files import write_whole
from model.tiers import TIERS
from model.training import calibrate
from model.training.config import ConfigError, FinetuneConfig, TrainConfig
from model.training.data import Fold
from model.training.features import CropLoader
from model.training.finetune import fit_network, predict, run_key
from model.training.leave_one_out import leave_one_out, means, rows_tested
from model.training.progress import Log

ALL = "all"
FIGURES = ("roc_auc", "tpr_at_1_percent_fpr")


def choose(folds: Sequence[Fold], names: Sequence[str]) -> list[Fold]:
    """The folds of these names; all for `all`.

    Raises
    ------
    ConfigError
        If a name is unknown, or cannot be that of a folder.
    """
    if strange := [fold.name for fold in folds if Path(fold.name).name != fold.name]:
        raise ConfigError(f"a fold's name becomes that of a folder, which {strange[0]!r} cannot be")
    unknown = sorted(set(names) - {fold.name for fold in folds} - {ALL})
    if unknown:
        known = ", ".join(fold.name for fold in folds) or "none"
        raise ConfigError(f"there is no fold {unknown[0]!r}; there are {known}, and {ALL}")
    return [fold for fold in folds if fold.name in names or ALL in names]


def train_folds(
    config: TrainConfig,
    method: FinetuneConfig,
    frame: pd.DataFrame,
    loader: CropLoader,
    folds: Sequence[Fold],
    chosen: Sequence[Fold],
    start: Callable[[], LinearHeadNet],
    out: Path,
    log: Log,
) -> dict[str, dict[str, Any]]:
    """Train without each chosen fold's sources and measure on them.

    A fold's folder `<out>/folds/NAME` holds its state, log and curves, `figures.json`, `scores.csv`: what
    `model.training.calibrate.for_unseen` takes, its held-out pictures in every tier, calibrated on its own val; and
    `logits.npy`: those of what it was tested on, by row of the table, nan elsewhere.

    Parameters
    ----------
    folds : sequence of Fold
        All of the table; those that an earlier run finished count too.
    chosen : sequence of Fold
        Those to train now.
    start : callable
        Makes the network that training starts from.

    Returns
    -------
    dict of str to dict
        Figures of every finished fold, as `leave_one_out` returns them, by its name.
    """
    figures: dict[str, dict[str, Any]] = {}
    for fold in folds:
        folder = out / "folds" / fold.name
        kept = frame.assign(split=frame["split"].where(~fold.held_out, "held_out"))
        known = _finished(folder, run_key(config, kept))
        if known is None and fold in chosen:
            known = _train_fold(config, method, frame, kept, loader, fold, start, folder, log)
        if known is not None:
            figures[fold.name] = known
    return figures


def _finished(folder: Path, key: str) -> dict[str, Any] | None:
    path = folder / "figures.json"
    entry = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return entry["figures"] if entry.get("key") == key else None


def _train_fold(
    config: TrainConfig,
    method: FinetuneConfig,
    frame: pd.DataFrame,
    kept: pd.DataFrame,
    loader: CropLoader,
    fold: Fold,
    start: Callable[[], LinearHeadNet],
    folder: Path,
    log: Log,
) -> dict[str, Any]:
    labels = frame["label"].to_numpy()
    val = np.flatnonzero(kept["split"] == "val")
    folder.mkdir(parents=True, exist_ok=True)
    log.line(f"fold {fold.name}: {int(fold.held_out.sum())} pictures left out")
    own = Log(folder, quiet=log.quiet)
    torch.manual_seed(config.seed)  # a fold does not depend on those before it
    network = fit_network(config, method, start(), kept, loader, folder, own)
    held_out = np.flatnonzero(fold.held_out)
    on_val = {tier: (predict(network, loader, val, tier, own), labels[val]) for tier in TIERS}
    on_held_out = {tier: predict(network, loader, held_out, tier, own) for tier in TIERS}

    logits = np.full(len(frame), np.nan)
    logits[held_out] = on_held_out["clean"]
    others = np.flatnonzero(rows_tested(frame, fold) & ~fold.held_out)
    if len(others):
        logits[others] = predict(network, loader, others, "clean", own)
    figures = leave_one_out(frame, fold, logits, log)
    calibrate.held_out_scores(fold.name, frame.iloc[held_out], on_held_out, on_val).to_csv(
        folder / "scores.csv", index=False
    )
    write_whole(folder / "logits.npy", partial(np.save, arr=logits))
    done = json.dumps({"key": run_key(config, kept), "figures": figures}, indent=2)
    write_whole(folder / "figures.json", lambda partial: partial.write_text(done, "utf-8"))
    return figures


def fold_means(frame: pd.DataFrame, folds: Sequence[Fold], figures: Collection[str], out: Path) -> dict[str, Any]:
    """What `model.training.leave_one_out.means` returns of finished folds, by their `logits.npy`."""
    finished = [fold for fold in folds if fold.name in figures]
    return means(frame, finished, [np.load(out / "folds" / fold.name / "logits.npy") for fold in finished])


def unseen_scores(figures: Collection[str], out: Path) -> pd.DataFrame:
    """The `scores.csv` of finished folds together: what `model.training.calibrate.for_unseen` takes."""
    tables = [pd.read_csv(out / "folds" / name / "scores.csv", keep_default_na=False) for name in figures]
    return pd.concat(tables, ignore_index=True)


def write_table(figures: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Leave-one-out figures as CSV: one row per fold, each figure with the ends of its interval."""
    columns = ["fold", *(f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high")), "n_real", "n_fake"]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for fold, own in figures.items():
            values = [own[name][end] for name in FIGURES for end in ("value", "low", "high")]
            writer.writerow([fold, *values, own["n_real"], own["n_fake"]])
