"""Curves as tidy frames: the same rows serve the screen, a CSV export and a test."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri

from model.metrics._arrays import Floats, Ints, MetricsError, checked
from model.metrics._members import share
from model.metrics._statistics import BINS, bin_of, confidence


def cumulative(labels: Ints, scores: Floats) -> tuple[Floats, Ints, Ints]:
    """Distinct scores, descending, with the fakes and the reals at or above each; three arrays of shape (G,)."""
    unique, which = np.unique(scores, return_inverse=True)
    fake = np.bincount(which, labels, minlength=len(unique)).astype(np.int64)
    real = np.bincount(which, 1 - labels, minlength=len(unique)).astype(np.int64)
    return unique[::-1], fake[::-1].cumsum(), real[::-1].cumsum()


def roc_frame(y: npt.ArrayLike, p: npt.ArrayLike) -> pd.DataFrame:
    """Operating points of every threshold.

    Returns
    -------
    DataFrame
        Columns `threshold` (descending, the first is infinite and flags nothing), `fpr`, `tpr`; no rows unless both
        classes are there.

    Examples
    --------
    >>> roc_frame([0, 1], [0.2, 0.7]).values.tolist()
    [[inf, 0.0, 0.0], [0.7, 0.0, 1.0], [0.2, 1.0, 1.0]]
    """
    labels, scores = checked(y, p)
    thresholds, tp, fp = cumulative(labels, scores)
    if not len(labels) or not 0 < labels.sum() < len(labels):
        return pd.DataFrame({"threshold": [], "fpr": [], "tpr": []}, dtype=np.float64)
    return pd.DataFrame(
        {
            "threshold": np.concatenate([[np.inf], thresholds]),
            "fpr": np.concatenate([[0.0], fp / fp[-1]]),
            "tpr": np.concatenate([[0.0], tp / tp[-1]]),
        }
    )


def pr_frame(y: npt.ArrayLike, p: npt.ArrayLike) -> pd.DataFrame:
    """Precision and recall at every threshold.

    Returns
    -------
    DataFrame
        Columns `threshold` (descending, from the highest score), `precision`, `recall`; no rows without fake images.
    """
    labels, scores = checked(y, p)
    thresholds, tp, fp = cumulative(labels, scores)
    if not labels.sum():
        return pd.DataFrame({"threshold": [], "precision": [], "recall": []}, dtype=np.float64)
    return pd.DataFrame({"threshold": thresholds, "precision": tp / (tp + fp), "recall": tp / tp[-1]})


def det_frame(y: npt.ArrayLike, p: npt.ArrayLike) -> pd.DataFrame:
    """Detection error trade-off (Martin et al. 1997): both errors at every threshold, also as normal deviates.

    Returns
    -------
    DataFrame
        Columns `threshold` (descending, the first is infinite and flags nothing), `fpr`, `fnr`, `fpr_deviate` and
        `fnr_deviate` (where a standard normal has that share below; infinite at shares of 0 and 1, leave those rows out
        when drawing); no rows unless both classes are there.

    Examples
    --------
    >>> det_frame([0, 1], [0.7, 0.2])[["fpr", "fnr"]].values.tolist()
    [[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]]
    """
    frame = roc_frame(y, p)
    fpr, fnr = frame["fpr"], 1 - frame["tpr"]
    deviates = {"fpr_deviate": ndtri(fpr.to_numpy()), "fnr_deviate": ndtri(fnr.to_numpy())}
    return pd.DataFrame({"threshold": frame["threshold"], "fpr": fpr, "fnr": fnr} | deviates)


def reliability_frame(
    y: npt.ArrayLike, p: npt.ArrayLike, *, bins: int = BINS, clusters: Ints | None = None
) -> pd.DataFrame:
    """Claimed against observed share of fakes, in bins of equal mass.

    Parameters
    ----------
    clusters : ndarray of shape (N,), optional
        Code of the cluster of each image, from 0.

    Returns
    -------
    DataFrame
        One row per bin that is not empty: `bin`, `images`, `score_low`, `score_high`, `mean_score`, `fake_share` and
        its Wilson interval `low`, `high`, that of clusters where they are given (NaN in a bin of a single one). Images
        with equal scores are in one bin, so bins can differ in mass.
    """
    labels, scores = checked(y, p)
    columns = ["bin", "images", "score_low", "score_high", "mean_score", "fake_share", "low", "high"]
    if not len(labels):
        return pd.DataFrame(columns=columns)
    _, which, images = np.unique(scores, return_inverse=True, return_counts=True)
    middle = (images.cumsum() - images / 2) / len(scores)
    bin_index = bin_of(middle, bins)[which]
    rows = []
    for number in np.unique(bin_index):
        inside = bin_index == number
        observed = share(labels[inside] == 1, None if clusters is None else clusters[inside])
        own = scores[inside]
        mean = float(own.mean())
        rows.append((int(number), len(own), own.min(), own.max(), mean, observed.value, observed.low, observed.high))
    return pd.DataFrame(rows, columns=columns).astype({"low": np.float64, "high": np.float64})


def risk_coverage_frame(
    y: npt.ArrayLike, p: npt.ArrayLike, *, threshold: float = 0.5, unscored: int = 0
) -> pd.DataFrame:
    """Error rate when only the most certain images are decided.

    Parameters
    ----------
    unscored : int
        Images that got no score, which can never be decided: they count in the coverage.

    Returns
    -------
    DataFrame
        Columns `coverage` (ascending share of all images that is decided; ends at 1 if all have a score), `risk` (the
        error rate among them), `confidence` (the lowest certainty kept, in [0, 1]; see `aurc`).
    """
    labels, scores = checked(y, p)
    certainty = confidence(scores, threshold)
    wrong = (scores >= threshold) != (labels == 1)
    level, which, images = np.unique(-certainty, return_inverse=True, return_counts=True)
    kept = images.cumsum()
    errors = np.bincount(which, wrong, minlength=len(level)).cumsum()
    everything = max(len(labels) + unscored, 1)
    return pd.DataFrame({"coverage": kept / everything, "risk": errors / kept, "confidence": -level})


def thin_along(frame: pd.DataFrame, x: str, y: str, points: int = 300) -> pd.DataFrame:
    """Return at most `points` rows, evenly spaced along the drawn curve, with the first and the last; for drawing only.

    Unlike `thin` it spends its points where the curve moves, so that steep ends of 100,000 rows keep their shape. Rows
    with an infinite coordinate are left out.

    Examples
    --------
    >>> frame = pd.DataFrame({"x": [0, 0, 0, 0, 1], "y": [0, 0.1, 0.2, 1, 1]})
    >>> thin_along(frame, "x", "y", 3)["y"].tolist()
    [0.0, 1.0, 1.0]
    """
    if points < 2:
        raise MetricsError(f"At least 2 points are needed to draw a curve, not {points}.")
    places = frame[[x, y]].to_numpy(dtype=np.float64)
    frame = frame[np.isfinite(places).all(axis=1)].reset_index(drop=True)
    if len(frame) <= points:
        return frame
    places = frame[[x, y]].to_numpy(dtype=np.float64)
    extent = np.ptp(places, axis=0)
    way = (np.abs(np.diff(places, axis=0)) / np.where(extent > 0, extent, 1)).sum(axis=1).cumsum()
    kept = np.searchsorted(way, np.linspace(0, way[-1], points)[1:-1]) + 1
    return frame.iloc[np.unique(np.concatenate([[0], kept, [len(frame) - 1]]))].reset_index(drop=True)


def thin(frame: pd.DataFrame, points: int = 500) -> pd.DataFrame:
    """Return at most `points` evenly spaced rows with the first and the last; for drawing only."""
    if points < 2:
        raise MetricsError(f"At least 2 points are needed to draw a curve, not {points}.")
    if len(frame) <= points:
        return frame
    return frame.iloc[np.linspace(0, len(frame) - 1, points).round().astype(int)].reset_index(drop=True)
