"""Pages of figures: what their sections are made of, and how a command puts its own in place."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

RELIABILITY = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"


def machine() -> str:
    """When and on what something was measured, in one sentence."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    return f"Measured on {day} on {cores} processor cores ({platform.machine()}, Python {platform.python_version()})."


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += [
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows
    ]
    return "\n".join(lines)


def publish(text: str, page: Path, name: str, *, write: bool) -> None:
    """Print what was measured and, if asked, make it the section `name` of a page."""
    print(text)
    if write:
        write_section(page, name, text)


def write_section(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- end of NAME -->`, or append it."""
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    section = f"<!-- {name} -->\n{text.strip()}\n<!-- end of {name} -->"
    pattern = re.compile(rf"<!-- {re.escape(name)} -->.*?<!-- end of {re.escape(name)} -->", re.DOTALL)
    found = pattern.search(before)
    after = pattern.sub(lambda _: section, before) if found else f"{before.rstrip()}\n\n{section}\n"
    page.write_text(after.lstrip(), encoding="utf-8")
