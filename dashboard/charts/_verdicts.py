"""Charts of one picture's verdict and evidence, and of the verdicts of many."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import words
from dashboard.charts._base import Palette, blank, ink_on
from model.calibration import Thresholds
from model.regions import LABELS
from model.typical import Band, Typical


def verdict_scale(p_fake: float, thresholds: Thresholds, verdict: str, colours: Palette) -> go.Figure:
    """Where a probability lies between the thresholds: three zones and a pointer."""
    figure = blank(colours, height=92, left=4, top=30, bottom=24)
    zones = (
        ("Real", 0.0, thresholds.real, colours.real),
        ("Inconclusive", thresholds.real, thresholds.fake, colours.inconclusive),
        ("AI-generated", thresholds.fake, 1.0, colours.fake),
    )
    for name, low, high, colour in zones:
        figure.add_shape(type="rect", x0=low, x1=high, y0=0, y1=1, fillcolor=colour, line={"width": 0}, layer="below")
        if high - low >= 0.2:
            middle = (low + high) / 2
            if abs(p_fake - middle) < 0.15:  # the pointer would cross the name
                middle = (low + middle) / 2 if p_fake > middle else (middle + high) / 2
            figure.add_annotation(
                x=middle, y=0.5, text=name, showarrow=False, font={"size": 12, "color": ink_on(colour)}
            )
    for limit in (thresholds.real, thresholds.fake):
        figure.add_shape(type="line", x0=limit, x1=limit, y0=0, y1=1, line={"color": colours.surface, "width": 2})
    figure.add_trace(
        go.Scatter(
            x=[p_fake],
            y=[1.38],
            mode="markers",
            cliponaxis=False,
            marker={"symbol": "triangle-down", "size": 17, "color": colours.of(verdict)},
            customdata=[words.probability(p_fake, thresholds)],
            hovertemplate="Probability of AI-generation: %{customdata}<extra></extra>",
        )
    )
    figure.add_shape(type="line", x0=p_fake, x1=p_fake, y0=-0.05, y1=1.3, line={"color": colours.ink, "width": 2})
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    figure.update_xaxes(
        range=[-0.015, 1.015],
        tickvals=ticks,
        ticktext=[f"{tick:.0%}" for tick in ticks],
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(range=[-0.05, 1.75], visible=False)
    return figure


def ledger_frame(ledger: Mapping[str, float], area: Mapping[str, float], usual: Typical | None = None) -> pd.DataFrame:
    """The regional ledger as a table.

    Returns
    -------
    DataFrame
        `name`, `region` (label), `log_odds`, `real` and `fake` (usual log-odds in words; None where not measured),
        `share` (part of the absolute evidence of all regions) and `area` (part of the crop), both NaN for the bias, in
        the order of the ledger. `log_odds` sums to the logit.
    """
    real, fake = ({}, {}) if usual is None else (usual.real, usual.fake)
    total = sum(abs(value) for name, value in ledger.items() if name != "bias") or 1.0
    return pd.DataFrame(
        [
            {
                "name": name,
                "region": LABELS.get(name, "Usual face (bias)"),
                "log_odds": value,
                "real": _usual(real.get(name)),
                "fake": _usual(fake.get(name)),
                "share": np.nan if name == "bias" else abs(value) / total,
                "area": area.get(name, np.nan),
            }
            for name, value in ledger.items()
        ]
    )


def _usual(band: Band | None) -> str | None:
    return None if band is None else f"{words.signed(band.p50)} ({words.nine_in_ten(band)})"


def ledger_bars(frame: pd.DataFrame, colours: Palette, usual: Typical | None = None) -> go.Figure:
    """Log-odds per region, from the table of `ledger_frame`, over the band of nine in ten real faces if it is known."""
    bands = {} if usual is None else usual.real
    figure = blank(colours, height=(60 if bands else 44) + 31 * len(frame), bottom=54 if bands else 38)
    rows = frame.iloc[::-1]
    known = rows[rows["name"].isin(bands)]
    low, high = (np.array([getattr(bands[name], end) for name in known["name"]]) for end in ("p5", "p95"))
    if bands:
        figure.add_trace(
            go.Bar(
                base=low,
                x=high - low,
                y=known["region"],
                orientation="h",
                width=0.86,
                marker={"color": colours.grid},
                customdata=known["real"],
                hovertemplate="%{y}, real faces: %{customdata}<extra></extra>",
            )
        )
    figure.add_trace(
        go.Bar(
            x=rows["log_odds"],
            y=rows["region"],
            orientation="h",
            marker={"color": [colours.fake if value > 0 else colours.real for value in rows["log_odds"]]},
            text=[words.signed(value) for value in rows["log_odds"]],
            textposition="outside",
            textfont={"color": colours.ink, "size": 12},
            cliponaxis=False,
            hovertemplate="%{y}: %{x:+.3f} log-odds<extra></extra>",
        )
    )
    reach = max(0.5, float(rows["log_odds"].abs().max()), *np.abs(low), *np.abs(high)) * 1.3
    figure.add_vline(x=0, line={"color": colours.muted, "width": 1})
    grey = "<br>grey: nine in ten real faces" if bands else ""
    figure.update_xaxes(range=[-reach, reach], title=f"Log-odds: − real, + AI{grey}", nticks=7)
    figure.update_yaxes(showgrid=False, automargin=True, categoryorder="array", categoryarray=rows["region"])
    figure.update_layout(bargap=0.28, barmode="overlay")
    return figure


def verdict_bar(counts: Mapping[str, int], titles: Mapping[str, str], colours: Palette) -> go.Figure:
    """One stacked bar of how many images got which verdict."""
    figure = blank(colours, height=44)
    total = sum(counts.get(verdict, 0) for verdict in titles)
    for verdict, title in titles.items():
        count = counts.get(verdict, 0)
        if count:
            figure.add_trace(
                go.Bar(
                    x=[count],
                    y=[""],
                    orientation="h",
                    marker={"color": colours.of(verdict)},
                    text=[f"{count:,}" if count >= 0.05 * total else ""],
                    textposition="inside",
                    insidetextanchor="middle",
                    textfont={"color": ink_on(colours.of(verdict)), "size": 13},
                    hovertemplate=f"{title}: %{{x:,}}<extra></extra>",
                )
            )
    figure.update_layout(barmode="stack", bargap=0.1, margin={"l": 0, "r": 0, "t": 4, "b": 4})
    figure.update_xaxes(visible=False, range=[0, total])
    figure.update_yaxes(visible=False)
    return figure
