"""An evaluation from labelled images to files: what `reality-check evaluate` does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from dashboard import report
from model import metrics
from model.audit import audit
from model.checkpoint import Hashes
from model.dataset import LabelledSet
from model.detector import Detector
from model.results import ImageResult, to_frame, write_csv, write_parquet
from model.tiers import tier

_CHUNK = 256  # results turned into table rows at a time; evidence maps are dropped there


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
    **options: Any,
) -> Evaluation:
    """Compute figures and audit.

    Parameters
    ----------
    delivery : str
        Evaluation tier the images were judged as; stated in the figures.
    training : pair of ndarray, optional
        See `model.audit.audit`.
    **options
        Of `model.metrics.evaluate`, whose errors are raised.
    """
    findings = [finding.to_dict() for finding in audit(labelled, predictions, training=training)]
    figures = metrics.evaluate(predictions, audit=findings, **options)
    figures["protocol"]["tier"] = delivery
    return Evaluation(figures, predictions)


def write(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write `metrics.json`, `predictions.csv`, `predictions.parquet` and `report.html`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("metrics.json", "predictions.csv", "predictions.parquet", "report.html")]
    paths[0].write_text(json_text(evaluation.metrics), "utf-8")
    write_csv(evaluation.predictions, paths[1])
    write_parquet(evaluation.predictions, paths[2])
    paths[3].write_text(report.render(evaluation.metrics, evaluation.predictions), "utf-8")
    return paths


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
    wanted = {
        "accuracy": "Accuracy",
        "balanced_accuracy": "Balanced accuracy",
        "precision": "Precision",
        "recall": "Recall",
        "specificity": "Specificity",
        "f1": "F1",
        "roc_auc": "ROC AUC",
        "average_precision": "Average precision",
        "eer": "Equal error rate",
        "ece": "Calibration error",
    }
    lines += [f"  {title:<26}{rate_text(figures[name])}" for name, title in wanted.items()]
    for target, entry in figures["tpr_at_fpr"].items():
        lines.append(f"  {f'Recall at {float(target):.1%} FPR':<26}{rate_text(entry)}")
    lines += [f"{entry['code']} ({entry['severity']}): {entry['title']}" for entry in figures["audit"]]
    return "\n".join(lines)


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
