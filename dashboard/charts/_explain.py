"""Charts of what was asked of one picture after its verdict, and of the ledgers of many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import words
from dashboard.charts._base import Palette, between, blank, ink_on
from model.calibration import Thresholds


def delivery_strip(
    rows: Sequence[tuple[str, float | None, str]], thresholds: Thresholds, colours: Palette
) -> go.Figure:
    """Probabilities of a picture after each delivery, over the zones of the verdicts.

    Parameters
    ----------
    rows : sequence of (str, float or None, str)
        Title, p_fake (None where no face was judged) and verdict; the picture as it is comes first.
    """
    p_fake = rows[0][1]
    figure = blank(colours, height=74 + 27 * len(rows), bottom=40, top=24)
    zones = ((0.0, thresholds.real, colours.real), (thresholds.fake, 1.0, colours.fake))
    texts = (("Real", 0.0, "left"), ("Inconclusive", (thresholds.real + thresholds.fake) / 2, "center"))
    for text, x, anchor in (*texts, ("AI-generated", 1.0, "right")):
        style = {"showarrow": False, "font": {"color": colours.muted, "size": 12}}
        figure.add_annotation(x=x, y=len(rows) - 0.4, text=text, xanchor=anchor, yanchor="bottom", **style)
    for low, high, colour in zones:
        figure.add_vrect(x0=low, x1=high, fillcolor=colour, opacity=0.14, line_width=0, layer="below")
    if p_fake is not None:
        figure.add_vline(x=p_fake, line={"color": colours.muted, "width": 1, "dash": "dot"})
    titles = [title for title, _, _ in rows]
    judged = [row for row in rows if row[1] is not None]
    figure.add_trace(
        go.Scatter(
            x=[value for _, value, _ in judged],
            y=[title for title, _, _ in judged],
            mode="markers+text",
            cliponaxis=False,
            text=[words.percent(value or 0.0) for _, value, _ in judged],
            textposition=["middle left" if (value or 0.0) > 0.5 else "middle right" for _, value, _ in judged],
            textfont={"color": colours.ink, "size": 12},
            marker={
                "size": [14 if place == 0 else 11 for place in range(len(judged))],
                "symbol": ["diamond" if place == 0 else "circle" for place in range(len(judged))],
                "color": [colours.of(given) for _, _, given in judged],
            },
            customdata=[words.VERDICTS[given].title for _, _, given in judged],
            hovertemplate="%{y}: %{text}, %{customdata}<extra></extra>",
        )
    )
    lost = [title for title, value, _ in rows if value is None]
    for title in lost:
        figure.add_annotation(
            x=0.5, y=title, text="no face to judge", showarrow=False, font={"color": colours.muted, "size": 12}
        )
    figure.update_xaxes(range=[-0.02, 1.02], title="Probability of AI-generation", tickformat=".0%", nticks=6)
    figure.update_yaxes(
        categoryorder="array", categoryarray=titles[::-1], automargin=True, range=[-0.6, len(rows) - 0.4]
    )
    return figure


def move_bars(moves: Sequence[tuple[str, float]], colours: Palette) -> go.Figure:
    """How far the score moves, in log-odds, by title; toward AI to the right."""
    figure = blank(colours, height=44 + 27 * len(moves), bottom=38)
    values = [value for _, value in moves]
    figure.add_trace(
        go.Bar(
            x=values,
            y=[title for title, _ in moves],
            orientation="h",
            marker={"color": [colours.fake if value > 0 else colours.real for value in values]},
            text=[words.signed(value) for value in values],
            textposition="outside",
            textfont={"color": colours.ink, "size": 12},
            cliponaxis=False,
            hovertemplate="Without %{y}: %{x:+.3f} log-odds<extra></extra>",
        )
    )
    reach = max(0.5, *(abs(value) for value in values)) * 1.3
    figure.add_vline(x=0, line={"color": colours.muted, "width": 1})
    figure.update_xaxes(range=[-reach, reach], title="Move without the part: − real, + AI", nticks=7)
    figure.update_yaxes(showgrid=False, automargin=True, autorange="reversed")
    figure.update_layout(bargap=0.28)
    return figure


def region_heatmap(frame: pd.DataFrame, limit: float, colours: Palette) -> go.Figure:
    """Mean log-odds per region (columns) and group (rows), from `model.region_summary`.

    Parameters
    ----------
    limit : float
        Log-odds at full colour, the same for all tables that are to be compared.
    """
    groups, labels = list(dict.fromkeys(frame["group"])), list(dict.fromkeys(frame["label"]))
    table = frame.pivot(index="group", columns="label", values="log_odds").loc[groups, labels]
    decides = frame.pivot(index="group", columns="label", values="decides").loc[groups, labels]
    shares = frame.pivot(index="group", columns="label", values="share").loc[groups, labels]
    images = frame.groupby("group", sort=False)["images"].first()
    names = [f"{group if len(group) <= 24 else group[:23] + '…'} ({images[group]:,})" for group in groups]
    figure = blank(colours, height=120 + 30 * len(groups), bottom=8, top=110)
    figure.add_trace(
        go.Heatmap(
            x=labels,
            y=np.arange(len(groups)),  # names may be equal once they are cut
            z=table.to_numpy(),
            customdata=np.dstack([decides.to_numpy(), shares.to_numpy()]),
            zmin=-limit,
            zmax=limit,
            colorscale=[[0, colours.real], [0.5, colours.surface], [1, colours.fake]],
            showscale=False,
            xgap=1,
            ygap=1,
            hovertemplate="%{x}: mean %{z:+.2f} log-odds<br>%{customdata[1]:.0%} of the evidence"
            "<br>decides %{customdata[0]:.0%} of the images<extra></extra>",
        )
    )
    for row, values in enumerate(table.to_numpy()):
        for label, value in zip(labels, values, strict=True):
            end = colours.fake if value > 0 else colours.real
            fill = between(colours.surface, end, min(abs(value) / limit, 1.0))
            figure.add_annotation(
                x=label, y=row, text=f"{value:+.1f}", showarrow=False, font={"size": 11, "color": ink_on(fill)}
            )
    figure.update_xaxes(side="top", tickangle=-45, showgrid=False)
    figure.update_yaxes(
        tickvals=np.arange(len(groups)), ticktext=names, autorange="reversed", showgrid=False, automargin=True
    )
    return figure
