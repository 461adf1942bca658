"""Feature extraction: a linear head on the cells of a frozen network, and the same without each fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from model.backbones import LinearHeadNet
from model.tiers import TIERS
from model.training import calibrate
from model.training.axes import fit_axes
from model.training.config import LinearConfig, TrainConfig
from model.training.data import SPLITS, Fold, balanced_weights, importance, sample_by_source
from model.training.distil import distil
from model.training.features import CropLoader, mean_cells
from model.training.identity import digest, of_start
from model.training.leave_one_out import leave_one_out, means
from model.training.linear import LeastSquares
from model.training.progress import Log

UNSEEN_PER_SOURCE = 60  # held-out pictures that are delivered in every tier; all of them would take hours


@dataclass(frozen=True)
class FrozenFit:
    """What a fit measured.

    Attributes
    ----------
    val : dict of str to ndarray
        Logits of the val pictures by tier.
    leave_one_out : dict
        By fold, what `model.training.leave_one_out.leave_one_out` returns.
    means : dict
        Over folds, what `model.training.leave_one_out.means` returns; empty without folds.
    unseen : DataFrame or None
        What `model.training.calibrate.for_unseen` takes; None without folds.
    """

    val: dict[str, np.ndarray]
    leave_one_out: dict[str, dict[str, Any]]
    means: dict[str, dict[str, Any]]
    unseen: pd.DataFrame | None


def fit_frozen(
    config: TrainConfig,
    method: LinearConfig,
    network: LinearHeadNet,
    frame: pd.DataFrame,
    loader: CropLoader,
    folds: Sequence[Fold],
    cache: Path,
    log: Log,
) -> FrozenFit:
    """Fit the head on cached features, in place, and measure it without each of `folds`."""
    network.eval().requires_grad_(False)
    split, labels = frame["split"].to_numpy(), frame["label"].to_numpy()
    train, val, test = (np.flatnonzero(split == name) for name in SPLITS)
    held_out = np.logical_or.reduce([fold.held_out for fold in folds]) if folds else np.zeros(len(frame), dtype=bool)
    drawn = np.where((split == "train") & ~held_out, balanced_weights(frame), 0)
    learnt = None
    if config.distil is not None:
        learnt = distil(config.distil, network, loader, np.flatnonzero(drawn), cache / "distil", log)
    key = digest(of_start(config), learnt, fit_axes(network, loader, drawn, log))

    def cells(rows: np.ndarray, view: str | int) -> np.ndarray:
        return mean_cells(network, loader, rows, view, cache / "features", log, key=key)

    views: list[str | int] = ["clean", *range(1, method.views + 1)]
    rows = np.tile(train, len(views))
    fits = LeastSquares(
        np.concatenate([cells(train, view) for view in views]),
        labels[rows],
        np.tile(importance(frame.iloc[train]), len(views)),
    )
    head = fits.fit(method.penalty)
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(head.weight).float()[None])
        network.head.bias.fill_(head.bias)
    on_val = {tier: cells(val, tier) for tier in TIERS}
    logits = {tier: head.logits(values) for tier, values in on_val.items()}
    aucs = {f"val_{tier}_auc": roc_auc_score(labels[val], values) for tier, values in logits.items()}
    log.record(fit="all sources", pictures=len(train), **aucs)
    if not folds:
        return FrozenFit(logits, {}, {}, None)

    clean = np.zeros((len(frame), network.head.in_features), np.float32)
    clean[train], clean[val] = cells(train, "clean"), on_val["clean"]
    if len(test):  # a plain folder has none
        clean[test] = cells(test, "clean")
    sample = sample_by_source(frame, held_out & (split == "train"), UNSEEN_PER_SOURCE, config.seed)
    delivered = {tier: clean[sample] if tier == "clean" else cells(sample, tier) for tier in TIERS}
    figures: dict[str, dict[str, Any]] = {}
    unseen, by_fold = [], []
    for fold in folds:
        without = fits.fit(method.penalty, without=fold.held_out[rows])
        by_fold.append(without.logits(clean))
        figures[fold.name] = leave_one_out(frame, fold, by_fold[-1], log)
        log.record(
            fit=f"without {fold.name}",
            pictures=int((~fold.held_out[train]).sum()),
            unseen_auc=figures[fold.name]["roc_auc"]["value"],
        )
        known = ~fold.held_out[val]
        mine = fold.held_out[sample]
        unseen.append(
            calibrate.held_out_scores(
                fold.name,
                frame.iloc[sample[mine]],
                {tier: without.logits(values[mine]) for tier, values in delivered.items()},
                {tier: (without.logits(values[known]), labels[val][known]) for tier, values in on_val.items()},
            )
        )
    return FrozenFit(logits, figures, means(frame, folds, by_fold), pd.concat(unseen, ignore_index=True))
