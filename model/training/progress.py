"""Progress of a training run: lines on stderr, a table of what was measured, and curves of it."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")
Row = dict[str, float | int | str]


class Log:
    """Writes lines with the time since the start; `record` adds a row to `log.csv` in the run's folder.

    Attributes
    ----------
    rows : list of dict
        What was recorded, in order. A run that continues puts back the rows of its saved state, so that nothing stands
        twice.
    """

    def __init__(self, folder: Path, *, quiet: bool = False) -> None:
        self.folder = folder
        self.quiet = quiet
        self.rows: list[Row] = []
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
        """Add one row of measurements; rows may have different columns."""
        self.rows.append(values)
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with (self.folder / "log.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows(self.rows)


def draw_curves(rows: Sequence[Mapping[str, float | int | str]], folder: Path) -> None:
    """Draw the rows of a gradient run as `curves.svg` and `curves.png`.

    Three panels over the steps: the training loss, the ROC AUC on val per tier with the best evaluation marked, and the
    learning rate.

    Parameters
    ----------
    rows : sequence of dict
        With `step`, `loss`, `learning_rate`, `val_auc` and a column `val_TIER_auc` per tier.
    """
    from matplotlib import rc_context  # only training draws with it; importing it takes half a second
    from matplotlib.figure import Figure

    steps = [int(row["step"]) for row in rows]

    def column(name: str) -> list[float]:
        return [float(row[name]) for row in rows]

    figure = Figure(figsize=(7, 8), layout="constrained")
    loss, auc, rate = figure.subplots(3, sharex=True)
    loss.plot(steps, column("loss"), color="C0")
    loss.set_ylabel("training loss")
    for name in rows[0]:
        if name.startswith("val_") and name != "val_auc":
            auc.plot(steps, column(name), label=f"val, {name.removeprefix('val_').removesuffix('_auc')} tier")
    mean = column("val_auc")
    best = max(range(len(mean)), key=mean.__getitem__)
    auc.plot(steps, mean, color="0.2", linestyle="--", label="mean")
    auc.plot(steps[best], mean[best], color="0.2", marker="o", linestyle="", label=f"kept: {mean[best]:.4f}")
    auc.set_ylabel("ROC AUC")
    auc.legend(loc="lower right", frameon=False)
    rate.plot(steps, column("learning_rate"), color="C0")
    rate.set_ylabel("learning rate")
    rate.set_xlabel("step")
    for axes in (loss, auc, rate):
        axes.grid(visible=True, alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    with rc_context({"svg.hashsalt": "curves"}):  # the same rows give the same file
        figure.savefig(folder / "curves.svg", metadata={"Date": None})
    figure.savefig(folder / "curves.png", dpi=120)
