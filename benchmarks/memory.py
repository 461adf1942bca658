"""`python -m benchmarks.memory`: whether the memory of a bulk run stays flat however long its list is.

The bundled pictures are judged again and again under new names into one table, by the shipped code and a bundled
network. The resident memory of the process is read every hundred pictures; what counts is its median over the last
tenth of the run against that around an early mark, when everything has been loaded. Exit code 1 if it grew by more than
a tenth.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._page import machine, table, write_section
from dashboard.settings import ROOT
from model import bulk
from model.detector import Detector
from model.sources import Source, from_folder

PAGE = ROOT / "docs" / "resume.md"
EVERY = 100  # pictures between two readings
MAX_GROWTH = 0.1


def resident() -> float:
    """Resident memory of this process in MB (10^6 bytes), by the kernel's own account; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS:"))


def repeated(count: int, folder: Path) -> list[Source]:
    """The pictures of a folder in turn, each time under another name."""
    found = [source for source in from_folder(folder) if isinstance(source, Source)]
    turns = ((index, found[index % len(found)]) for index in range(count))
    return [Source(f"{index:06d}-{source.name}", source.location) for index, source in turns]


def around(readings: list[tuple[int, float]], low: float, high: float) -> float:
    """Median of the readings in a range of pictures."""
    return statistics.median(mb for done, mb in readings if low <= done <= high)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Judge the pictures, and what memory they took."""
    detector = Detector.load(arguments.checkpoint, precision=arguments.precision)
    readings: list[tuple[int, float]] = []

    def read(done: int, _: int) -> None:
        if done % arguments.every == 0:
            readings.append((done, resident()))

    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="reality-check-") as folder:
        sources = repeated(arguments.images, arguments.data)
        summary = bulk.run(detector, sources, Path(folder) / "out.parquet", progress=read)
    early = around(readings, 0.9 * arguments.early, 1.1 * arguments.early)
    late = around(readings, 0.9 * arguments.images, arguments.images)
    return {
        "checkpoint": detector.checkpoint.name,
        "runtime": detector.runtime,
        "pictures": summary.images,
        "early": arguments.early,
        "early_mb": round(early, 1),
        "late_mb": round(late, 1),
        "most_mb": round(max(mb for _, mb in readings), 1),
        "growth": round(late / early - 1, 4),
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--images", type=int, default=20_000, help="pictures in all")
    parser.add_argument("--early", type=int, default=2000, help="the mark that the end is held against")
    parser.add_argument("--every", type=int, default=EVERY, help="pictures between two readings")
    parser.add_argument("--checkpoint", default="resnet50", help="name or path")
    parser.add_argument("--precision", default="fp32", help="fp32 (default) or bf16")
    parser.add_argument("--data", type=Path, default=ROOT / "sample_images", help="folder of pictures to repeat")
    parser.add_argument("--write", action="store_true", help="write the section of docs/resume.md")
    arguments = parser.parse_args()
    if not arguments.every <= arguments.early < 0.8 * arguments.images:
        parser.error("--early must lie between --every and eight tenths of --images")
    facts = measure(arguments)
    print(json.dumps(facts, indent=2))
    if arguments.write:
        write_section(PAGE, "memory", page_section(facts))
    return 0 if facts["growth"] <= MAX_GROWTH else 1


def page_section(facts: dict[str, Any]) -> str:
    """What was measured, for the page."""
    rows = [
        (f"After {facts['early']:,} pictures", f"{facts['early_mb']:,.0f} MB"),
        (f"After {facts['pictures']:,} pictures", f"{facts['late_mb']:,.0f} MB ({facts['growth']:+.1%})"),
        ("Most", f"{facts['most_mb']:,.0f} MB"),
    ]
    about = (
        f"`python -m benchmarks.memory --write` with `{facts['checkpoint']}`, {facts['runtime']}, the bundled pictures "
        f"repeated, {facts['pictures'] / facts['seconds']:.1f} a second"
    )
    return "\n\n".join(("## Memory of a long run", f"{machine()} Written by {about}.", table(("", "Resident"), rows)))


if __name__ == "__main__":
    sys.exit(main())
