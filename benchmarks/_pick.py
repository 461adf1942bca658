"""Some of many pictures."""

from __future__ import annotations

from pathlib import Path

from model.sources import SourceSet, from_folder


def spread(folder: Path, count: int) -> SourceSet:
    """At most so many pictures of a folder, spread evenly over it; `SourceError` if it cannot be listed."""
    found = from_folder(folder)
    count = min(count, len(found))
    return SourceSet([found[index * len(found) // count] for index in range(count)], root=found.root)
