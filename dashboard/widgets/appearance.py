"""What depends on the visitor's theme."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard.charts import Palette, palette

ASSETS = Path(__file__).resolve().parent.parent / "assets"
ICON = ASSETS / "icon.png"


def theme() -> str:
    """`light` or `dark`, as the visitor sees the page."""
    return "dark" if st.context.theme.type == "dark" else "light"


def colours() -> Palette:
    """Chart colours for the visitor's theme."""
    return palette(theme())


def logo() -> Path:
    """The word mark that can be read on the visitor's background."""
    return ASSETS / f"logo-{theme()}.svg"
