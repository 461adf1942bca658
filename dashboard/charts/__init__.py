"""Plotly figures from tidy frames: one look for every page, in light and dark.

Functions take numbers and a `Palette` and return a figure; none of them computes a metric or knows of Streamlit.
Backgrounds, fonts and grid lines come from the page's theme.
"""

from dashboard.charts._base import CONFIG, DARK, LIGHT, Palette, palette
from dashboard.charts._evaluation import (
    LINE_A,
    confusion,
    cost_by_threshold,
    cost_curve,
    detection_error,
    group_bars,
    precision_recall,
    reliability,
    risk_coverage,
    roc,
    score_histogram,
    two_curves,
)
from dashboard.charts._explain import delivery_strip, move_bars, region_heatmap
from dashboard.charts._verdicts import ledger_bars, ledger_frame, verdict_bar, verdict_scale

__all__ = [
    "CONFIG",
    "DARK",
    "LIGHT",
    "LINE_A",
    "Palette",
    "confusion",
    "cost_by_threshold",
    "cost_curve",
    "delivery_strip",
    "detection_error",
    "group_bars",
    "ledger_bars",
    "ledger_frame",
    "move_bars",
    "palette",
    "precision_recall",
    "region_heatmap",
    "reliability",
    "risk_coverage",
    "roc",
    "score_histogram",
    "two_curves",
    "verdict_bar",
    "verdict_scale",
]
