"""Leave-one-out: how a recipe does on generators and real sources that it never saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from scipy.special import expit

from model.metrics import roc_auc, tpr_at_fpr
from model.training.data import Fold
from model.training.progress import Log


def leave_one_out(
    frame: pd.DataFrame, folds: Sequence[Fold], refit: Callable[[np.ndarray], np.ndarray], log: Log
) -> dict[str, dict[str, object]]:
    """Refit without each fold's sources and measure on them.

    A fold's test is all of its held-out pictures (whatever their split), joined on the real side by the FFHQ pictures
    of `test`.

    Parameters
    ----------
    refit : callable
        Takes a mask (N,) of rows that may be trained on (only those of split train are), returns logits (N,) of all.

    Returns
    -------
    dict of str to dict
        Per fold: `roc_auc`, `tpr_at_1_percent_fpr` (each value, low, high), `n_real`, `n_fake`.
    """
    labels = frame["label"].to_numpy()
    common = ((frame["split"] == "test") & (labels == 0) & frame["source"].map(is_ffhq)).to_numpy()
    out: dict[str, dict[str, object]] = {}
    for fold in folds:
        test = fold.held_out | common
        scores = expit(refit(~fold.held_out)[test])
        auc = roc_auc(labels[test], scores)
        tpr = tpr_at_fpr(labels[test], scores, target=0.01)
        out[fold.name] = {
            "roc_auc": asdict(auc),
            "tpr_at_1_percent_fpr": asdict(tpr),
            "n_real": int((labels[test] == 0).sum()),
            "n_fake": int((labels[test] == 1).sum()),
        }
        if auc.value is None or tpr.value is None:
            log.line(f"leave-one-out {fold.name}: {auc.reason}")
        else:
            log.line(f"leave-one-out {fold.name}: AUC {auc.value:.3f}, TPR at 1 % FPR {tpr.value:.2f}")
    return out


def is_ffhq(source: str) -> bool:
    """Whether a source of real pictures is a copy of FFHQ."""
    return source.startswith("k140_") or source in ("dinablachman", "roeishc")
