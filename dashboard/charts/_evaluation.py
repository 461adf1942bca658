"""Charts of an evaluation. What can be clicked carries `customdata`, which the page reads back.

Plotly reports a click only on markers and bars, so every curve carries nearly invisible markers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy.special import ndtri

from dashboard.charts._base import Palette, between, blank, ink_on

HEIGHT = 300
LINE_A, LINE_B = "solid", "dash"  # the two runs of a comparison differ by more than their colour
_CELLS = (("TN", 0, 0), ("FP", 0, 1), ("FN", 1, 0), ("TP", 1, 1))
_DET_TICKS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99)
_FAINT = {"selected": {"marker": {"opacity": 0.9}}, "unselected": {"marker": {"opacity": 0.01}}}

Point = tuple[float, float]


def confusion(matrix: np.ndarray, colours: Palette, *, chosen: str = "") -> go.Figure:
    """A 2 x 2 confusion matrix [[tn, fp], [fn, tp]], coloured by share of the true class; its cells can be clicked.

    A heatmap never reports clicks to the page, so nearly invisible markers lie over it; their `customdata` is the
    cell's name (TN, FP, FN, TP).

    Parameters
    ----------
    chosen : str
        Name of the cell that gets a frame.
    """
    totals = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    predicted, truth = ["passed as real", "flagged as AI"], ["Real", "AI"]
    right = np.array([[1, -1], [-1, 1]])
    tint = {1: colours.real, -1: colours.fake}
    figure = blank(colours, height=260, top=30)
    figure.add_trace(
        go.Heatmap(
            x=[0, 1],
            y=[0, 1],
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
    for name, i, j in _CELLS:
        colour = ink_on(between(colours.grid, tint[right[i, j]], share[i, j]))
        of = "real" if i == 0 else "AI"
        rate = f"{100 * share[i, j]:.1f} % of {of}" if totals[i, 0] else f"no {of} pictures"
        text = f"<b>{matrix[i, j]:,}</b><br><span style='font-size:12px'>{rate}</span>"
        figure.add_annotation(x=j, y=i, text=text, showarrow=False, font={"size": 22, "color": colour})
        if name == chosen:
            edge = {"x0": j - 0.49, "x1": j + 0.49, "y0": i - 0.49, "y1": i + 0.49}
            figure.add_shape(type="rect", line={"color": colours.ink, "width": 3}, **edge)
    figure.add_trace(
        go.Scatter(
            x=[j for _, _, j in _CELLS],
            y=[i for _, i, _ in _CELLS],
            customdata=[name for name, _, _ in _CELLS],
            mode="markers",
            marker={"symbol": "square", "size": 96, "opacity": 0.01, "color": colours.muted},
            selected={"marker": {"opacity": 0.01}},
            unselected={"marker": {"opacity": 0.01}},
            hoverinfo="none",
        )
    )
    ink = {"size": 13, "color": colours.ink}
    figure.update_xaxes(
        side="top", showgrid=False, zeroline=False, tickvals=[0, 1], ticktext=predicted, tickfont=ink, range=[-0.5, 1.5]
    )
    figure.update_yaxes(
        showgrid=False, zeroline=False, tickvals=[0, 1], ticktext=truth, tickfont=ink, title="Truth", range=[1.5, -0.5]
    )
    return figure


def _clickable(figure: go.Figure, frame: pd.DataFrame, x: str, y: str, data: str, hover: str, colour: str) -> None:
    """A curve whose points report `data` when they are clicked."""
    figure.add_trace(
        go.Scatter(
            x=frame[x],
            y=frame[y],
            customdata=frame[data],
            mode="lines+markers",
            line={"color": colour, "width": 2.5},
            marker={"size": 12, "opacity": 0.01, "color": colour},
            cliponaxis=False,
            hovertemplate=hover + "<extra></extra>",
            **_FAINT,
        )
    )


def _here(figure: go.Figure, point: tuple[float | None, float | None], colours: Palette) -> None:
    """Mark the chosen threshold; nothing where a coordinate is not defined."""
    if point[0] is None or point[1] is None or not np.isfinite(np.array(point, dtype=float)).all():
        return
    figure.add_trace(
        go.Scatter(
            x=[point[0]],
            y=[point[1]],
            mode="markers",
            marker={"size": 13, "color": colours.fake, "line": {"color": colours.surface, "width": 2}},
            cliponaxis=False,
            hovertemplate="at the chosen threshold<extra></extra>",
        )
    )


def _shares(figure: go.Figure, x_title: str, y_title: str) -> go.Figure:
    figure.update_xaxes(range=[-0.01, 1.01], title=x_title, tickformat=".0%", nticks=6)
    figure.update_yaxes(range=[0, 1.03], title=y_title, tickformat=".0%", nticks=6)
    return figure


def _guide(figure: go.Figure, start: Point, end: Point, colours: Palette) -> None:
    line = {"color": colours.muted, "dash": "dot", "width": 1}
    figure.add_shape(type="line", x0=start[0], y0=start[1], x1=end[0], y1=end[1], line=line, layer="below")


def roc(frame: pd.DataFrame, point: tuple[float | None, float | None], colours: Palette) -> go.Figure:
    """Receiver operating characteristic from `fpr`, `tpr`, `threshold`; `point` is (fpr, tpr) at the threshold."""
    figure = blank(colours, height=HEIGHT, bottom=44)
    _guide(figure, (0, 0), (1, 1), colours)
    hover = "false alarms %{x:.2%}<br>found %{y:.2%}<br>threshold %{customdata:.4f}"
    _clickable(figure, frame, "fpr", "tpr", "threshold", hover, colours.real)
    _here(figure, point, colours)
    return _shares(figure, "False alarms among real photographs", "AI-generated found")


def precision_recall(
    frame: pd.DataFrame, point: tuple[float | None, float | None], base: float, colours: Palette
) -> go.Figure:
    """Precision over recall from `recall`, `precision`, `threshold`; `base` is the share of fakes in the set."""
    figure = blank(colours, height=HEIGHT, bottom=44)
    _guide(figure, (0, base), (1, base), colours)
    hover = "found %{x:.2%}<br>precision %{y:.2%}<br>threshold %{customdata:.4f}"
    _clickable(figure, frame, "recall", "precision", "threshold", hover, colours.real)
    _here(figure, point, colours)
    return _shares(figure, "AI-generated found (recall)", "Precision in this set")


def detection_error(frame: pd.DataFrame, point: tuple[float | None, float | None], colours: Palette) -> go.Figure:
    """Detection error trade-off from `model.metrics.det_frame`; `point` is (fpr, fnr) at the threshold."""
    figure = blank(colours, height=HEIGHT, bottom=44)
    finite = frame[np.isfinite(frame[["fpr_deviate", "fnr_deviate"]]).all(axis=1)]
    hover = "threshold %{customdata:.4f}"
    _clickable(figure, finite, "fpr_deviate", "fnr_deviate", "threshold", hover, colours.real)
    ends = (float(ndtri(0.0005)), float(ndtri(0.995)))
    if point[0] is not None and point[1] is not None:
        _here(figure, tuple(float(np.clip(ndtri(value), *ends)) for value in point), colours)  # type: ignore[arg-type]
    _guide(figure, (ends[0], ends[0]), (ends[1], ends[1]), colours)
    ticks = {"tickvals": ndtri(np.array(_DET_TICKS)), "ticktext": [f"{100 * tick:g} %" for tick in _DET_TICKS]}
    figure.update_xaxes(range=ends, title="False alarms among real photographs", tickangle=0, **ticks)
    figure.update_yaxes(range=ends, title="AI-generated missed", **ticks)
    return figure


def two_curves(
    a: pd.DataFrame, b: pd.DataFrame, x: str, y: str, titles: tuple[str, str], colours: Palette, names: tuple[str, str]
) -> go.Figure:
    """The same curve of two runs."""
    figure = blank(colours, height=HEIGHT, bottom=44, top=28)
    for frame, name, colour, dash in zip((a, b), names, (colours.real, colours.fake), (LINE_A, LINE_B), strict=True):
        hover = (
            f"{titles[0]} %{{x:.2%}}<br>{titles[1]} %{{y:.2%}}<br>threshold %{{customdata:.4f}}<extra>{name}</extra>"
        )
        figure.add_trace(
            go.Scatter(
                x=frame[x],
                y=frame[y],
                customdata=frame["threshold"],
                name=name,
                mode="lines",
                line={"color": colour, "width": 2.5, "dash": dash},
                hovertemplate=hover,
            )
        )
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"})
    return _shares(figure, *titles)


def score_histogram(
    p_fake: np.ndarray, y: np.ndarray, threshold: float, colours: Palette, *, bins: int = 40
) -> go.Figure:
    """Distribution of p_fake (N,) per true class y (N,), with the threshold.

    Drawn on a square-root scale, so that the few in the middle can be seen beside the many at the ends. A bar's
    `customdata` is (label, low, high).
    """
    figure = blank(colours, height=240, bottom=44, top=24)
    edges = np.linspace(0, 1, bins + 1)
    middle = (edges[:-1] + edges[1:]) / 2
    highest = 1
    for label, name, colour in ((0, "Real", colours.real), (1, "AI-generated", colours.fake)):
        counts = np.histogram(p_fake[y == label], bins=edges)[0]
        highest = max(highest, int(counts.max(initial=0)))
        figure.add_trace(
            go.Bar(
                x=middle,
                y=np.sqrt(counts),
                name=name,
                customdata=np.column_stack([np.full(bins, label), edges[:-1], edges[1:], counts]),
                marker={"color": colour},
                opacity=0.75,
                width=1 / bins,
                hovertemplate=name + ": %{customdata[3]:,} pictures<br>%{customdata[1]:.3f} to %{customdata[2]:.3f}"
                "<extra></extra>",
                unselected={"marker": {"opacity": 0.45}},
            )
        )
    figure.add_vline(x=threshold, line={"color": colours.ink, "width": 2, "dash": "dash"})
    figure.update_layout(
        barmode="overlay",
        bargap=0,
        showlegend=True,
        legend={"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"},
    )
    ticks = _root_ticks(highest)
    figure.update_xaxes(range=[0, 1.005], title="Probability of AI-generation", tickformat=".0%", nticks=6)
    figure.update_yaxes(title="Pictures", tickvals=np.sqrt(ticks), ticktext=[f"{tick:,}" for tick in ticks])
    return figure


def _root_ticks(highest: int) -> list[int]:
    """A few round counts up to the highest, for an axis of square roots."""
    ticks = [0]
    for share in (0.06, 0.3, 1.0):
        value = highest * share
        power = 10 ** int(np.floor(np.log10(max(value, 1))))
        tick = int(value // power * power)
        if tick > ticks[-1]:
            ticks.append(tick)
    return ticks


def reliability(frame: pd.DataFrame, colours: Palette) -> go.Figure:
    """Observed share of fakes over the stated probability, from `model.metrics.reliability_frame`.

    A point's `customdata` is (images, lowest score, highest score).
    """
    figure = blank(colours, height=HEIGHT, bottom=44)
    _guide(figure, (0, 0), (1, 1), colours)
    figure.add_trace(
        go.Scatter(
            x=frame["mean_score"],
            y=frame["fake_share"],
            customdata=frame[["images", "score_low", "score_high"]].to_numpy(),
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
            marker={"size": 10},
            cliponaxis=False,
            unselected={"marker": {"opacity": 0.45}},
            hovertemplate="stated %{x:.1%}, observed %{y:.1%}<br>%{customdata[0]:,} pictures<extra></extra>",
        )
    )
    figure.update_xaxes(range=[-0.02, 1.02], title="Stated probability", tickformat=".0%", nticks=6)
    figure.update_yaxes(range=[-0.02, 1.05], title="Observed share of AI-generated", tickformat=".0%", nticks=6)
    return figure


def risk_coverage(frame: pd.DataFrame, colours: Palette) -> go.Figure:
    """Error rate over the share of pictures that are decided, from `model.metrics.risk_coverage_frame`.

    A point's `customdata` is its `confidence`.
    """
    figure = blank(colours, height=HEIGHT, bottom=44)
    hover = "deciding %{x:.1%}: %{y:.2%} wrong"
    _clickable(figure, frame, "coverage", "risk", "confidence", hover, colours.inconclusive)
    figure.update_xaxes(range=[0, 1.01], title="Share of pictures decided, most certain first", tickformat=".0%")
    figure.update_yaxes(rangemode="tozero", title="Error rate", tickformat=".1%", nticks=6)
    return figure


def cost_by_threshold(
    frame: pd.DataFrame, here: Point, lowest: tuple[float | None, float | None], colours: Palette
) -> go.Figure:
    """Mean cost over the threshold, from `model.metrics.cost_frame`; `here` and `lowest` are (threshold, cost)."""
    figure = blank(colours, height=HEIGHT, bottom=44)
    hover = "threshold %{x:.4f}: cost %{y:.4g}"
    _clickable(figure, frame[np.isfinite(frame["threshold"])], "threshold", "cost", "threshold", hover, colours.real)
    if lowest[0] is not None and lowest[1] is not None:
        figure.add_trace(
            go.Scatter(
                x=[lowest[0]],
                y=[lowest[1]],
                mode="markers",
                marker={"symbol": "diamond", "size": 12, "color": colours.inconclusive},
                cliponaxis=False,
                hovertemplate="lowest: %{y:.4g} at %{x:.4f}<extra></extra>",
            )
        )
    _here(figure, here, colours)
    figure.update_xaxes(range=[-0.01, 1.01], title="Threshold", nticks=6)
    figure.update_yaxes(rangemode="tozero", title="Mean cost per picture", nticks=6)
    return figure


def cost_curve(frame: pd.DataFrame, here: tuple[float, float], share: float, colours: Palette) -> go.Figure:
    """Lower envelope of all thresholds, from `model.metrics.cost_curve_frame`, and the line of the chosen one.

    Parameters
    ----------
    here : (fpr, fnr)
        Of the chosen threshold.
    share : float
        Share of the possible cost that lies with the fakes, at the costs and the prevalence that were set.
    """
    figure = blank(colours, height=HEIGHT, bottom=44, top=28)
    x = frame["probability_cost"].to_numpy()
    lines: Sequence[tuple[str, Any, dict[str, Any]]] = (
        ("flag all or nothing", frame["trivial"], {"color": colours.muted, "dash": "dot", "width": 1.5}),
        ("this threshold", here[0] * (1 - x) + here[1] * x, {"color": colours.fake, "width": 2}),
        ("best threshold", frame["lowest"], {"color": colours.real, "width": 2.5}),
    )
    for name, values, line in lines:
        figure.add_trace(
            go.Scatter(
                x=x, y=values, name=name, mode="lines", line=line, hovertemplate=f"{name}: %{{y:.3f}}<extra></extra>"
            )
        )
    figure.add_vline(x=share, line={"color": colours.ink, "width": 1.5, "dash": "dash"})
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"})
    figure.update_xaxes(range=[0, 1], title="Weight of missed AI-generated pictures", nticks=6)
    figure.update_yaxes(range=[0, max(0.52, 1.04 * max(here))], title="Expected cost, of the possible", nticks=6)
    return figure


def group_bars(frame: pd.DataFrame, mean: float | None, colours: Palette) -> go.Figure:
    """Share of right answers per group with its interval, the worst on top.

    Parameters
    ----------
    frame : DataFrame
        `group`, `label` (real, fake, both), `n`, `accuracy`, `accuracy_low`, `accuracy_high`, the worst first. A bar's
        `customdata` begins with its group.
    mean : float, optional
        Mean over all groups, drawn as a line.
    """
    shown = frame.iloc[::-1]
    figure = blank(colours, height=76 + 30 * len(shown), bottom=46, top=10)
    tint = {"real": colours.real, "fake": colours.fake, "both": colours.inconclusive}
    low = shown["accuracy_low"].fillna(shown["accuracy"])
    high = shown["accuracy_high"].fillna(shown["accuracy"])
    places = np.arange(len(shown))  # names may be equal once they are cut
    figure.add_trace(
        go.Bar(
            x=shown["accuracy"],
            y=places,
            orientation="h",
            customdata=shown[["group", "n"]].to_numpy(),
            marker={"color": [tint[label] for label in shown["label"]]},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": high - shown["accuracy"],
                "arrayminus": shown["accuracy"] - low,
                "color": colours.ink,
                "thickness": 1.4,
                "width": 4,
            },
            hovertemplate="%{customdata[0]}: %{x:.1%} right of %{customdata[1]:,}<extra></extra>",
            unselected={"marker": {"opacity": 0.45}},
        )
    )
    if mean is not None:
        figure.add_vline(x=mean, line={"color": colours.ink, "width": 1.5, "dash": "dash"})
    figure.update_xaxes(range=[0, 1.01], title="Right answers at this threshold", tickformat=".0%", nticks=6)
    names = [name if len(name) <= 26 else name[:25] + "…" for name in shown["group"]]
    figure.update_yaxes(tickvals=places, ticktext=names, showgrid=False, automargin=True, zeroline=False)
    figure.update_layout(bargap=0.3)
    return figure
