"""Sections of a page that different commands write."""

from __future__ import annotations

import re
from pathlib import Path


def write_section(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- end of NAME -->`, or append it."""
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    section = f"<!-- {name} -->\n{text.strip()}\n<!-- end of {name} -->"
    pattern = re.compile(rf"<!-- {re.escape(name)} -->.*?<!-- end of {re.escape(name)} -->", re.DOTALL)
    found = pattern.search(before)
    after = pattern.sub(lambda _: section, before) if found else f"{before.rstrip()}\n\n{section}\n"
    page.write_text(after.lstrip(), encoding="utf-8")
