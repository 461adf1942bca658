"""The page of figures on reliability: each command writes its own section and leaves the others alone."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"
SECTIONS = ("fuzz", "faults", "load", "soak")
_FRAME = """# Reliability

What was done to break the application, and what came of it. Every section is written by the command it names; a figure
that is not here was not measured.

{sections}
"""
_NOT_RUN = "This has not been run yet."


def write_section(name: str, text: str, page: Path = PAGE) -> None:
    """Replace one section of the page; makes the page when there is none."""
    if name not in SECTIONS:
        raise ValueError(f"the sections are {', '.join(SECTIONS)}, not {name!r}")
    if not page.exists():
        empty = "\n\n".join(f"<!-- {entry} -->\n{_NOT_RUN}\n<!-- /{entry} -->" for entry in SECTIONS)
        page.write_text(_FRAME.format(sections=empty), "utf-8")
    written = page.read_text("utf-8")
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(written):
        raise ValueError(f"{page.name} has no section {name}")
    page.write_text(pattern.sub(lambda match: match[1] + text.strip() + match[2], written), "utf-8")


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += [
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows
    ]
    return "\n".join(lines)


def machine() -> str:
    """When and on what something was measured, in one sentence."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    return f"Measured on {day} on {cores} processor cores ({platform.machine()}, Python {platform.python_version()})."
