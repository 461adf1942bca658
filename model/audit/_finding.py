"""One fault of a labelled set, and how it is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

SEVERITIES = ("info", "warning", "severe")
MAX_NAMED = 50  # images listed with a finding
_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One fault of a labelled set.

    Attributes
    ----------
    code : str
        Stable identifier, e.g. `RC002`.
    title : str
        The fault in a few words.
    severity : str
        `info` (keep in mind), `warning` (figures may be off) or `severe` (figures do not mean what they say).
    detail : str
        What was found and what it means, with numbers.
    advice : str
        What to do about it.
    images : tuple of str
        Names of images it concerns, the plainest first, at most `MAX_NAMED`; empty if it concerns the set as a whole.
    """

    code: str
    title: str
    severity: str
    detail: str
    advice: str
    images: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Keep each image once, and not too many."""
        object.__setattr__(self, "images", tuple(dict.fromkeys(map(str, self.images)))[:MAX_NAMED])

    def to_dict(self) -> dict[str, Any]:
        """The finding ready for JSON."""
        return asdict(self) | {"images": list(self.images)}


def named(names: Iterable[object]) -> str:
    """The first few names, and how many more there are."""
    listed = [str(name) for name in names]
    more = len(listed) - _SHOWN
    return ", ".join(listed[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
