"""Progress of a training run: lines on stderr, and a CSV of what was measured."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")


class Log:
    """Writes lines with the time since the start; `record` appends to `log.csv` in the run's folder."""

    def __init__(self, folder: Path, *, quiet: bool = False) -> None:
        self.folder = folder
        self.quiet = quiet
        self._start = time.monotonic()
        self._last = -1e9

    def line(self, text: str) -> None:
        """Print one line."""
        if not self.quiet:
            print(f"[{time.monotonic() - self._start:7.0f} s] {text}", file=sys.stderr, flush=True)

    def track(self, items: Iterable[_T], what: str, *, every: float = 20.0) -> Iterator[_T]:
        """Pass items on, saying how far it is every `every` seconds."""
        total = f"/{len(items)}" if isinstance(items, Sized) else ""
        for index, item in enumerate(items):
            if time.monotonic() - self._last > every:
                self.line(f"{what}: {index}{total}")
                self._last = time.monotonic()
            yield item

    def record(self, **values: float | int | str) -> None:
        """Append one row of measurements."""
        path = self.folder / "log.csv"
        fresh = not path.exists()
        with path.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(values))
            if fresh:
                writer.writeheader()
            writer.writerow(values)
