"""Mixed use for hours: whether memory stays where it is.

    python -m benchmarks.soak --minutes 120 --write

A few analysts work as in `benchmarks.load`. The server's memory is read every five
seconds; the figure that counts is how much more it takes in the last quarter than in the second one, when all caches
are warm.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks._page import RELIABILITY, machine, publish, table
from benchmarks.load import Log, answers, lost, problems, server, visit

QUARTERS = 4


def quarters(memory: list[tuple[float, float]]) -> list[tuple[float, float, float]]:
    """Least, median and most memory (MB) of each quarter of the time."""
    last = memory[-1][0]
    out = []
    for number in range(QUARTERS):
        inside = [mb for at, mb in memory if number * last / QUARTERS <= at <= (number + 1) * last / QUARTERS]
        out.append((min(inside), statistics.median(inside), max(inside)))
    return out


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--analysts", type=int, default=4)
    parser.add_argument("--think", type=float, default=3, help="seconds between two steps, on average")
    parser.add_argument("--write", action="store_true", help="write the section of docs/reliability.md")
    options = parser.parse_args()
    log = Log()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, server(Path(folder)) as served:
        asyncio.run(visit(served, options.analysts, options.minutes, options.think, log, browser=False))
        gone = lost(served.data, log.runs)
        parts = quarters(log.memory)
        growth = parts[-1][1] - parts[1][1]
        rows = [[f"{number + 1} of {QUARTERS}", *(f"{mb:,.0f} MB" for mb in part)] for number, part in enumerate(parts)]
        text = "\n\n".join(
            (
                "## Soak\n\n`python -m benchmarks.soak --minutes M --write` keeps a few analysts at work and watches "
                "the server's memory, helpers included.",
                f"{machine()} {options.analysts} analysts for {options.minutes:g} minutes.",
                table(("Quarter", "Least", "Median", "Most"), rows),
                f"From the second quarter to the last the median grew by {growth:,.0f} MB "
                f"({growth / parts[1][1]:.1%}).",
                answers(log),
                problems(log, gone, served),
            )
        )
    publish(text, RELIABILITY, "soak", write=options.write)
    return 1 if gone or log.problems else 0


if __name__ == "__main__":
    sys.exit(main())
