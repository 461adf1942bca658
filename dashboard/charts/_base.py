"""What every chart shares: colours with a meaning, and an empty figure in the page's looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from dashboard import contrast
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

    def of(self, verdict: str) -> str:
        """Colour of a verdict."""
        known = {FAKE: self.fake, REAL: self.real, INCONCLUSIVE: self.inconclusive, NOT_APPLICABLE: self.neutral}
        return known[verdict]


LIGHT = Palette("#d9730d", "#2a6bab", "#7860b0", "#87919b", "#17212b", "#55616d", "#e2e8ed", "#ffffff")
DARK = Palette("#ee8f36", "#5fa3e6", "#a994dc", "#7f8b96", "#e8eef2", "#a5b2bd", "#2a3741", "#10171d")


def palette(appearance: str | None) -> Palette:
    """The palette of an appearance: `dark`, or anything else for light."""
    return DARK if appearance == "dark" else LIGHT


def between(start: str, end: str, share: float) -> str:
    """The colour a share in [0, 1] of the way from one to another, as a colour scale mixes them; all as '#rrggbb'."""
    pairs = zip(contrast.of_hex(start), contrast.of_hex(end), strict=True)
    return _hex(tuple(round(low + share * (high - low)) for low, high in pairs))


def ink_on(fill: str) -> str:
    """Colour of text on an opaque fill; both as '#rrggbb'."""
    return _hex(contrast.ink_on(contrast.of_hex(fill)))


def _hex(colour: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


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
