"""A check inside each source by itself: what differs by label there is no difference between sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

LEAK_WARNING, LEAK_SEVERE = 0.60, 0.80  # AUC of a single property that knows nothing of the picture
MAX_LISTED = 5
MIN_IMAGES = 15  # of each label that a check needs: of fewer, some property tells the labels apart by chance


@dataclass(frozen=True)
class Told:
    """One property that tells the label.

    Attributes
    ----------
    auc, low : float
        Of the label by this property, and the lower end of its interval.
    text : str
        What it is and how it differs, in words.
    """

    auc: float
    low: float
    text: str


def severity(told: list[Told]) -> str:
    """How bad the strongest of some properties is."""
    return "severe" if max(each.auc for each in told) >= LEAK_SEVERE else "warning"


def listed(inside: dict[str, Told]) -> str:
    """The first few sources with what tells the label in them, and how many more there are."""
    texts = [f"in {name} by {told.text}" for name, told in inside.items()]
    more = len(texts) - MAX_LISTED
    return "; ".join(texts[:MAX_LISTED]) + (f"; and in {more} more" if more > 0 else "")


def enough(frame: pd.DataFrame) -> bool:
    """Whether there are at least `MIN_IMAGES` of each label."""
    counts = frame["label"].value_counts()
    return len(counts) == 2 and bool(counts.min() >= MIN_IMAGES)


def inside_sources(frame: pd.DataFrame, check: Callable[[pd.DataFrame, int], list[Told]]) -> dict[str, Told]:
    """The strongest property by source, for sources in which one tells the label; the plainest source first.

    Parameters
    ----------
    frame : DataFrame
        With `label`, and `source` if it is known: images without one are no source, and a set of a single one has no
        inside.
    check : callable
        Takes the images of a source and how many sources are looked into, for which its intervals have to hold at once.
    """
    if "source" not in frame:
        return {}
    known = frame[frame["source"].fillna("").astype(str) != ""]
    if known["source"].nunique() < 2:
        return {}
    found: dict[str, Told] = {}
    sources = [(name, rows) for name, rows in known.groupby("source") if enough(rows)]
    for name, rows in sources:
        told = [each for each in check(rows, len(sources)) if each.low > LEAK_WARNING]
        if told:
            found[str(name)] = max(told, key=lambda each: each.auc)
    return dict(sorted(found.items(), key=lambda entry: -entry[1].auc))
