"""A figure with its interval, and the interval of a share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Z95 = 1.959963984540054  # 97.5 % point of the standard normal distribution
WILSON = "Wilson score"
CLUSTERED = "Wilson score with the design effect of clusters"
MOVER = "recovered from the groups' intervals (MOVER)"
RECOVERED = "recovered from the intervals of the rates in it (MOVER)"
BOOTSTRAP = "stratified bootstrap, percentile"


@dataclass(frozen=True)
class Rate:
    """One figure with a 95 % interval.

    Attributes
    ----------
    value, low, high : float or None
        None where not defined. The value can be defined without an interval, and an infinite ratio still has its `low`.
    method : str
        How the interval was made.
    reason : str
        Why something is None; '' otherwise.
    """

    value: float | None
    low: float | None
    high: float | None
    method: str
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return value, low, high, and the reason if there is one; ready for JSON."""
        entry: dict[str, Any] = {"value": self.value, "low": self.low, "high": self.high}
        return entry | ({"reason": self.reason} if self.reason else {})


def undefined(reason: str, method: str = BOOTSTRAP) -> Rate:
    """Return a figure that has no value on this data."""
    return Rate(None, None, None, method, reason)


def wilson(successes: int, trials: int, *, reason: str = "no images") -> Rate:
    """Share of successes with Wilson's score interval (Wilson 1927, without continuity correction).

    Examples
    --------
    >>> rate = wilson(0, 100)
    >>> rate.value, rate.low, round(rate.high, 4)
    (0.0, 0.0, 0.037)
    """
    if trials == 0:
        return undefined(reason, WILSON)
    share = successes / trials
    return Rate(share, *_score_limits(share, trials), WILSON)


def wilson_clustered(successes: npt.ArrayLike, trials: npt.ArrayLike, *, reason: str = "no images") -> Rate:
    """Share of successes among images that come in clusters, such as the frames of a film.

    Wilson's interval for as many independent images as would be equally informative: their number divided by the design
    effect, the variance of the share between clusters (linearised) over its binomial variance, at least 1 (Rao and
    Scott 1992). The effect is estimated with one more cluster of mean size on either side, as Agresti and Coull add
    successes and failures; else a share of 0 or 1 would have none.

    Parameters
    ----------
    successes, trials : array of shape (C,)
        By cluster; clusters without a trial do not count.

    Examples
    --------
    >>> single = wilson_clustered([1] * 30 + [0] * 70, [1] * 100)  # clusters of one image
    >>> round(single.low, 2), round(wilson(30, 100).low, 2)
    (0.22, 0.22)
    >>> round(wilson_clustered([9] * 30 + [0] * 70, [9] * 100).low, 2)  # the same, each image nine times
    0.22
    """
    hits, sizes = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    hits, sizes = hits[sizes > 0], sizes[sizes > 0]
    if not sizes.size:
        return undefined(reason, CLUSTERED)
    total, share = float(sizes.sum()), float(hits.sum() / sizes.sum())
    if len(sizes) == 1 and total > 1:
        return Rate(share, None, None, CLUSTERED, "no interval: the images are a single cluster")
    mean = sizes.mean()
    hits, sizes = np.append(hits, [0, mean]), np.append(sizes, [mean, mean])
    pooled = hits.sum() / sizes.sum()
    between = ((hits - pooled * sizes) ** 2).sum() * len(sizes) / (len(sizes) - 1)
    effect = max(1.0, float(between / (pooled * (1 - pooled) * sizes.sum())))
    return Rate(share, *_score_limits(share, total / effect), CLUSTERED)


def _score_limits(share: float, trials: float) -> tuple[float, float]:
    spread = Z95**2 / trials
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    low = 0.0 if share == 0 else max(0.0, centre - half)
    high = 1.0 if share == 1 else min(1.0, centre + half)
    return low, high


def complement(rate: Rate) -> Rate:
    """One minus a share."""
    value, low, high = (None if end is None else 1 - end for end in (rate.value, rate.high, rate.low))
    return replace(rate, value=value, low=low, high=high)


def mapped(rate: Rate, function: Callable[[float], float]) -> Rate:
    """The figure and its limits under an increasing function."""
    ends = (None if end is None else function(end) for end in (rate.value, rate.low, rate.high))
    value, low, high = ends
    return replace(rate, value=value, low=low, high=high)


def combined(terms: Sequence[tuple[float, Rate]]) -> Rate:
    """Weighted sum of independent figures, its interval recovered from theirs (MOVER, Zou and Donner 2008).

    Figures of weight 0 need not be defined.

    Examples
    --------
    >>> half = combined([(0.5, wilson(8, 10)), (0.5, wilson(6, 10))])
    >>> half.value, round(half.low, 3), round(half.high, 3)
    (0.7, 0.489, 0.836)
    """
    terms = [(weight, rate) for weight, rate in terms if weight]
    for _, rate in terms:
        if rate.value is None:
            return undefined(rate.reason, RECOVERED)
    value = sum(weight * (rate.value or 0.0) for weight, rate in terms)
    below = above = 0.0
    for weight, rate in terms:
        if rate.value is None or rate.low is None or rate.high is None:
            return Rate(value, None, None, RECOVERED, rate.reason)
        down, up = weight * (rate.value - rate.low), weight * (rate.high - rate.value)
        below, above = (below + down**2, above + up**2) if weight > 0 else (below + up**2, above + down**2)
    return Rate(value, value - math.sqrt(below), value + math.sqrt(above), RECOVERED)


def ratio(above: Rate, below: Rate) -> Rate:
    """Ratio of two independent figures that are not negative, its interval recovered from theirs (Donner and Zou 2012).

    A ratio over nothing is infinite: it has no value here, but a lower limit.

    Examples
    --------
    >>> risk = ratio(wilson(80, 100), wilson(10, 100))
    >>> round(risk.value, 6), round(risk.low, 1), round(risk.high, 1)
    (8.0, 4.5, 14.5)
    >>> ratio(wilson(80, 100), wilson(0, 100)).value is None
    True
    """
    for rate in (above, below):
        if rate.value is None:
            return undefined(rate.reason, RECOVERED)
    if above.value == 0 and below.value == 0:
        return undefined("both rates are 0", RECOVERED)
    value, low, high = ratio_limits(above, below)
    if low is None:
        reason = above.reason or below.reason
        return Rate(value if math.isfinite(value) else None, None, None, RECOVERED, reason)
    if math.isinf(value):
        return Rate(None, low, None, RECOVERED, "infinite: the rate below the line is 0; `low` is its lower limit")
    return Rate(value, low, high if high is not None and math.isfinite(high) else None, RECOVERED)


def ratio_limits(above: Rate, below: Rate) -> tuple[float, float | None, float | None]:
    """Value and limits of a ratio of defined figures that are not both 0; may be infinite."""
    assert above.value is not None and below.value is not None
    over, under = above.value, below.value
    value = over / under if under else math.inf
    if above.low is None or above.high is None or below.low is None or below.high is None:
        return value, None, None
    product = over * under
    # Written without the differences that cancel.
    numerator, denominator = above.low * (2 * over - above.low), below.high * (2 * under - below.high)
    divisor = product + math.sqrt(max(product**2 - numerator * denominator, 0))
    low = numerator / divisor if divisor else 0.0
    numerator, denominator = above.high * (2 * over - above.high), below.low * (2 * under - below.low)
    root = math.sqrt(max(product**2 - numerator * denominator, 0))
    return value, low, (product + root) / denominator if denominator else math.inf
