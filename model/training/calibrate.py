"""Temperature, bias and thresholds from logits of pictures that were not trained on."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from model.calibration import Calibration, Thresholds


def fit_calibration(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Calibration:
    """Temperature and bias that minimise weighted cross-entropy (Platt 1999; Guo et al. 2017).

    Parameters
    ----------
    logits, labels : ndarray of shape (N,)
        Of a mixture of clean and degraded copies; labels 0 real, 1 fake.
    weights : ndarray of shape (N,), optional
        Equal weight per label by default.
    """
    if weights is None:
        weights = np.where(labels == 1, 0.5 / max((labels == 1).sum(), 1), 0.5 / max((labels == 0).sum(), 1))
    sign = np.where(labels == 1, 1.0, -1.0)

    def loss(parameters: np.ndarray) -> float:
        scale, bias = np.exp(-parameters[0]), parameters[1]
        return float((weights * np.logaddexp(0, -sign * (logits * scale + bias))).sum())

    found = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-9, "maxiter": 2000})
    return Calibration(float(np.exp(found.x[0])), float(found.x[1]))


def fit_thresholds(scores: dict[str, tuple[np.ndarray, np.ndarray]], max_false_positive_rate: float) -> Thresholds:
    """Thresholds whose error rate stays within a limit in the worst of several conditions.

    `fake` is the smallest probability at which at most this share of real photographs is called fake, in every
    condition; `real` the largest at which at most this share of fakes is called real. The band between is inconclusive.

    Parameters
    ----------
    scores : dict of str to (p_fake, labels)
        Conditions, e.g. one per degradation tier.
    max_false_positive_rate : float
    """
    fake = max(_upper(p[y == 0], max_false_positive_rate) for p, y in scores.values())
    real = min(1 - _upper(1 - p[y == 1], max_false_positive_rate) for p, y in scores.values())
    middle = 0.5
    return Thresholds(real=float(min(real, fake, middle)), fake=float(max(fake, middle)), fpr=max_false_positive_rate)


def _upper(values: np.ndarray, rate: float) -> float:
    """Smallest threshold t with share(values >= t) <= rate."""
    ordered = np.sort(values)[::-1]
    allowed = int(np.floor(rate * len(ordered)))
    return float(np.nextafter(ordered[allowed], 1.0)) if allowed < len(ordered) else 0.0


def probabilities(logits: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Calibrated p_fake of an array of logits."""
    return expit(logits / calibration.temperature + calibration.bias)
