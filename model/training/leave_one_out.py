"""Leave-one-out: how a recipe does on generators and real sources that it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from model.metrics import means_over_sets, roc_auc, tpr_at_fpr
from model.training.data import Fold
from model.training.progress import Log


def rows_tested(frame: pd.DataFrame, fold: Fold) -> np.ndarray:
    """What a fold is tested on: all that it holds out, whatever its split, and photographs of `test`.

    These are the FFHQ photographs; in a table without any, all photographs of `test`.

    Returns
    -------
    ndarray of shape (N,), bool
    """
    photographs = (frame["split"] == "test") & (frame["label"] == 0)
    ffhq = photographs & frame["source"].map(is_ffhq).astype(bool)
    joined: np.ndarray = (ffhq if ffhq.any() else photographs).to_numpy()
    return fold.held_out | joined


def leave_one_out(frame: pd.DataFrame, fold: Fold, logits: np.ndarray, log: Log) -> dict[str, object]:
    """Figures of a network that was trained without a fold's sources, on the fold's `rows_tested`.

    Parameters
    ----------
    logits : ndarray of shape (N,)
        Only those of the tested pictures are looked at.

    Returns
    -------
    dict
        `roc_auc`, `tpr_at_1_percent_fpr` (each value, low, high), `n_real`, `n_fake`.
    """
    test = rows_tested(frame, fold)
    labels, scores = frame["label"].to_numpy()[test], expit(logits[test])
    auc, tpr = roc_auc(labels, scores), tpr_at_fpr(labels, scores, target=0.01)
    if auc.value is None or tpr.value is None:
        log.line(f"leave-one-out {fold.name}: {auc.reason}")
    else:
        log.line(f"leave-one-out {fold.name}: AUC {auc.value:.3f}, TPR at 1 % FPR {tpr.value:.2f}")
    return {
        "roc_auc": asdict(auc),
        "tpr_at_1_percent_fpr": asdict(tpr),
        "n_real": int((labels == 0).sum()),
        "n_fake": int((labels == 1).sum()),
    }


def means(frame: pd.DataFrame, folds: Sequence[Fold], logits: Sequence[np.ndarray]) -> dict[str, dict[str, Any]]:
    """Means over folds, with intervals that know of the photographs that folds share.

    Parameters
    ----------
    logits : sequence of ndarray of shape (N,)
        What `leave_one_out` is given, of each fold.

    Returns
    -------
    dict
        `roc_auc` and `tpr_at_1_percent_fpr`, each value, low and high; a reason where a fold has no figure.
    """
    tested = [rows_tested(frame, fold) for fold in folds]
    scores = np.array([np.where(rows, expit(own), np.nan) for rows, own in zip(tested, logits, strict=True)])
    found = means_over_sets(frame["label"].to_numpy(), scores, target=0.01)
    return {"roc_auc": asdict(found["roc_auc"]), "tpr_at_1_percent_fpr": asdict(found["tpr_at_fpr 0.01"])}


def is_ffhq(source: str) -> bool:
    """Whether a source of real pictures is a copy of FFHQ."""
    return source.startswith("k140_") or source in ("dinablachman", "roeishc")
