"""Break what the server stands on, one thing at a time, and write what came of it into docs/reliability.md.

    python -m benchmarks.faults --write

The faults are the tests in `tests/faults`; the first line of each docstring says what is broken and what has to hold.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from benchmarks._page import RELIABILITY, machine, publish, table

ROOT = Path(__file__).resolve().parent.parent
# Beside the faults of this folder: a server that is killed and started again, as a process of its own.
TESTS = (
    ROOT / "tests" / "faults",
    f"{ROOT / 'tests' / 'app' / 'test_store.py'}::test_a_killed_server_is_started_again_and_finishes_the_same_table",
)
_EXTRA = "The server is killed in the middle of runs and started again: they end with the tables of undisturbed ones."


class Collector:
    """A pytest plugin that notes what each fault is and how its cases ended."""

    def __init__(self) -> None:
        self.faults: dict[str, str] = {}  # name of the test -> fault
        self.outcomes: dict[str, Counter[str]] = {}
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note the faults, in order."""
        for item in items:
            name = getattr(item, "originalname", None) or item.name
            text = (getattr(getattr(item, "function", None), "__doc__", None) or _EXTRA).strip().splitlines()[0]
            self.faults[name] = text

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note an outcome."""
        if report.when == "call" or report.outcome != "passed":
            name = report.nodeid.rpartition("::")[2].partition("[")[0]
            self.outcomes.setdefault(name, Counter())[report.outcome] += 1
            self.seconds[name] += report.duration


def report(found: Collector) -> str:
    """The section of the page."""
    rows = []
    for name, fault in found.faults.items():
        counts = found.outcomes.get(name, Counter())
        held = f"{counts['passed']} of {counts.total() - counts['skipped']}" if counts["passed"] else "not run here"
        rows.append([fault, held if not counts["failed"] else f"**{held}**", f"{found.seconds[name]:.1f} s"])
    passed = sum(counts["passed"] for counts in found.outcomes.values())
    failed = sum(counts["failed"] for counts in found.outcomes.values())
    return "\n\n".join(
        (
            "## Faults\n\n`python -m benchmarks.faults --write` breaks what the server stands on and writes this "
            "table. *Held* counts the cases in which what the line promises was true.",
            machine(),
            table(("Fault, and what has to hold", "Held", "Took"), rows),
            f"{passed} cases held and {failed} did not.",
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the section of docs/reliability.md")
    options = parser.parse_args()
    found = Collector()
    code = int(pytest.main(["-q", "-p", "no:cacheprovider", *map(str, TESTS)], plugins=[found]))
    text = report(found)
    publish(text, RELIABILITY, "faults", write=options.write)
    return code


if __name__ == "__main__":
    sys.exit(main())
