"""An evaluation from labelled images to files, and two of them side by side: `reality-check evaluate` and `compare`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from dashboard import report, words
from dashboard.tasks import data_digest
from model import metrics
from model.audit import audit
from model.checkpoint import Hashes
from model.dataset import LABELS, LabelledSet
from model.detector import Detector
from model.results import COLUMNS, TEXT_COLUMNS, ImageResult, to_frame, unguard_text, write_csv, write_parquet
from model.tiers import tier

PREDICTIONS = ("predictions.parquet", "predictions.csv")
_MEASURED = ("metrics.json", "report.html")
_NUMBERS = frozenset(COLUMNS) - {*TEXT_COLUMNS, "label"}
_CHUNK = 256  # results turned into table rows at a time; evidence maps are dropped there
_SHOWN = 10  # images that are named in a comparison
_TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "specificity": "Specificity",
    "fpr": "False positive rate",
    "f1": "F1",
    "roc_auc": "ROC AUC",
    "average_precision": "Average precision",
    "eer": "Equal error rate",
    "ece": "Calibration error",
    "brier": "Brier score",
    "aurc": "Area under risk-coverage",
}
_LEFT_OUT = {
    "only_in_a": "Only in A",
    "only_in_b": "Only in B",
    "labels_differ": "Labels differ",
    "unscored": "Without a score",
}


@dataclass(frozen=True)
class Evaluation:
    """Figures and the predictions behind them.

    Attributes
    ----------
    metrics : dict
        As written to `metrics.json`; see `model.metrics.evaluate`.
    predictions : DataFrame
        Columns of `model.results.COLUMNS`, with `label`, `group`, `source` and the manifest's own columns.
    """

    metrics: dict[str, Any]
    predictions: pd.DataFrame


def predict(
    detector: Detector,
    labelled: LabelledSet,
    *,
    delivery: str = "clean",
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Classify a labelled set as evaluation tier `delivery` brings it (`model.tiers`).

    Parameters
    ----------
    progress : callable, optional
        Called with (images done, all images).
    """
    frames: list[pd.DataFrame] = []
    chunk: list[ImageResult] = []
    transform = None if delivery == "clean" else partial(tier, name=delivery)
    results = detector.classify_many(labelled.sources, batch_size=batch_size, transform=transform)
    for done, result in enumerate(results, start=1):
        chunk.append(result)
        if len(chunk) >= _CHUNK:
            frames.append(to_frame(chunk))
            chunk = []
        if progress is not None:
            progress(done, len(labelled))
    if chunk:
        frames.append(to_frame(chunk))
    return labelled.attach(pd.concat(frames, ignore_index=True))


def measure(
    labelled: LabelledSet,
    predictions: pd.DataFrame,
    *,
    delivery: str = "clean",
    training: tuple[Hashes, Hashes] | None = None,
    step: Callable[[], object] | None = None,
    **options: Any,
) -> Evaluation:
    """Compute figures and audit.

    Parameters
    ----------
    delivery : str
        Evaluation tier the images were judged as; stated in the figures.
    training : pair of ndarray, optional
    step : callable, optional
        See `model.audit.audit`.
    **options
        Of `model.metrics.evaluate`, whose errors are raised.
    """
    findings = [finding.to_dict() for finding in audit(labelled, predictions, training=training, step=step)]
    figures = metrics.evaluate(predictions, audit=findings, **options)
    figures["protocol"]["tier"] = delivery
    if "sha256" in predictions:
        figures["protocol"]["data_digest"] = data_digest(predictions[["path", "sha256"]])
    return Evaluation(figures, predictions)


def check_columns(labelled: LabelledSet, group_by: Sequence[str], cluster_by: str | None) -> None:
    """Refuse columns that `measure` could not group or cluster by, before the work.

    Raises
    ------
    model.metrics.MetricsError
        If the predictions will not have one, or the set leaves the one to cluster by empty.
    """
    known = [name for name in COLUMNS if name not in ("label", "source")]  # of the results, which are not there yet
    seen = labelled.attach(pd.DataFrame({"path": labelled.frame["name"]}).reindex(columns=known))
    for column in (*group_by, *([cluster_by] if cluster_by is not None else [])):
        if column not in seen:
            offered = ", ".join(["format", *(name for name in seen if name not in known)])
            raise metrics.MetricsError(f"There is no column {column!r} to compare images by; there are {offered}.")
    if cluster_by is not None and cluster_by not in known:
        values = seen[cluster_by]
        if not (values.notna() & (values.astype(str) != "")).any():
            raise metrics.MetricsError(f"The column {cluster_by!r} to cluster by is empty.")


def prepare_folder(folder: Path) -> None:
    """Make the folder for the results; `OSError` with its name if nothing can be written there."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".probe"
    probe.touch()
    probe.unlink()


def write_predictions(predictions: pd.DataFrame, folder: Path) -> list[Path]:
    """Write `predictions.parquet` and `predictions.csv`; returns their paths. What was measured on others goes."""
    for name in _MEASURED:
        (folder / name).unlink(missing_ok=True)
    paths = [folder / name for name in PREDICTIONS]
    write_parquet(predictions, paths[0])
    write_csv(predictions, paths[1])
    return paths


def write_figures(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write `metrics.json` and `report.html`; returns their paths."""
    paths = [folder / name for name in _MEASURED]
    paths[0].write_text(json_text(evaluation.metrics), "utf-8")
    paths[1].write_text(report.render(evaluation.metrics, evaluation.predictions), "utf-8")
    return paths


def read_predictions(path: Path) -> pd.DataFrame:
    """Predictions as `write_predictions` wrote them: the table itself, or the folder that holds it.

    Raises
    ------
    model.metrics.MetricsError
        If there is no such table, or it does not say which image each row is of.
    """
    found = next((path / name for name in PREDICTIONS if (path / name).is_file()), path)
    if not found.is_file():
        raise metrics.MetricsError(f"{path}: there is no table of predictions. Make one with `evaluate --out FOLDER`.")
    try:
        table = _read_table(found)
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise metrics.MetricsError(f"{found}: cannot be read as a table of predictions ({error}).") from error
    if "path" not in table:
        raise metrics.MetricsError(f"{found}: is no table of predictions, as it has no column 'path'.")
    return table


def _read_table(path: Path) -> pd.DataFrame:
    if path.suffix.lower() in (".parquet", ".pq"):
        table = pd.read_parquet(path)
        return table.assign(**{name: pd.to_numeric(table[name]) for name in table if name in _NUMBERS})
    # As text, then through Python's own float: pandas' parser is fast rather than exact.
    table = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""]).rename(columns=unguard_text)
    numbers = [name for name in table if name in _NUMBERS]
    for name in table:
        table[name] = table[name].map(float if name in numbers else unguard_text, na_action="ignore")
    return table.astype(dict.fromkeys(numbers, "float64"))


def json_text(figures: dict[str, Any]) -> str:
    """Metrics as JSON text that every parser reads: no NaN, keys as computed."""
    return json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def summary(figures: dict[str, Any]) -> str:
    """Figures as a few lines for a terminal."""
    (tn, fp), (fn, tp) = figures["confusion_matrix"]
    lines = [
        f"{figures['images']:,} images, {figures['n']:,} judged ({figures['n_real']:,} real, {figures['n_fake']:,} "
        f"fake); {figures['not_applicable']:,} not applicable, {figures['errors']:,} unreadable.",
        f"At threshold {figures['threshold']:.3f}: {tn:,} real kept, {fp:,} real flagged, {fn:,} fake missed, "
        f"{tp:,} fake found.",
    ]
    lines += [f"  {title:<26}{rate_text(figures[name])}" for name, title in _TITLES.items() if name in figures]
    for target, entry in figures["tpr_at_fpr"].items():
        lines.append(_at_fpr(target, entry))
    if (prevalence := figures["ppv"].get("prevalence")) is not None:
        lines += [
            f"Where {words.rate(prevalence)} of the images are fake:",
            f"  {'Flagged ones that are fake':<26}{rate_text(figures['ppv'])}",
            f"  {'Passed ones that are real':<26}{rate_text(figures['npv'])}",
            f"  {'Mean cost per image':<26}{rate_text(figures['cost']['at_threshold'])}",
        ]
    lines += [f"{entry['code']} ({entry['severity']}): {entry['title']}" for entry in figures["audit"]]
    return "\n".join(lines)


def comparison_text(comparison: metrics.Comparison) -> str:
    """Two runs side by side as a few lines for a terminal."""
    figures = comparison.figures
    agreement = figures["agreement"]
    lines = [
        f"{figures['n']:,} images in both ({figures['n_real']:,} real, {figures['n_fake']:,} fake), matched by "
        f"{figures['matched_by']}."
    ]
    for name, title in _LEFT_OUT.items():
        if count := figures["left_out"][name]["count"]:
            lines.append(f"  {title:<26}{count:,}, such as {figures['left_out'][name]['names'][0]}")
    lines += [
        f"At thresholds {figures['threshold_a']:.3f} and {figures['threshold_b']:.3f}: both right "
        f"{agreement['both_right']:,}, only A {agreement['only_a']:,}, only B {agreement['only_b']:,}, neither "
        f"{agreement['neither']:,}.",
        " ".join(filter(None, words.errs_less(figures))),
        "A less B:",
    ]
    for name, rate in figures["differences"].items():
        kind, _, target = name.partition(" ")
        lines.append(_at_fpr(target, rate) if target else f"  {_TITLES[kind]:<26}{rate_text(rate)}")
    apart = comparison.images[comparison.images["disagree"]]
    lines.append(f"Flagged by one alone: {len(apart):,} images.")
    for row in apart.head(_SHOWN).itertuples():
        lines.append(f"  {row.path}: {LABELS[row.label]}, A {row.p_a:.4f}, B {row.p_b:.4f}")
    if len(apart) > _SHOWN:
        lines.append(f"  and {len(apart) - _SHOWN:,} more")
    return "\n".join(lines)


def _at_fpr(target: str, entry: dict[str, Any]) -> str:
    return f"  {f'Recall at {float(target):.1%} FPR':<26}{rate_text(entry)}"


def rate_text(entry: dict[str, Any]) -> str:
    """A figure and its interval.

    >>> rate_text({"value": 0.9, "low": 0.8, "high": 0.95})
    '0.9000  [0.8000, 0.9500]'
    """
    if entry["value"] is None:
        return f"undefined: {entry.get('reason', 'not enough data')}"
    if entry.get("low") is None:
        return f"{entry['value']:.4f}"
    return f"{entry['value']:.4f}  [{entry['low']:.4f}, {entry['high']:.4f}]"
