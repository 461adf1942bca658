"""`python -m benchmarks.cluster --data FOLDER`: a bulk run on Ray Data beside the local engine's.

The same pictures are judged by the local engine on one thread, which is what a worker has, and by Ray with one worker
and with as many as there are processor cores. Verdicts must be equal and numbers close; then the rates and the
arithmetic for large collections are printed, and with `--write` put into docs/scaling.md. Exit code 1 if the tables do
not agree.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks._page import machine, publish, table
from benchmarks._pick import spread
from dashboard.settings import ROOT
from model import bulk
from model.checkpoint import CheckpointError
from model.cluster import ClusterDetector, ClusterError
from model.detector import Detector
from model.sources import SourceError, SourceSet

PAGE = ROOT / "docs" / "scaling.md"
TOLERANCE = 1e-4  # of every number of a row; batches differ in size, and sums with them in their last bits
CORES = 32  # of the machines in the arithmetic
PRICE = 0.04  # dollars an hour for a core, about what large providers ask for a processor core on demand
SIZES = (10**6, 10**9)
DAY = 24 * 3600


@dataclass(frozen=True)
class Timed:
    """One way of making the table.

    Attributes
    ----------
    title : str
    workers : int
        Processor cores at work.
    seconds : float
        From the call to the finished table, start of the workers included.
    steady : float
        Pictures per second after the start (`steady`).
    """

    title: str
    workers: int
    seconds: float
    steady: float


def timed(title: str, workers: int, judge: bulk.Judge, sources: SourceSet, out: Path) -> Timed:
    """Make the table `out` and take the time."""
    marks: list[tuple[float, int]] = []
    begin = time.perf_counter()
    bulk.run(judge, list(sources.sources), out, progress=lambda done, _: marks.append((time.perf_counter(), done)))
    seconds = time.perf_counter() - begin
    return Timed(title, workers, seconds, steady(marks))


def steady(marks: Sequence[tuple[float, int]]) -> float:
    """Pictures per second after the start.

    Ray brings results by the task, a hundred at once. Between the first and the last of them the pictures of the first
    burst would count as done in no time. So the clock starts and stops at the end of a burst: before the longest pause
    of the first quarter of the results, and before that of the last quarter, when work in hand is alike.

    Parameters
    ----------
    marks : sequence of (seconds, pictures done)
        One per result, after one from before the first. NaN comes of fewer than eight results; a quarter should hold
        two bursts of every worker.
    """
    results = marks[1:]
    quarter = len(results) // 4
    if quarter < 2:
        return float("nan")
    (first, before), (last, after) = (_before_pause(part) for part in (results[:quarter], results[-quarter:]))
    return (after - before) / (last - first) if last > first else float("nan")


def _before_pause(marks: Sequence[tuple[float, int]]) -> tuple[float, int]:
    """The mark that the longest pause comes after."""
    return max(pairwise(marks), key=lambda pair: pair[1][0] - pair[0][0])[0]


def differences(left: Path, right: Path) -> tuple[int, float]:
    """Rows whose texts differ (verdicts are among them), and the largest difference of a number."""
    a, b = (pd.read_parquet(path).drop(columns="elapsed_ms") for path in (left, right))
    if len(a) != len(b) or list(a["path"]) != list(b["path"]):
        return max(len(a), len(b)), float("inf")
    numbers = [name for name in a if pd.api.types.is_numeric_dtype(a[name])]
    texts = [name for name in a if name not in numbers]
    unlike = (a[texts].astype(object).fillna("") != b[texts].astype(object).fillna("")).any(axis=1)
    both = a[numbers].to_numpy(float), b[numbers].to_numpy(float)
    undefined = np.isnan(both[0]) != np.isnan(both[1])
    gap = np.nan_to_num(np.abs(both[0] - both[1])).max(initial=0.0)
    return int((unlike.to_numpy() | undefined.any(axis=1)).sum()), float(gap)


def arithmetic(per_core: float) -> str:
    """Core hours, machines for a day and money for large collections, as a table."""
    rows = []
    for count in SIZES:
        hours = count / per_core / 3600
        machines = -(-hours * 3600 // (CORES * DAY))
        dollars = hours * PRICE
        rows.append([f"{count:,}", f"{hours:,.0f}", f"{machines:,.0f}", f"{dollars:,.{0 if dollars >= 10 else 2}f}"])
    titles = (
        "Pictures",
        "Core hours",
        f"Machines of {CORES} cores to be done in a day",
        f"Dollars at {PRICE} a core hour",
    )
    return table(titles, rows)


def main() -> int:
    """Measure, print and, if asked, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description="Ray beside the local engine.")
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--images", type=int, default=2000, help="at most so many of them (default 2000)")
    parser.add_argument("--checkpoint", default="resnet50", help="name or path (default resnet50)")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--workers", type=int, default=cores, help="default: one a core")
    parser.add_argument("--write", action="store_true", help="write the section of docs/scaling.md")
    options = parser.parse_args()
    try:
        picked = spread(options.data, options.images)
        detector = Detector.load(options.checkpoint)
        with tempfile.TemporaryDirectory(prefix="reality-check-") as folder:
            local = Path(folder) / "local.parquet"
            runs = [timed(f"local engine, {cores} cores", cores, detector, picked, local)]
            unlike, gap = 0, 0.0
            for workers in sorted({1, options.workers}):
                out = Path(folder) / f"ray-{workers}.parquet"
                judge = ClusterDetector(detector, workers=workers)
                runs.append(timed(f"Ray, {workers} worker{'s' * (workers > 1)}", workers, judge, picked, out))
                others, apart = differences(local, out)
                unlike, gap = unlike + others, max(gap, apart)
    except (CheckpointError, SourceError, ClusterError, bulk.BulkError) as error:
        print(f"benchmarks.cluster: {error}", file=sys.stderr)
        return 2
    base, count = runs[0].steady, len(picked)
    rows = [[run.title, f"{run.seconds:,.0f} s", f"{run.steady:.1f}", f"{run.steady / base:.0%}"] for run in runs]
    text = "\n\n".join(
        (
            "## Measured",
            f"{machine()} Written by `python -m benchmarks.cluster --images {count} --data FOLDER --write` with "
            f"`{detector.checkpoint.name}` in {detector.runtime}, from files to rows, face finding and maps included.",
            table(("Way", "All, with start", "Pictures/s after the start", "Of the local engine"), rows),
            f"{count:,} pictures: {unlike} rows with another verdict, reason or text than the local engine's, numbers "
            f"at most {gap:.1e} apart (allowed {TOLERANCE:g}).",
            f"From {runs[-1].steady / runs[-1].workers:.1f} pictures per second and core with "
            f"`{detector.checkpoint.name}`, as measured with {runs[-1].workers} workers:",
            arithmetic(runs[-1].steady / runs[-1].workers),
        )
    )
    publish(text, PAGE, "measured", write=options.write)
    return 0 if unlike == 0 and gap <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
