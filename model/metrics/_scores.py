"""Figures that are not shares of images, each with its bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.metrics._arrays import Floats, Ints, checked, missing_class
from model.metrics._curves import roc_frame
from model.metrics._rate import BOOTSTRAP, Rate, undefined
from model.metrics._statistics import BINS, COVERAGES, RESAMPLES, SEED, TARGETS, Draws, Statistics, allowed, resampled

_BOTH_CLASSES = ("roc_auc", "average_precision", "eer")


def all_scores(
    labels: Ints,
    scores: Floats,
    *,
    clusters: Ints | None = None,
    threshold: float = 0.5,
    bins: int = BINS,
    targets: Sequence[float] = TARGETS,
    coverages: Sequence[float] = COVERAGES,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Rate]:
    """Every bootstrapped figure from one set of resamples; arrays are already checked."""
    names = [*_BOTH_CLASSES, *(f"tpr_at_fpr {target:g}" for target in targets)]
    rates = dict.fromkeys(names, missing_class(labels) or undefined("no images"))
    if len(labels) == 0:
        others = ["brier", "ece", "aurc", *(f"accuracy_at_coverage {coverage:g}" for coverage in coverages)]
        return rates | dict.fromkeys(others, undefined("no images"))
    statistics = Statistics(labels, scores, threshold=threshold, bins=bins, targets=targets, coverages=coverages)
    values = statistics(np.ones((1, len(labels))))
    order = statistics.order
    draws = Draws(labels[order], None if clusters is None else clusters[order])
    if draws.smallest < 2:
        return rates | {name: single(float(v[0]), clusters is not None) for name, v in values.items()}
    parts = resampled(statistics, draws, resamples=resamples, seed=seed)
    return rates | {name: interval(float(value[0]), parts[name]) for name, value in values.items()}


def single(value: float, clustered: bool) -> Rate:
    """Return a figure of a set too small to be resampled."""
    few = "too few clusters" if clustered else "a single image"
    return Rate(value, None, None, BOOTSTRAP, f"no interval: a class has {few}")


def interval(value: float, draws: Floats) -> Rate:
    """Return a figure with the central 95 % of its resamples.

    The interval is widened to hold the figure itself: resampling biases some figures (a resampled calibration error is
    larger than the original's).
    """
    low, high = np.percentile(draws, [2.5, 97.5])
    return Rate(value, min(float(low), value), max(float(high), value), BOOTSTRAP)


def _single(name: str, y: npt.ArrayLike, p: npt.ArrayLike, resamples: int, seed: int, **options: object) -> Rate:
    labels, scores = checked(y, p)
    return all_scores(labels, scores, resamples=resamples, seed=seed, **options)[name]  # type: ignore[arg-type]


def roc_auc(y: npt.ArrayLike, p: npt.ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> Rate:
    """Area under the ROC curve: the chance that a fake scores above a real image, ties counting half.

    Examples
    --------
    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]).value
    0.75
    """
    return _single("roc_auc", y, p, resamples, seed)


def average_precision(y: npt.ArrayLike, p: npt.ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> Rate:
    """Precision at every threshold weighted by the recall gained there, without interpolation.

    It depends on the share of fakes in the set, which resampling keeps.
    """
    return _single("average_precision", y, p, resamples, seed)


def eer(y: npt.ArrayLike, p: npt.ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> Rate:
    """Equal error rate: FPR = FNR on the straight line between the two operating points around it.

    Examples
    --------
    >>> eer([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]).value
    0.5
    """
    return _single("eer", y, p, resamples, seed)


def tpr_at_fpr(
    y: npt.ArrayLike, p: npt.ArrayLike, *, target: float = 0.01, resamples: int = RESAMPLES, seed: int = SEED
) -> Rate:
    """Highest recall among the thresholds whose empirical false positive rate is at most `target`.

    Nothing is interpolated: with fewer than 1 / target real images, no false positive at all is allowed. Each resample
    chooses its own threshold.

    Examples
    --------
    >>> tpr_at_fpr([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], target=0.01).value
    0.5
    """
    return _single(f"tpr_at_fpr {target:g}", y, p, resamples, seed, targets=(target,))


def threshold_at_fpr(y: npt.ArrayLike, p: npt.ArrayLike, *, target: float = 0.01) -> float | None:
    """Return the lowest score of the set that as a threshold keeps the false positive rate at or below `target`.

    None if there are no real images, or no score does: then even the highest flags too many.
    """
    labels, scores = checked(y, p)
    real = np.sort(scores[labels == 0])
    if not real.size:
        return None
    candidates = np.unique(scores)
    false_positives = len(real) - np.searchsorted(real, candidates, side="left")
    kept = candidates[false_positives <= allowed(target, len(real))]
    return float(kept[0]) if kept.size else None


def threshold_at_eer(y: npt.ArrayLike, p: npt.ArrayLike) -> float | None:
    """Return the score of the set that as a threshold brings the two error rates closest together.

    The highest of equals; None unless both classes are there.

    Examples
    --------
    >>> threshold_at_eer([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.4
    """
    frame = roc_frame(y, p).iloc[1:]
    if frame.empty:
        return None
    gap = (frame["fpr"] - (1 - frame["tpr"])).abs().to_numpy()
    return float(frame["threshold"].iloc[int(gap.argmin())])


def ece(y: npt.ArrayLike, p: npt.ArrayLike, *, bins: int = BINS, resamples: int = RESAMPLES, seed: int = SEED) -> Rate:
    """Compute the expected calibration error: mean over bins of equal mass of |share of fakes - mean score|.

    Images with equal scores are in one bin. It is biased upwards on small sets, and so are its resamples.
    """
    return _single("ece", y, p, resamples, seed, bins=bins)


def brier(y: npt.ArrayLike, p: npt.ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> Rate:
    """Mean squared difference between score and label, in [0, 1]; 0.25 for always saying 0.5."""
    return _single("brier", y, p, resamples, seed)


def aurc(
    y: npt.ArrayLike, p: npt.ArrayLike, *, threshold: float = 0.5, resamples: int = RESAMPLES, seed: int = SEED
) -> Rate:
    """Area under the risk-coverage curve (Geifman and El-Yaniv 2017): mean error rate as the most certain are kept.

    Certainty is the distance of the score from the threshold, scaled to [0, 1] on either side; images of equal
    certainty are kept together.
    """
    return _single("aurc", y, p, resamples, seed, threshold=threshold)


def accuracy_at_coverage(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    *,
    coverage: float = 0.9,
    threshold: float = 0.5,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Rate:
    """Accuracy on the most certain images that make up at least the given share of the set, in (0, 1]."""
    name = f"accuracy_at_coverage {coverage:g}"
    return _single(name, y, p, resamples, seed, threshold=threshold, coverages=(coverage,))
