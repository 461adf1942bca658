"""What every chart shares: colours with a meaning, and an empty figure in the page's looks."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from model.calibration import FAKE, INCONCLUSIVE, NOT_APPLICABLE, REAL

CONFIG = {"displayModeBar": False, "scrollZoom": False, "doubleClick": "reset"}


@dataclass(frozen=True)
class Palette:
    """Colours with a meaning, for one appearance."""

    fake: str
    real: str
    inconclusive: str
    neutral: str
    ink: str
    muted: str
    grid: str
    surface: str
    on_fill: str  # text on a bar or cell of a verdict's colour

    def of(self, verdict: str) -> str:
        """Colour of a verdict."""
        known = {FAKE: self.fake, REAL: self.real, INCONCLUSIVE: self.inconclusive, NOT_APPLICABLE: self.neutral}
        return known[verdict]


LIGHT = Palette("#d9730d", "#2a6bab", "#7860b0", "#87919b", "#17212b", "#55616d", "#e2e8ed", "#ffffff", "#ffffff")
DARK = Palette("#ee8f36", "#5fa3e6", "#a994dc", "#7f8b96", "#e8eef2", "#a5b2bd", "#2a3741", "#10171d", "#10171d")


def palette(appearance: str | None) -> Palette:
    """The palette of an appearance: `dark`, or anything else for light."""
    return DARK if appearance == "dark" else LIGHT


def blank(colours: Palette, *, height: int, left: int = 8, top: int = 8, bottom: int = 8) -> go.Figure:
    """A figure without content; `height` and margins in px."""
    figure = go.Figure()
    figure.update_layout(
        height=height,
        margin={"l": left, "r": 12, "t": top, "b": bottom},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": colours.ink, "size": 13},
        showlegend=False,
        hoverlabel={"bgcolor": colours.surface, "font": {"color": colours.ink}, "bordercolor": colours.grid},
        dragmode=False,
    )
    axis = {"gridcolor": colours.grid, "zerolinecolor": colours.grid, "linecolor": colours.grid, "fixedrange": True}
    figure.update_xaxes(**axis, tickfont={"color": colours.muted}, title_font={"color": colours.muted})
    figure.update_yaxes(**axis, tickfont={"color": colours.muted}, title_font={"color": colours.muted})
    return figure
