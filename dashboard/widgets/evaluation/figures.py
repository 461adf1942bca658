"""One figure on a card: its value, its interval, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard import words


def figure_text(entry: Mapping[str, Any], *, share: bool = True) -> tuple[str, str]:
    """A figure and its 95 % interval as text; the reason where it is not defined, the lower limit where it is infinite.

    >>> figure_text({"value": 0.9612, "low": 0.95, "high": 0.9701})
    ('96.1 %', '95.0 – 97.0 %')
    >>> figure_text({"value": 0.9612, "low": 0.95, "high": 0.9701}, share=False)
    ('0.961', '0.950 – 0.970')
    >>> figure_text({"value": None, "low": None, "high": None, "reason": "no real images"})
    ('undefined', 'no real images')
    >>> figure_text({"value": None, "low": 8.4531, "high": None}, share=False)
    ('infinite', 'at least 8.453')
    """
    scale, digits, unit = (100, 1, " %") if share else (1, 3, "")

    def show(value: float) -> str:
        return f"{value * scale:.{digits}f}".replace("-", "\N{MINUS SIGN}")

    low, high = entry.get("low"), entry.get("high")
    if entry.get("value") is None:
        if low is not None:
            return "infinite", f"at least {show(low)}{unit}"
        return "undefined", words.reason(entry)
    text = show(entry["value"]) + unit
    if low is None or high is None:
        return text, words.reason(entry, "no interval")
    return text, f"{show(low)} – {show(high)}{unit}"


def with_interval(entry: Mapping[str, Any], *, share: bool = True) -> str:
    """A figure as one text, for a table.

    >>> with_interval({"value": 0.9612, "low": 0.95, "high": 0.9701})
    '96.1 % (95.0 – 97.0 %)'
    """
    value, interval = figure_text(entry, share=share)
    return f"{value} ({interval})"


def card(label: str, entry: Mapping[str, Any], meaning: str, *, share: bool = True) -> None:
    """A figure with its interval; `meaning` is shown on request."""
    value, interval = figure_text(entry, share=share)
    st.metric(label, value, interval, delta_color="off", delta_arrow="off", help=meaning, border=True, height="stretch")
