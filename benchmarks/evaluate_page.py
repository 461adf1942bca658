"""Server-side work of one move of the threshold on the Evaluate page: `python -m benchmarks.evaluate_page`.

Times what happens between the visitor's move and the figures being ready to send: every figure with its interval, the
gallery's images, the charts of one tab and their JSON. Scores are drawn; nothing is classified.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import model  # noqa: F401 - first, see model/_torchvision.py
from dashboard import charts
from dashboard.measured import Measured
from dashboard.tasks import BulkResult, EvaluationResult, images_of
from dashboard.view import Selection, View
from dashboard.widgets.evaluation import groups as group_widget
from model import metrics
from model.dataset import LabelledSet
from tests.app.synthetic import Plan, predictions_of

LIMIT = 1.0  # seconds


class _Named:
    def __init__(self, name: str) -> None:
        self.name = name


def prepared(rows: int, generators: int) -> Measured:
    """An evaluation of so many images, prepared as the page has it."""
    names = tuple(f"generator-{number:02}" for number in range(generators))
    predictions = predictions_of(Plan(real=rows // 2, fake=rows - rows // 2, generators=names))
    sources = [_Named(name) for name in predictions["path"]]
    figures = metrics.evaluate(predictions, resamples=2)
    figures["protocol"]["resamples"] = 1000  # as a run has it: the lowest cost is resampled in the page
    frame = predictions[["path", "label"]].rename(columns={"path": "name"})
    labelled = LabelledSet(sources, frame, frame.iloc[:0], [])  # type: ignore[arg-type]
    bulk = BulkResult(predictions, images_of(predictions), {}, sources)  # type: ignore[arg-type]
    return Measured(EvaluationResult(bulk, predictions, figures, labelled))


def parts(measured: Measured) -> dict[str, Callable[[View], object]]:
    """What a move of the threshold does, by name."""
    colours, scored = charts.LIGHT, measured.scored

    def errors(view: View) -> object:
        threshold = measured.threshold(view)
        drawn = (
            charts.confusion(scored.confusion(threshold), colours),
            charts.score_histogram(scored.p, scored.y, threshold, colours),
        )
        return [figure.to_json() for figure in drawn]

    def curves(view: View) -> object:
        drawn = (
            charts.roc(measured.roc, (0.1, 0.9), colours),
            charts.detection_error(measured.detection_error, (0.1, 0.1), colours),
            charts.precision_recall(measured.precision_recall, (0.9, 0.9), 0.5, colours),
        )
        return [figure.to_json() for figure in drawn]

    def calibration(view: View) -> object:
        drawn = (
            charts.reliability(measured.reliability, colours),
            charts.risk_coverage(measured.risk_coverage(view), colours),
        )
        return [figure.to_json() for figure in drawn]

    def costs(view: View) -> object:
        drawn = (
            charts.cost_by_threshold(measured.cost_by_threshold(view), (0.5, 0.1), (0.5, 0.1), colours),
            charts.cost_curve(measured.cost_curve, (0.1, 0.1), 0.5, colours),
        )
        return [figure.to_json() for figure in drawn]

    def groups(view: View) -> object:
        threshold = measured.threshold(view)
        frame = scored.group_frame(threshold, "group").sort_values("accuracy")
        scored.groups(threshold, "group")
        return charts.group_bars(frame.head(group_widget.SHOWN), 0.9, colours).to_json()

    return {
        "figures": measured.at,
        "presets": lambda view: measured.presets(measured.at(view)),
        "images": measured.rows,
        "tab Errors": errors,
        "tab Curves": curves,
        "tab Calibration": calibration,
        "tab Costs": costs,
        "tab Groups": groups,
    }


def main() -> None:
    """Print seconds by part and the worst total; exit code 1 above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--groups", type=int, default=40)
    parser.add_argument("--moves", type=int, default=7)
    options = parser.parse_args()
    begun = time.perf_counter()
    measured = prepared(options.rows, options.groups)
    print(f"{options.rows:,} rows, {options.groups} groups; prepared in {time.perf_counter() - begun:.1f} s")
    times: dict[str, list[float]] = {}
    for move in range(options.moves + 1):
        view = View(threshold=0.1 + 0.1 * move + 0.0123, selection=Selection(text="7"))
        for name, work in parts(measured).items():
            start = time.perf_counter()
            work(view)
            if move:  # the first one also computes what is kept
                times.setdefault(name, []).append(time.perf_counter() - start)
            else:
                print(f"  first {name:<18}{1000 * (time.perf_counter() - start):8.0f} ms")
    middle = {name: sorted(values)[len(values) // 2] for name, values in times.items()}
    for name, value in middle.items():
        print(f"  {name:<24}{1000 * value:8.0f} ms")
    always = sum(value for name, value in middle.items() if not name.startswith("tab "))
    worst = max((value, name) for name, value in middle.items() if name.startswith("tab "))
    total = always + worst[0]
    print(f"one move, worst tab ({worst[1].removeprefix('tab ')}): {1000 * total:.0f} ms, limit {1000 * LIMIT:.0f} ms")
    raise SystemExit(total > LIMIT)


if __name__ == "__main__":
    main()
