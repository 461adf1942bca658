"""A figure with its interval, and the interval of a share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Z95 = 1.959963984540054  # 97.5 % point of the standard normal distribution
WILSON = "Wilson score"
MOVER = "recovered from the groups' intervals (MOVER)"
BOOTSTRAP = "stratified bootstrap, percentile"


@dataclass(frozen=True)
class Rate:
    """One figure with a 95 % interval.

    Attributes
    ----------
    value, low, high : float or None
        None where not defined; the value can be defined without an interval.
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
    spread = Z95**2 / trials
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Rate(share, low, high, WILSON)
