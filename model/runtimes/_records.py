"""What was found out on this machine, kept as JSON with the conditions under which it holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

_Found = TypeVar("_Found")


def kept(record: Path, conditions: Mapping[str, object], made: Callable[..., _Found]) -> _Found | None:
    """What a record holds, through `made`; None where there is none of these conditions, or it is damaged."""
    try:
        entry = json.loads(record.read_text("utf-8"))
        found = made(**entry.pop("found"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if entry == conditions else None


def keep(record: Path, conditions: Mapping[str, object], found: Mapping[str, Any]) -> None:
    """Write a record; where none can be written, the same is found out again each time."""
    with suppress(OSError):
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({**conditions, "found": found}, indent=2), "utf-8")
