"""Two accounts held against each other, number by number, within stated tolerances."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

LOG_ODDS, SHARE, PIXELS = "log-odds", "share", "px"
# A rule for each arithmetic: far more than instruction sets and threads change (docs/evidence.md), far less than other
# pictures do, which is of the order of 1.
TOLERANCES: dict[str, dict[str, float]] = {
    "fp32": {LOG_ODDS: 1e-3, SHARE: 1e-3, PIXELS: 0.1},
    "bf16": {LOG_ODDS: 0.25, SHARE: 0.06, PIXELS: 0.1},
}
_UNITS = {
    **dict.fromkeys(("logit", "bias", "regions", "cells"), LOG_ODDS),
    **dict.fromkeys(("p_fake", "face_score", "area"), SHARE),
    **dict.fromkeys(("evidence", "flip", "reencoded"), SHARE),  # shares of the evidence, and correlations of two maps
    **dict.fromkeys(("x0", "y0", "x1", "y1", "landmarks", "crop_box"), PIXELS),
}


class Comparison:
    """Collects where two JSON accounts differ, and the largest deviation that was tolerated.

    Parameters
    ----------
    tolerances : dict of str to float
        Greatest deviation by unit. Numbers whose entry names no unit must be equal.
    """

    def __init__(self, tolerances: Mapping[str, float]) -> None:
        self.tolerances = tolerances
        self.problems: list[str] = []
        self.largest: dict[str, float] = {}

    def add(self, stored: Any, again: Any, where: str = "", unit: str | None = None) -> None:
        """Compare one value and all that is in it."""
        if isinstance(stored, dict) and isinstance(again, dict):
            for key in sorted({*stored, *again}):
                place = f"{where}.{key}" if where else key
                if key not in stored or key not in again:
                    self.problems.append(f"{place} is {'new' if key not in stored else 'not computed'} here")
                else:
                    self.add(stored[key], again[key], place, _unit(key, unit))
        elif isinstance(stored, list) and isinstance(again, list):
            if len(stored) != len(again):
                self.problems.append(f"{where} has {len(stored)} entries, {len(again)} here")
            for index, (left, right) in enumerate(zip(stored, again, strict=False), start=1):
                self.add(left, right, f"{where}[{index}]", unit)
        elif _is_number(stored) and _is_number(again) and unit is not None:
            self._number(float(stored), float(again), where, unit)
        elif stored != again or type(stored) is not type(again):
            self.problems.append(f"{where} is {_shown(stored)}, {_shown(again)} here")

    def _number(self, stored: float, again: float, where: str, unit: str) -> None:
        off = abs(stored - again)
        if not off <= self.tolerances[unit]:  # also when it is not a number
            self.problems.append(f"{where} is {stored:.6g}, {again:.6g} here")
        else:
            self.largest[unit] = max(off, self.largest.get(unit, 0.0))

    @property
    def deviation(self) -> str:
        """The largest tolerated deviations, in words."""
        off = [f"{value:.1g} {unit}" for unit, value in sorted(self.largest.items()) if value]
        return ", ".join(off) or "none"

    @property
    def tolerance(self) -> str:
        """The tolerances that were used, in words; '' where all is exact."""
        return ", ".join(f"{self.tolerances[unit]:g} {unit}" for unit in sorted(self.largest) if self.tolerances[unit])


def _unit(key: str, inherited: str | None) -> str | None:
    return LOG_ODDS if key.startswith("ledger_") else _UNITS.get(key, inherited)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
