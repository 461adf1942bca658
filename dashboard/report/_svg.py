"""Small charts as inline SVG: no script, no font and no request, legible in print.

Every chart takes a tidy frame of `model.metrics`; nothing is computed here but positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd
from markupsafe import Markup, escape

from model.metrics import thin

WIDTH, HEIGHT = 380, 320
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 46
BLUE, ORANGE, INK, MUTED, GRID = "#2a6bab", "#d9730d", "#17212b", "#55616d", "#e2e8ed"

Point = tuple[float, float]


class Chart:
    """A unit square, or a part of it, to draw in.

    Parameters
    ----------
    title, x_label, y_label : str
        The title is read by screen readers; the picture shows the axes' names.
    x, y : (float, float)
        Ranges of the axes.
    """

    def __init__(self, title: str, x_label: str, y_label: str, *, x: Point = (0.0, 1.0), y: Point = (0.0, 1.0)) -> None:
        self._title, self._x_label, self._y_label = title, x_label, y_label
        self._x_range, self._y_range = x, y
        self._parts: list[Markup] = []
        self._legend: list[tuple[str, str]] = []

    def line(self, points: Iterable[Point], colour: str, *, name: str = "", dashed: bool = False) -> None:
        """A polyline through points in data units."""
        path = " ".join(f"{self._px(x):.1f},{self._py(y):.1f}" for x, y in points)
        dash = Markup(' stroke-dasharray="4 4"') if dashed else ""
        self._parts.append(
            Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="{}"{}/>').format(
                path, colour, 1 if dashed else 2, dash
            )
        )
        if name:
            self._legend.append((name, colour))

    def dot(self, point: Point, colour: str, *, note: str = "", radius: float = 4) -> None:
        """A marked point with a tooltip."""
        self._parts.append(
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}" fill="{}"><title>{}</title></circle>').format(
                self._px(point[0]), self._py(point[1]), radius, colour, note
            )
        )

    def bar(self, x: Point, height: float, colour: str, *, note: str = "") -> None:
        """A translucent column from the x axis, so that two sets of columns can overlap."""
        left, right, top = self._px(x[0]), self._px(x[1]), self._py(height)
        self._parts.append(
            Markup(
                '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}" fill-opacity="0.5" stroke="{}">'
                "<title>{}</title></rect>"
            ).format(left, top, max(right - left, 0.5), max(self._py(self._y_range[0]) - top, 0), colour, colour, note)
        )

    def key(self, name: str, colour: str) -> None:
        """An entry of the legend without a line."""
        self._legend.append((name, colour))

    def svg(self) -> Markup:
        """The picture."""
        head = Markup(
            '<svg viewBox="0 0 {w} {h}" role="img" aria-label="{title}" xmlns="http://www.w3.org/2000/svg">'
            "<title>{title}</title>"
        ).format(w=WIDTH, h=HEIGHT, title=self._title)
        return head + self._axes() + Markup("").join(self._parts) + self._key_box() + Markup("</svg>")

    def _px(self, value: float) -> float:
        low, high = self._x_range
        return LEFT + (min(max(value, low), high) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def _py(self, value: float) -> float:
        low, high = self._y_range
        return HEIGHT - BOTTOM - (min(max(value, low), high) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def _axes(self) -> Markup:
        parts = []
        for step in range(6):
            x = self._x_range[0] + step / 5 * (self._x_range[1] - self._x_range[0])
            y = self._y_range[0] + step / 5 * (self._y_range[1] - self._y_range[0])
            px, py = self._px(x), self._py(y)
            parts.append(
                Markup(
                    '<path d="M{px:.1f} {top}V{bottom}M{left} {py:.1f}H{right}" stroke="{grid}"/>'
                    '<text x="{px:.1f}" y="{below}" text-anchor="middle">{x:.3g}</text>'
                    '<text x="{beside}" y="{mid:.1f}" text-anchor="end">{y:.3g}</text>'
                ).format(
                    px=px, py=py, mid=py + 4, x=x, y=y, top=TOP, bottom=HEIGHT - BOTTOM, left=LEFT, grid=GRID,
                    right=WIDTH - RIGHT, below=HEIGHT - BOTTOM + 16, beside=LEFT - 6,
                )
            )  # fmt: skip
        middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
        parts.append(
            Markup(
                '<text x="{}" y="{}" text-anchor="middle">{}</text>'
                '<text x="11" y="{y}" text-anchor="middle" transform="rotate(-90 11 {y})">{}</text>'
            ).format(middle_x, HEIGHT - 8, self._x_label, self._y_label, y=middle_y)
        )
        return Markup("").join(parts)

    def _key_box(self) -> Markup:
        rows = [
            Markup(
                '<path d="M{} {y}h18" stroke="{}" stroke-width="3"/>'
                '<text x="{}" y="{t}" stroke="#fff" stroke-width="4" paint-order="stroke">{}</text>'  # above any line
            ).format(LEFT + 10, colour, LEFT + 34, escape(name), y=TOP + 14 + 16 * row, t=TOP + 18 + 16 * row)
            for row, (name, colour) in enumerate(self._legend)
        ]
        return Markup("").join(rows)


def _points(frame: pd.DataFrame, x: str, y: str) -> list[Point]:
    return list(zip(frame[x].astype(float), frame[y].astype(float), strict=True))


def _round_up(value: float) -> float:
    """End of an axis that gives five round steps."""
    step = max(value / 5, 0.002)
    power = 10.0 ** math.floor(math.log10(step))
    return 5 * power * next(factor for factor in (1, 2, 2.5, 4, 5, 10) if factor * power >= step * (1 - 1e-9))


def roc(frame: pd.DataFrame, point: Point | None) -> Markup:
    """ROC curve; `point` is (fpr, tpr) at the threshold."""
    chart = Chart("ROC curve: recall against false positive rate", "False positive rate", "Recall (true positive rate)")
    chart.line([(0, 0), (1, 1)], MUTED, dashed=True)
    chart.line(_points(thin(frame), "fpr", "tpr"), BLUE)
    if point is not None:
        chart.dot(point, ORANGE, note=f"At the threshold: false positive rate {point[0]:.4f}, recall {point[1]:.4f}")
    return chart.svg()


def precision_recall(frame: pd.DataFrame, prevalence: float, point: Point | None) -> Markup:
    """Precision-recall curve; `point` is (recall, precision) at the threshold."""
    chart = Chart("Precision against recall", "Recall", "Precision")
    chart.line([(0, prevalence), (1, prevalence)], MUTED, dashed=True)
    chart.line(_points(thin(frame), "recall", "precision"), BLUE)
    if point is not None:
        chart.dot(point, ORANGE, note=f"At the threshold: recall {point[0]:.4f}, precision {point[1]:.4f}")
    return chart.svg()


def reliability(frame: pd.DataFrame) -> Markup:
    """Observed share of fakes against the mean score of each bin, with 95 % intervals."""
    title = "Reliability: observed share of AI-generated against score"
    chart = Chart(title, "Mean score of the bin", "Share that is AI-generated")
    chart.line([(0, 0), (1, 1)], MUTED, dashed=True)
    for row in frame.itertuples():
        chart.line([(row.mean_score, row.low), (row.mean_score, row.high)], BLUE)
        chart.dot(
            (row.mean_score, row.fake_share),
            BLUE,
            note=f"{row.images} images, mean score {row.mean_score:.3f}, share of fakes {row.fake_share:.3f}",
        )
    return chart.svg()


def risk_coverage(frame: pd.DataFrame) -> Markup:
    """Error rate among the most certain images."""
    top = _round_up(float(frame["risk"].max()) if len(frame) else 0.0)
    chart = Chart("Error rate when only the most certain images are decided", "Coverage", "Error rate", y=(0.0, top))
    chart.line(_points(thin(frame), "coverage", "risk"), BLUE)
    return chart.svg()


def histogram(real: Sequence[float], fake: Sequence[float], thresholds: Sequence[float], *, bins: int = 20) -> Markup:
    """Scores of both classes, each as shares of its own images, with the thresholds."""
    series = []
    for values, colour, name in ((real, BLUE, "Real photographs"), (fake, ORANGE, "AI-generated")):
        counts = [0] * bins
        for value in values:
            counts[min(int(value * bins), bins - 1)] += 1
        series.append(([count / max(len(values), 1) for count in counts], counts, colour, name))
    top = _round_up(1.25 * max(max(shares) for shares, *_ in series))  # the legend stands above the columns
    chart = Chart("Scores of both classes", "Score (probability of AI-generated)", "Share of the class", y=(0, top))
    for shares, counts, colour, name in series:
        chart.key(name, colour)
        for index, share in enumerate(shares):
            if counts[index]:
                chart.bar((index / bins, (index + 1) / bins), share, colour, note=f"{name}: {counts[index]} images")
    for threshold in thresholds:
        chart.line([(threshold, 0), (threshold, top)], INK, dashed=True)
    return chart.svg()
