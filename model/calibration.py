"""From log-odds to a probability, and from a probability to a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass

FAKE = "fake"
REAL = "real"
INCONCLUSIVE = "inconclusive"
NOT_APPLICABLE = "not_applicable"
VERDICTS = (FAKE, REAL, INCONCLUSIVE, NOT_APPLICABLE)


@dataclass(frozen=True)
class Calibration:
    """Temperature and bias on the logit (Guo et al. 2017, "On Calibration of Modern Neural Networks").

    Attributes
    ----------
    temperature : float
        Positive; larger is less confident.
    bias : float
        Added to the scaled logit.
    """

    temperature: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0 and math.isfinite(self.bias)):
            raise ValueError(f"calibration needs a positive temperature and a finite bias, got {self}")

    def probability(self, logit: float) -> float:
        """Calibrated probability of `fake` in [0, 1]."""
        odds = logit / self.temperature + self.bias
        if odds >= 0:
            return 1.0 / (1.0 + math.exp(-odds))
        return math.exp(odds) / (1.0 + math.exp(odds))


@dataclass(frozen=True)
class Thresholds:
    """Where a probability becomes a verdict.

    Attributes
    ----------
    real, fake : float
        p_fake <= `real` is "real", p_fake >= `fake` is "fake", anything between is inconclusive.
    fpr : float or None
        Rate of real photographs called fake that `fake` was set for; None when unknown.
    custom : bool
        True when a user overrode the checkpoint's own thresholds; `fpr` is then None.
    """

    real: float
    fake: float
    fpr: float | None = None
    custom: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.real <= self.fake <= 1:
            raise ValueError(f"thresholds need 0 <= real <= fake <= 1, got real={self.real}, fake={self.fake}")


def verdict(p_fake: float, thresholds: Thresholds) -> str:
    """Name the verdict of a probability.

    >>> band = Thresholds(real=0.2, fake=0.8)
    >>> [verdict(p, band) for p in (0.1, 0.5, 0.8)]
    ['real', 'inconclusive', 'fake']
    """
    if p_fake >= thresholds.fake:
        return FAKE
    return REAL if p_fake <= thresholds.real else INCONCLUSIVE
