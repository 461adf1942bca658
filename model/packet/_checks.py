"""One item of a verification and what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

# What reading an account that somebody else wrote may raise.
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RecursionError)


class Outcome(StrEnum):
    """What came of a check."""

    AGREES = "agrees"
    DIFFERS = "differs"
    UNCHECKED = "not checked"  # counts against the packet
    NOTED = "noted"  # does not


@dataclass(frozen=True)
class Check:
    """One item of a verification.

    Attributes
    ----------
    item : str
        What was looked at.
    outcome : Outcome
    detail : str
        What was found.
    tolerance : str
        Within what it agrees; '' where it must be exactly so.
    """

    item: str
    outcome: Outcome
    detail: str
    tolerance: str = ""


def check(item: str, fault: str | None, fine: str, tolerance: str = "") -> Check:
    """Differs with the fault; agrees where there is none."""
    if fault is None:
        return Check(item, Outcome.AGREES, fine, tolerance)
    return Check(item, Outcome.DIFFERS, fault, tolerance)


def guarded(item: str, find: Callable[[], str | None], fine: str, tolerance: str = "") -> Check:
    """The same with a search for a fault that may stumble over what is malformed."""
    try:
        fault = find()
    except MALFORMED as error:
        fault = f"is not of the form that packets have ({reason(error)})"
    return check(item, fault, fine, tolerance)


def load(files: Mapping[str, bytes], name: str) -> Any:
    """The JSON of one file of a packet; `KeyError` if it is missing, `ValueError` if it is not JSON."""
    if name not in files:
        raise KeyError(f"{name} is missing")
    return json.loads(files[name])


def reason(error: Exception) -> str:
    """An error in one line."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return f"{type(error).__name__}: {ascii(text)[1:-1][:120]}"
