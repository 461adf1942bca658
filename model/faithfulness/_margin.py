"""What a verdict hangs on: the parts of a ledger without which it would be another one.

A ledger's parts are sums, so that the score without one of them follows exactly, and nothing is judged again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from model.calibration import Calibration, Thresholds, verdict
from model.regions import REGIONS


@dataclass(frozen=True)
class Margin:
    """What taking single parts of the score away does to its verdict.

    Attributes
    ----------
    turning : mapping of str to str
        Regions without whose part of the score the verdict would be another one, and which one.
    background_decides : bool
        Whether the background is one of them, and no region on its side of the ledger holds more.
    """

    turning: Mapping[str, str]
    background_decides: bool


def margin(
    ledger: Mapping[str, float], logit: float, given: str, calibration: Calibration, thresholds: Thresholds
) -> Margin:
    """Take each region's part of a score away and name the verdict anew.

    Parameters
    ----------
    ledger : mapping of str to float
        Log-odds per region of `model.regions.REGIONS`; its bias, which is no part of the face, is passed over.
    logit : float
        The score, in log-odds before calibration.
    given : str
        The verdict on it.
    """
    without = {name: verdict(calibration.probability(logit - ledger[name]), thresholds) for name in REGIONS}
    turning = {name: other for name, other in without.items() if other != given}
    side = 1 if ledger["background"] > 0 else -1
    largest = max(side * ledger[name] for name in REGIONS) == side * ledger["background"]
    return Margin(turning, largest and "background" in turning)
