"""Input contract of the array functions, and the figures at one threshold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.metrics._rate import Rate, undefined, wilson

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class MetricsError(ValueError):
    """Labels, scores, a table or a wish that no figure can be computed from; the message says what is wrong."""


def checked(y: npt.ArrayLike, p: npt.ArrayLike) -> tuple[Ints, Floats]:
    """Labels and scores as arrays of shape (N,); MetricsError that quotes the offending value."""
    labels, scores = np.asarray(y), np.asarray(p, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise MetricsError(f"y and p must be of one shape (N,), but are {labels.shape} and {scores.shape}.")
    strange = [value for value in np.unique(labels).tolist() if value not in (0, 1)]
    if strange:
        raise MetricsError(f"Labels are 0 (real) or 1 (fake), but y holds {strange[:5]}.")
    missing = int(np.isnan(scores).sum())
    if missing:
        raise MetricsError(
            f"{missing} of {len(scores)} scores are NaN. Leave images without a score out and count them."
        )
    outside = scores[(scores < 0) | (scores > 1)]
    if outside.size:
        raise MetricsError(f"Scores are probabilities in [0, 1], but p holds {outside[0]!s}.")
    return labels.astype(np.int64), scores


def confusion_at(y: npt.ArrayLike, p: npt.ArrayLike, threshold: float) -> Ints:
    """Count outcomes at one threshold.

    Returns
    -------
    ndarray of shape (2, 2)
        [[tn, fp], [fn, tp]]; positive means flagged as fake, `p >= threshold`.

    Examples
    --------
    >>> confusion_at([0, 0, 1, 1], [0.1, 0.6, 0.6, 0.9], 0.6).tolist()
    [[1, 1], [0, 2]]
    """
    labels, scores = checked(y, p)
    flagged = scores >= threshold
    return np.bincount(labels * 2 + flagged, minlength=4).reshape(2, 2).astype(np.int64)


def rates_at(y: npt.ArrayLike, p: npt.ArrayLike, threshold: float) -> dict[str, Rate]:
    """Shares of images at one threshold, with Wilson intervals.

    Returns
    -------
    dict
        `accuracy`, `precision` (fake among the flagged), `recall` (flagged among the fake), `specificity` (not flagged
        among the real) and `fpr` (flagged among the real).

    See Also
    --------
    evaluate : adds F1 and balanced accuracy, which are not shares of images and are bootstrapped.

    Examples
    --------
    >>> rates = rates_at([0, 0, 1, 1], [0.1, 0.6, 0.6, 0.9], 0.5)
    >>> rates["accuracy"].value, rates["recall"].value, rates["fpr"].value
    (0.75, 1.0, 0.5)
    """
    return rates_of(confusion_at(y, p, threshold))


def rates_of(confusion: Ints) -> dict[str, Rate]:
    """Return the rates of `rates_at` from a confusion matrix [[tn, fp], [fn, tp]]."""
    (tn, fp), (fn, tp) = confusion.tolist()
    return {
        "accuracy": wilson(tn + tp, tn + fp + fn + tp),
        "precision": wilson(tp, tp + fp, reason="no image was flagged"),
        "recall": wilson(tp, tp + fn, reason="no fake images"),
        "specificity": wilson(tn, tn + fp, reason="no real images"),
        "fpr": wilson(fp, tn + fp, reason="no real images"),
    }


def missing_class(labels: Ints) -> Rate | None:
    """Return the undefined figure for data without one of the classes, None if both are there."""
    fakes = int(labels.sum())
    if len(labels) == 0:
        return undefined("no images")
    if fakes == 0:
        return undefined("no fake images")
    return undefined("no real images") if fakes == len(labels) else None
