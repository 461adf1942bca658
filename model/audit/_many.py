"""Intervals for several comparisons at once: the more are made, the wider each must be to be wrong as seldom."""

from __future__ import annotations

from scipy.special import ndtri

LEVEL = 0.95  # of every interval here
_TAIL = (1 - LEVEL) / 2


def widened(value: float, end: float, comparisons: int) -> float:
    """One end of a 95 % interval moved away from its value, so that 95 % holds for all comparisons (Bonferroni).

    The distance grows as it would for a normal distribution: the quantiles themselves are farther out than resamples
    reach. Both ends count, so that the direction of a difference may be chosen after looking at it.

    Examples
    --------
    >>> widened(0.7, 0.6, 1), round(widened(0.7, 0.6, 66), 2)
    (0.6, 0.53)
    """
    return value + (end - value) * float(ndtri(_TAIL / comparisons) / ndtri(_TAIL))


def bounds(value: float, low: float, high: float, comparisons: int) -> tuple[float, float]:
    """Both ends of a share's 95 % interval for so many comparisons at once, in [0, 1]; see `widened`."""
    return max(0.0, widened(value, low, comparisons)), min(1.0, widened(value, high, comparisons))
