"""Plotly figures from tidy frames: one look for every page, in light and dark.

Functions take numbers and a `Palette` and return a figure; none of them computes a metric or knows of Streamlit.
Backgrounds, fonts and grid lines come from the page's theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.overlay import cell_limit, colourise
from model.calibration import FAKE, INCONCLUSIVE, NOT_APPLICABLE, REAL, Thresholds
from model.regions import LABELS

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


def _figure(colours: Palette, *, height: int, left: int = 8, top: int = 8, bottom: int = 8) -> go.Figure:
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


def verdict_scale(p_fake: float, thresholds: Thresholds, verdict: str, colours: Palette) -> go.Figure:
    """Where a probability lies between the thresholds: three zones and a pointer."""
    figure = _figure(colours, height=92, left=4, top=30, bottom=24)
    zones = (
        ("Real", 0.0, thresholds.real, colours.real),
        ("Inconclusive", thresholds.real, thresholds.fake, colours.inconclusive),
        ("AI-generated", thresholds.fake, 1.0, colours.fake),
    )
    for name, low, high, colour in zones:
        figure.add_shape(
            type="rect", x0=low, x1=high, y0=0, y1=1, fillcolor=colour, opacity=0.85, line={"width": 0}, layer="below"
        )
        if high - low >= 0.2:
            figure.add_annotation(
                x=(low + high) / 2, y=0.5, text=name, showarrow=False, font={"size": 12, "color": colours.on_fill}
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
            hovertemplate="Probability of AI-generation: %{x:.1%}<extra></extra>",
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


def ledger_frame(ledger: Mapping[str, float], area: Mapping[str, float]) -> pd.DataFrame:
    """The regional ledger as a table.

    Returns
    -------
    DataFrame
        `name`, `region` (label), `log_odds`, `share` (part of all absolute evidence), `area` (part of the crop; NaN for
        the bias), in the order of the ledger. `log_odds` sums to the logit.
    """
    total = sum(abs(value) for value in ledger.values()) or 1.0
    return pd.DataFrame(
        [
            {
                "name": name,
                "region": LABELS.get(name, "Usual face (bias)"),
                "log_odds": value,
                "share": abs(value) / total,
                "area": area.get(name, np.nan),
            }
            for name, value in ledger.items()
        ]
    )


def ledger_bars(frame: pd.DataFrame, colours: Palette) -> go.Figure:
    """Log-odds per region, from the table of `ledger_frame`."""
    figure = _figure(colours, height=44 + 31 * len(frame), bottom=38)
    rows = frame.iloc[::-1]
    figure.add_trace(
        go.Bar(
            x=rows["log_odds"],
            y=rows["region"],
            orientation="h",
            marker={"color": [colours.fake if value > 0 else colours.real for value in rows["log_odds"]]},
            text=[f"{value:+.2f}" for value in rows["log_odds"]],
            textposition="outside",
            textfont={"color": colours.ink, "size": 12},
            cliponaxis=False,
            hovertemplate="%{y}: %{x:+.3f} log-odds<extra></extra>",
        )
    )
    reach = max(0.5, float(rows["log_odds"].abs().max())) * 1.3
    figure.add_vline(x=0, line={"color": colours.muted, "width": 1})
    figure.update_xaxes(range=[-reach, reach], title="Log-odds: − real, + AI", nticks=7)
    figure.update_yaxes(showgrid=False, automargin=True)
    figure.update_layout(bargap=0.28)
    return figure


def evidence_legend(shape: Sequence[int], colours: Palette) -> go.Figure:
    """The fixed colour scale of evidence maps of an H x W grid, in log-odds per cell."""
    limit = cell_limit(shape)
    ramp = colourise(np.linspace(-limit, limit, 101)[None, :].repeat(101, axis=0), 101, limit, smooth=False)
    row = np.asarray(ramp)[50].astype(float)  # (101, RGBA)
    scale = [[i / 100, f"rgba({r:.0f},{g:.0f},{b:.0f},{a / 255:.3f})"] for i, (r, g, b, a) in enumerate(row)]
    figure = _figure(colours, height=56, left=2, top=2, bottom=30)
    figure.update_layout(margin_r=2)
    figure.add_trace(
        go.Heatmap(
            x=np.linspace(-limit, limit, 101),
            y=[0],
            z=np.linspace(-limit, limit, 101)[None, :],
            colorscale=scale,
            zmin=-limit,
            zmax=limit,
            showscale=False,
            hovertemplate="%{x:+.3f} log-odds per cell<extra></extra>",
        )
    )
    ends = (
        (-limit, "left", f"\u2212{limit:.2f} toward real"),
        (0.0, "center", "0"),
        (limit, "right", f"+{limit:.2f} toward AI"),
    )
    for x, side, text in ends:
        figure.add_annotation(
            x=x,
            y=-0.5,
            text=text,
            xanchor=side,
            yanchor="top",
            showarrow=False,
            font={"size": 12, "color": colours.muted},
        )
    figure.update_xaxes(visible=False, range=[-limit, limit])
    figure.update_yaxes(visible=False, range=[-0.5, 0.5])
    return figure


def confusion(matrix: np.ndarray, colours: Palette) -> go.Figure:
    """A 2 x 2 confusion matrix [[tn, fp], [fn, tp]], coloured by share of the true class; its cells can be clicked.

    A heatmap never reports clicks to the page, so nearly invisible markers lie over it; their `customdata` is the
    cell's name (TN, FP, FN, TP).
    """
    totals = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    predicted, truth = ["called real", "called AI"], ["Real", "AI"]
    right = np.array([[1, -1], [-1, 1]])
    figure = _figure(colours, height=300, top=34)
    figure.add_trace(
        go.Heatmap(
            x=predicted,
            y=truth,
            z=share * right,
            zmin=-1,
            zmax=1,
            colorscale=[[0, colours.fake], [0.5, colours.grid], [1, colours.real]],
            showscale=False,
            hoverinfo="skip",
            xgap=4,
            ygap=4,
        )
    )
    for i, row in enumerate(truth):
        for j, column in enumerate(predicted):
            strong = share[i, j] > 0.55
            text = f"<b>{matrix[i, j]:,}</b><br><span style='font-size:12px'>{share[i, j]:.1%} of {row.lower()}</span>"
            text = text.replace("of ai", "of AI")
            ink = colours.on_fill if strong else colours.ink
            figure.add_annotation(x=column, y=row, text=text, showarrow=False, font={"size": 22, "color": ink})
    cells = (("TN", 0, 0), ("FP", 0, 1), ("FN", 1, 0), ("TP", 1, 1))
    figure.add_trace(
        go.Scatter(
            x=[predicted[j] for _, _, j in cells],
            y=[truth[i] for _, i, _ in cells],
            customdata=[name for name, _, _ in cells],
            mode="markers",
            marker={"symbol": "square", "size": 90, "opacity": 0.01, "color": colours.muted},
            hoverinfo="none",
        )
    )
    figure.update_xaxes(side="top", showgrid=False, tickfont={"size": 13, "color": colours.ink})
    figure.update_yaxes(autorange="reversed", showgrid=False, tickfont={"size": 13, "color": colours.ink})
    return figure


def _curve(
    frame: pd.DataFrame, x: str, y: str, point: tuple[float, float], titles: tuple[str, str], colours: Palette
) -> go.Figure:
    figure = _figure(colours, height=300, bottom=44)
    figure.add_trace(
        go.Scatter(
            x=frame[x],
            y=frame[y],
            customdata=frame["threshold"],
            mode="lines",
            line={"color": colours.real, "width": 2.5},
            hovertemplate=titles[0]
            + " %{x:.3f}<br>"
            + titles[1]
            + " %{y:.3f}<br>threshold %{customdata:.3f}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[point[0]],
            y=[point[1]],
            mode="markers",
            marker={"size": 13, "color": colours.fake, "line": {"color": colours.surface, "width": 2}},
            cliponaxis=False,
            hovertemplate="at the chosen threshold<br>(%{x:.3f}, %{y:.3f})<extra></extra>",
        )
    )
    figure.update_xaxes(range=[-0.01, 1.01], title=titles[0], tickformat=".0%", nticks=6)
    figure.update_yaxes(range=[0, 1.03], title=titles[1], tickformat=".0%", nticks=6)
    return figure


def roc(frame: pd.DataFrame, point: tuple[float, float], colours: Palette) -> go.Figure:
    """Receiver operating characteristic from `fpr`, `tpr`, `threshold`; `point` is (fpr, tpr) at the threshold."""
    titles = ("False alarms among real photographs", "AI-generated found")
    figure = _curve(frame, "fpr", "tpr", point, titles, colours)
    figure.add_shape(type="line", x0=0, y0=0, x1=1, y1=1, line={"color": colours.grid, "dash": "dot"}, layer="below")
    return figure


def precision_recall(frame: pd.DataFrame, point: tuple[float, float], base: float, colours: Palette) -> go.Figure:
    """Precision over recall from `recall`, `precision`, `threshold`; `base` is the share of fakes in the set."""
    figure = _curve(frame, "recall", "precision", point, ("AI-generated found (recall)", "Precision"), colours)
    figure.add_shape(
        type="line", x0=0, x1=1, y0=base, y1=base, line={"color": colours.grid, "dash": "dot"}, layer="below"
    )
    return figure


def score_histogram(p_fake: np.ndarray, y: np.ndarray, threshold: float, colours: Palette) -> go.Figure:
    """Distribution of p_fake (N,) per true class y (N,), with the threshold."""
    figure = _figure(colours, height=300, bottom=44, top=24)
    edges = np.linspace(0, 1, 41)
    for label, name, colour in ((0, "Real", colours.real), (1, "AI-generated", colours.fake)):
        counts, _ = np.histogram(p_fake[y == label], bins=edges)
        figure.add_trace(
            go.Bar(
                x=(edges[:-1] + edges[1:]) / 2,
                y=counts,
                name=name,
                marker={"color": colour},
                opacity=0.75,
                width=0.025,
                hovertemplate=name + ": %{y} images near %{x:.2f}<extra></extra>",
            )
        )
    figure.add_vline(x=threshold, line={"color": colours.ink, "width": 2, "dash": "dash"})
    figure.update_layout(
        barmode="overlay",
        bargap=0,
        showlegend=True,
        legend={"orientation": "h", "y": 1.12, "x": 0, "yanchor": "bottom"},
    )
    figure.update_xaxes(range=[0, 1], title="Probability of AI-generation", tickformat=".0%", nticks=6)
    figure.update_yaxes(title="Images")
    return figure


def reliability(frame: pd.DataFrame, colours: Palette) -> go.Figure:
    """Observed share of fakes over the stated probability, from `model.metrics.reliability_frame`."""
    figure = _figure(colours, height=300, bottom=44)
    figure.add_shape(type="line", x0=0, y0=0, x1=1, y1=1, line={"color": colours.grid, "dash": "dot"}, layer="below")
    figure.add_trace(
        go.Scatter(
            x=frame["mean_score"],
            y=frame["fake_share"],
            customdata=frame["images"],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": frame["high"] - frame["fake_share"],
                "arrayminus": frame["fake_share"] - frame["low"],
                "color": colours.muted,
                "thickness": 1.2,
                "width": 0,
            },
            mode="lines+markers",
            line={"color": colours.real, "width": 2},
            marker={"size": 9},
            cliponaxis=False,
            hovertemplate="stated %{x:.1%}, observed %{y:.1%}<br>%{customdata} images<extra></extra>",
        )
    )
    figure.update_xaxes(range=[-0.02, 1.02], title="Stated probability", tickformat=".0%", nticks=6)
    figure.update_yaxes(range=[-0.02, 1.05], title="Observed share of AI-generated", tickformat=".0%", nticks=6)
    return figure


def risk_coverage(frame: pd.DataFrame, colours: Palette) -> go.Figure:
    """Error rate over the share of pictures that are decided, from `model.metrics.risk_coverage_frame`."""
    figure = _figure(colours, height=300, bottom=44)
    figure.add_trace(
        go.Scatter(
            x=frame["coverage"],
            y=frame["risk"],
            mode="lines",
            line={"color": colours.inconclusive, "width": 2.5},
            hovertemplate="deciding %{x:.1%}: %{y:.2%} wrong<extra></extra>",
        )
    )
    figure.update_xaxes(range=[0, 1.01], title="Share of pictures decided, most certain first", tickformat=".0%")
    figure.update_yaxes(rangemode="tozero", title="Error rate", tickformat=".1%", nticks=6)
    return figure


def verdict_bar(counts: Mapping[str, int], titles: Mapping[str, str], colours: Palette) -> go.Figure:
    """One stacked bar of how many images got which verdict."""
    figure = _figure(colours, height=44)
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
                    textfont={"color": colours.on_fill, "size": 13},
                    hovertemplate=f"{title}: %{{x:,}}<extra></extra>",
                )
            )
    figure.update_layout(barmode="stack", bargap=0.1, margin={"l": 0, "r": 0, "t": 4, "b": 4})
    figure.update_xaxes(visible=False, range=[0, total])
    figure.update_yaxes(visible=False)
    return figure
