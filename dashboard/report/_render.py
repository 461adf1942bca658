"""Fill the report's template from a metrics dictionary and its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dashboard import words
from dashboard.report import _svg
from model import metrics
from model.dataset import LABELS

WORST = 12  # shown of each kind of error
OUTCOME_TITLES = {
    "fake": "AI-generated",
    "real": "Real photograph",
    "inconclusive": "Inconclusive",
    "not_applicable": "Not applicable",
    "error": "Not readable",
}
_ABBREVIATIONS = frozenset({"aurc", "ece", "eer", "fpr", "ppv", "sha256", "tpr"})
FIGURES = (  # key, title, meaning, whether it is a share
    ("accuracy", "Accuracy", "right among all scored images", True),
    ("balanced_accuracy", "Balanced accuracy", "mean of recall and specificity", True),
    ("precision", "Precision", "AI-generated among the flagged; depends on their share in the set", True),
    ("recall", "Recall", "flagged among the AI-generated", True),
    ("specificity", "Specificity", "not flagged among the real", True),
    ("fpr", "False positive rate", "flagged among the real", True),
    ("f1", "F1", "harmonic mean of precision and recall", True),
    ("roc_auc", "ROC AUC", "chance that an AI-generated image scores above a real one", False),
    ("average_precision", "Average precision", "area under the precision-recall curve", False),
    ("eer", "Equal error rate", "where both kinds of error are equally frequent", True),
    ("ece", "Calibration error (ECE)", "mean distance between score and observed share", True),
    ("brier", "Brier score", "mean squared error of the score", False),
    ("aurc", "AURC", "mean error rate as the most certain images are kept", False),
)

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(figures: Mapping[str, Any], predictions: pd.DataFrame) -> str:
    """Write an evaluation as one self-contained HTML page, without any part of an image.

    Parameters
    ----------
    figures : dict
        As `model.metrics.evaluate` returns it (or read back from `metrics.json`).
    predictions : DataFrame
        The results it was computed from.

    Returns
    -------
    str
        The page; write it as UTF-8. The same results give the same bytes.
    """
    scored = metrics.Scored.from_results(predictions, group_by=())
    findings = figures["audit"]
    severities = [finding["severity"] for finding in findings]
    return _environment.get_template("report.html.j2").render(
        m=figures,
        findings=findings,
        counts={name: severities.count(name) for name in ("severe", "warning") if name in severities},
        figures=[
            {"title": name, "meaning": meaning, "figure": rate(figures[key], share=share)}
            for key, name, meaning, share in FIGURES
        ],
        operating=[(float(key), entry) for key, entry in figures["tpr_at_fpr"].items()],
        outcome_titles=OUTCOME_TITLES,
        labels=LABELS,
        charts=_charts(figures, scored),
        errors=_worst(scored, figures["threshold"]),
        limits=limits(figures),
        honest_use=words.HONEST_USE,
        one_class=words.ONE_CLASS,
        rate=rate,
        heading=_heading,
        plain=_plain,
    )


def rate(entry: Mapping[str, Any], *, share: bool = True) -> str:
    """A figure and its interval as text, or why there is none.

    >>> rate({"value": 0.9612, "low": 0.95, "high": 0.9701})
    '96.1 % (95.0 to 97.0)'
    >>> rate({"value": 0.9612, "low": 0.95, "high": 0.9701}, share=False)
    '0.961 (0.950 to 0.970)'
    >>> rate({"value": None, "low": None, "high": None, "reason": "no real images"})
    'not defined: no real images'
    """
    if entry["value"] is None:
        return f"not defined: {words.reason(entry)}"
    scale, digits, unit = (100, 1, " %") if share else (1, 3, "")
    text = f"{entry['value'] * scale:.{digits}f}{unit}"
    if entry["low"] is None:
        return f"{text} ({entry['reason']})" if entry.get("reason") else text
    return f"{text} ({entry['low'] * scale:.{digits}f} to {entry['high'] * scale:.{digits}f})"


def limits(figures: Mapping[str, Any]) -> list[str]:
    """What this evaluation cannot show, in sentences made from its own counts."""
    n_real, n_fake, images = figures["n_real"], figures["n_fake"], figures["images"]
    found = [
        "The figures hold for images like those in this set. Generators, cameras, edits and delivery channels that "
        "are not in it can give other error rates, usually worse ones."
    ]
    if not n_real or not n_fake:
        found.append("Only one class could be scored: nothing is known about how well the two are told apart.")
    if 0 < n_real < 1000:
        found.append(
            f"False alarms were counted on {n_real:,} real photographs. Even if none had been flagged, the false "
            f"positive rate could be up to {100 * metrics.wilson(0, n_real).high:.2g} % "  # type: ignore[operator]
            "(upper end of the 95 % interval)."
        )
    left_out = images - figures["n"]
    if left_out:
        found.append(
            f"{left_out:,} of {images:,} images ({100 * left_out / images:.1f} %) have no score and are in none of the "
            "rates. If they are harder than the others, the rates flatter the detector."
        )
    if not figures["groups"]:
        found.append("The set names no groups (generators, sources), so a weak spot can hide behind the average.")
    found.append(
        "Precision depends on how many AI-generated images there are. Where they are rarer than in this set, more of "
        "the flagged images are real."
    )
    found.append(str(figures["protocol"]["independence"]).capitalize() + ".")
    return found


def _heading(name: str) -> str:
    """The name of a field as a heading.

    >>> _heading("tpr_at_fpr"), _heading("data_digest")
    ('TPR at FPR', 'Data digest')
    """
    text = " ".join(part.upper() if part in _ABBREVIATIONS else part for part in name.split("_"))
    return text[:1].upper() + text[1:]


def _plain(value: object) -> str:
    """A field of the protocol as text.

    >>> _plain(["group", "light"]), _plain(None), _plain({"column": "person", "count": 3}), _plain(0.95)
    ('group, light', 'none', 'column person, count 3', '0.95')
    """
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(entry)}" for name, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return str(value)


def _charts(figures: Mapping[str, Any], scored: metrics.Scored) -> list[dict[str, Any]]:
    y, p, images, threshold = scored.y, scored.p, scored.images, figures["threshold"]
    charts: list[dict[str, Any]] = []

    def add(name: str, caption: str, picture: Any) -> None:
        charts.append({"name": name, "caption": caption, "svg": picture})

    if not len(y):
        return charts
    recall, fpr, precision = (figures[key]["value"] for key in ("recall", "fpr", "precision"))
    lines = {threshold}
    if images is not None and "threshold_real" in images:
        lines |= set(pd.to_numeric(images["threshold_real"]).dropna().unique().tolist()[:1])
    add(
        "Scores",
        "Dashed: the thresholds. Each class adds up to 1 on its own.",
        _svg.histogram(p[y == 0].tolist(), p[y == 1].tolist(), sorted(lines)),
    )
    if 0 < y.sum() < len(y):
        add("ROC curve", "Orange: the threshold. Dashed: guessing.", _svg.roc(metrics.roc_frame(y, p), (fpr, recall)))
        point = None if precision is None else (recall, precision)
        add(
            "Precision and recall",
            "Orange: the threshold. Dashed: flagging everything.",
            _svg.precision_recall(metrics.pr_frame(y, p), float(y.mean()), point),
        )
    add(
        "Reliability",
        "Bins of equal mass with 95 % intervals. On the dashed line a score means what it says.",
        _svg.reliability(metrics.reliability_frame(y, p, clusters=scored.clusters)),
    )
    add(
        "Risk and coverage",
        "Error rate if only the most certain images are decided.",
        _svg.risk_coverage(metrics.risk_coverage_frame(y, p, threshold=threshold, unscored=scored.unscored)),
    )
    return charts


def _worst(scored: metrics.Scored, threshold: float) -> list[dict[str, Any]]:
    """The most confident errors of both kinds."""
    images = scored.images
    assert images is not None
    frame = pd.DataFrame(
        {
            "path": images["path"].astype(str),
            "group": images["group"].fillna("").astype(str) if "group" in images else "",
            "p": scored.p,
            "y": scored.y,
        }
    )
    kinds = (
        ("Real photographs that were flagged", frame[(frame["y"] == 0) & (frame["p"] >= threshold)], False),
        ("AI-generated images that were not flagged", frame[(frame["y"] == 1) & (frame["p"] < threshold)], True),
    )
    lists = []
    for name, wrong, ascending in kinds:
        worst = wrong.sort_values(["p", "path"], ascending=[ascending, True]).head(WORST)
        lists.append({"name": name, "total": len(wrong), "rows": worst.to_dict("records")})
    return lists
