"""Measurements held against targets, as Markdown."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model.accuracy._figures import Figure, entries, exact
from model.accuracy._measure import MIN_SOURCE, TOLERANCE
from model.checkpoint import DEFAULT
from model.deliveries import DELIVERIES
from model.tiers import TIERS

_WORST = 10  # pairs of sources that are listed


@dataclass(frozen=True)
class Target:
    """A figure and what it must be.

    Attributes
    ----------
    figure : str
        Where it is in a measurement, parts separated by `/`.
    must : float
    most : bool
        Whether `must` is an upper limit; otherwise it is a lower one.
    unit : {"%", "", "MB"}
        How it is said; shares are held as numbers in [0, 1].
    checkpoint : str or None
        The one it is set for; None is every one.
    """

    title: str
    figure: str
    must: float
    most: bool = False
    unit: str = "%"
    checkpoint: str | None = None

    def met(self, value: float) -> bool:
        """Whether a value is good enough."""
        return value <= self.must if self.most else value >= self.must


TARGETS = (
    Target("Accuracy, test", "tiers/clean/accuracy", 0.975, checkpoint=DEFAULT),
    Target("ROC AUC, test", "tiers/clean/roc_auc", 0.997, unit="", checkpoint=DEFAULT),
    Target("Accuracy at p = 0.5, test", "at_half/clean/accuracy", 0.9685, checkpoint="resnet50"),
    Target("Precision at p = 0.5, test", "at_half/clean/precision", 0.9475, checkpoint="resnet50"),
    Target("Recall at p = 0.5, test", "at_half/clean/recall", 0.9416, checkpoint="resnet50"),
    Target("F1 at p = 0.5, test", "at_half/clean/f1", 0.9445, checkpoint="resnet50"),
    Target("ROC AUC, leave-one-out: mean", "leave_one_out/roc_auc/mean", 0.95, unit=""),
    Target("ROC AUC, leave-one-out: worst fold", "leave_one_out/roc_auc/worst", 0.85, unit=""),
    Target("Found at 1 % false alarms, leave-one-out: mean", "leave_one_out/tpr_at_1_percent_fpr/mean", 0.70),
    Target("Found at 1 % false alarms, leave-one-out: worst fold", "leave_one_out/tpr_at_1_percent_fpr/worst", 0.35),
    *(
        Target(f"False alarms, unseen photographs, {name}: {which}", f"unseen_real/{name}/{key}", must, most=True)
        for name in TIERS
        for which, key, must in (("mean of sources", "mean", 0.02), ("worst source", "worst", 0.06))
    ),
    Target("Balanced accuracy lost from clean to hard", "lost", 0.05, most=True),
    Target("Calibration error, clean", "tiers/clean/ece", 0.03, most=True),
    Target("Calibration error, hard", "tiers/hard/ece", 0.05, most=True),
    Target("Verdict flips between real and fake over 8 deliveries", "deliveries/flipped", 0.03, most=True),
    Target("Not applicable on pictures without a face", "not_applicable/no_face", 0.95),
    Target("Not applicable on test faces, wrongly", "not_applicable/faces", 0.02, most=True),
    Target("Weights together", "weights/together", 200.0, most=True, unit="MB"),
    Target("Largest file of weights", "weights/largest", 95.0, most=True, unit="MB"),
)
_AT_HALF = {"accuracy": "Accuracy", "precision": "Precision", "recall": "Recall", "f1": "F1"}
_ROWS = (  # title, figure within a tier, unit
    ("Accuracy", "accuracy", "%"),
    ("Balanced accuracy", "balanced_accuracy", "%"),
    ("AI-generated found (recall)", "recall", "%"),
    ("Photographs flagged (false alarms)", "fpr", "%"),
    ("Precision", "precision", "%"),
    ("F1", "f1", "%"),
    ("ROC AUC", "roc_auc", ""),
    ("Found at 1 % false alarms", "tpr_at_fpr/0.01", "%"),
    ("Calibration error (ECE)", "ece", "%"),
    ("Pictures given a verdict", "coverage", "%"),
    ("Verdicts that were right", "decided/accuracy", "%"),
)


def page(found: Sequence[Mapping[str, Any]]) -> str:
    """Measurements as a Markdown page: targets, then the figures behind them, checkpoint by checkpoint."""
    return "\n\n".join([introduction(found), *(_section(entry) for entry in found)]) + "\n"


def introduction(found: Sequence[Mapping[str, Any]]) -> str:
    """What stands above the measurements: how to read them, and what is known of the pictures if they are our own."""
    own = any(is_own(entry["tiers"]["clean"].get("groups") or {}) for entry in found)
    return f"{_INTRODUCTION}\n\n{TEST_PICTURES} {_FRAMES}" if own else _INTRODUCTION


def is_own(sources: Iterable[str]) -> bool:
    """Whether labelled pictures are the test pictures of the bundled checkpoints, by the names of their sources."""
    return {"ffpp", "k140_test"} <= set(sources)


def targets(found: Mapping[str, Any]) -> list[tuple[Target, Figure | None]]:
    """The targets that hold for a measured checkpoint, each with its figure; None where it was not measured."""
    own = [target for target in TARGETS if target.checkpoint in (None, found["checkpoint"])]
    return [(target, _at(found, target.figure)) for target in own]


def met(target: Target, figure: Figure | None) -> str:
    """`yes`, `no` or `not measured`.

    >>> met(Target("Accuracy", "accuracy", 0.9), {"value": 0.95, "low": 0.88, "high": 0.97})
    'yes'
    """
    if figure is None or figure["value"] is None:
        return "not measured"
    return "yes" if target.met(figure["value"]) else "no"


def said(figure: Figure | None, unit: str = "%") -> str:
    """A figure with its interval.

    >>> said({"value": 0.9685, "low": 0.95, "high": 0.98}), said({"value": 0.5, "low": None, "high": None}, "")
    ('96.85 % [95.00, 98.00]', '0.5000')
    """
    if figure is None:
        return "not measured"
    if figure["value"] is None:
        return f"not defined: {figure.get('reason', '')}"
    scale, digits = {"%": (100, 2), "": (1, 4), "MB": (1, 1)}[unit]
    text = f"{figure['value'] * scale:.{digits}f} {unit}".strip()
    if figure.get("low") is not None:
        text += f" [{figure['low'] * scale:.{digits}f}, {figure['high'] * scale:.{digits}f}]"
    return f"{text} ({figure['of'].replace('_', ' ')})" if "of" in figure else text


_INTRODUCTION = """\
<!-- Written by `reality-check measure`; measure again instead of editing. -->

# Measured accuracy

What each checkpoint does on faces that it was not trained on, with 95 % intervals in brackets: Wilson's for shares of
pictures, a bootstrap for all other figures; means over sources and differences are recovered from the intervals of
their parts. Each picture counts as independent, and the interval of a leave-one-out mean is for other pictures of the
same generators, not for other generators. *Clean* are the pictures as they are, *web* copies of at most 768 px and JPEG
60, *hard* copies of at most 512 px and JPEG 40. At the checkpoint's own threshold a picture is either flagged as
AI-generated or not: an AI-generated face that was found inconclusive counts as missed, a photograph that was found
inconclusive as right. At p = 0.5 nothing is inconclusive; these figures stand beside those of classifiers that know no
other threshold, and their targets are what was published for an earlier ResNet-50 classifier on its own pictures. A
target is met by the figure itself, not by its interval. The targets for false alarms on unseen photographs check the
threshold and do not test it: it was set on these same photographs. Each section names the runtime and precision that it
was measured in; the application computes in fp32 unless told otherwise, and `docs/runtimes.md` says how far bf16 is
from that."""

TEST_PICTURES = (
    "`test` are other pictures of the sources in training: 256 px squares cut to the face, prepared alike for both "
    "labels. Their web and hard copies are the same saved again as JPEG 60 and 40; none was large enough to be made "
    "smaller. Whole photographs as cameras and social networks deliver them were not measured."
)
_FRAMES = (
    "The pictures of ffpp are frames of few videos (40 photographs of 4, 120 manipulated ones of 25): their intervals "
    "are too narrow."
)


APART = (
    "The intervals of the leave-one-out means take the folds as independent, though they share photographs, and are "
    "too narrow."
)


def _section(found: Mapping[str, Any]) -> str:
    limits = found["thresholds"]
    clean = found["tiers"]["clean"]
    part = f" They are a random part: at most {found['limit']} of each set." if found["limit"] else ""
    rows = [
        (target.title, _must(target), said(figure, target.unit), met(target, figure))
        for target, figure in targets(found)
    ]
    tiers = [
        (title, *(said(_at(found, f"tiers/{name}/{key}"), unit) for name in TIERS)) for title, key, unit in _ROWS
    ] + [
        (f"{title} at p = 0.5", *(said(found["at_half"][name][key]) for name in TIERS))
        for key, title in _AT_HALF.items()
    ]
    parts = [
        f"## `{found['checkpoint']}`",
        f"SHA-256 `{found['checkpoint_sha256']}`, {found['runtime']}, version {found['version']}. AI-generated from "
        f"p = {limits['fake']:.4f}, real up to p = {limits['real']:.4f}. Measured on {clean['n_real']:,} photographs "
        f"and {clean['n_fake']:,} AI-generated faces that were scored.{part}",
        _table(("Target", "Must be", "Measured", "Met"), rows),
        *([APART] if found["leave_one_out"] and not found["leave_one_out"]["together"] else []),
        "### Three tiers",
        _table(("", *TIERS), tiers),
        *_deliveries_section(found["deliveries"]),
        *_not_applicable_section(found["not_applicable"]),
        *_manipulated_section(found["manipulated"]),
        *_real_vs_real_section(found["real_vs_real"]),
        *_unseen_section(found["unseen_real_sources"]),
    ]
    return "\n\n".join(parts)


def _deliveries_section(found: Mapping[str, Any]) -> list[str]:
    kept = "" if found["kept_mean"] is None else f" On average {found['kept_mean']:.2f} of 8 copies keep the verdict."
    flips = ", ".join(f"{said(figure)} of the {name}" for name, figure in found["flipped_by_label"].items())
    rows = [
        (name, (inspect.getdoc(DELIVERIES[name]) or "").removesuffix("."), said(share))
        for name, share in found["kept"].items()
    ]
    return [
        "### Eight deliveries",
        f"{found['pictures']} test pictures that had a verdict, as they are or in a copy, were passed on in eight ways."
        f" {said(found['flipped'])} of them were called real in one copy and AI-generated in another ({flips}).{kept} "
        "*Inconclusive* that stays so counts as kept.",
        _table(("Delivery", "What it does", "Verdict kept"), rows),
    ]


def _not_applicable_section(found: Mapping[str, Any]) -> list[str]:
    verdicts = found.get("no_face_verdicts", {})
    judged = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in verdicts.items())
    rows = [
        ("Pictures without a face" + (f" ({judged})" if judged else ""), said(found["no_face"])),
        ("Test faces, wrongly", said(found["faces"])),
        *((f"Test faces shrunk to {size} px", said(share)) for size, share in found["tiny"].items()),
    ]
    return ["### Not applicable", _table(("Pictures", "Not applicable"), rows)]


def _manipulated_section(found: Mapping[str, Any] | None) -> list[str]:
    title = "### Face swaps and edits"
    if found is None:
        return [title, "Not measured."]
    rows = [
        (
            name.replace("_", " "),
            str(kind["images"]),
            said(kind.get("recall")),
            str(kind["inconclusive"]),
            said(kind.get("roc_auc"), ""),
            "" if kind["median_p_fake"] is None else f"{kind['median_p_fake']:.4f}",
        )
        for name, kind in found.items()
    ]
    head = ("Kind", "Pictures", "Flagged", "Inconclusive", "ROC AUC against test photographs", "Median p")
    return [title, "Never trained as AI-generated and in no other figure on this page.", _table(head, rows)]


def _real_vs_real_section(found: Mapping[str, Any]) -> list[str]:
    title, pairs = "### Photographs against photographs", found["pairs"]
    if not pairs:
        return [title, f"Not measured: it takes two sources of at least {MIN_SOURCE} photographs."]
    rows = [(pair["higher"], pair["lower"], said(pair["roc_auc"], "")) for pair in pairs[:_WORST]]
    return [
        title,
        f"The score should not tell sources of photographs apart. Of {len(pairs)} pairs with at least {MIN_SOURCE} "
        f"photographs each, {found['within']} have an AUC within 0.5 ± {TOLERANCE:g}. The farthest:",
        _table(("Looks more AI-generated", "than", "ROC AUC"), rows),
    ]


def _unseen_section(found: Mapping[str, Any] | None) -> list[str]:
    title = "### Photographs of kinds that were not in training"
    sources = entries(found)
    if not sources:
        return [title, "Not measured."]
    rows = [
        (name.replace("_", " "), str(next(iter(rates.values()))["n"]), *(said(rates.get(tier)) for tier in TIERS))
        for name, rates in sources.items()
    ]
    text = (
        "Share flagged as AI-generated at the threshold, each source by a detector that never saw it in training. The "
        "threshold had to keep 1 % on all of these pictures together, too."
    )
    return [title, text, _table(("Source", "Photographs", *TIERS), rows)]


def _must(target: Target) -> str:
    limit = said(exact(target.must), target.unit)
    return f"{'at most' if target.most else 'at least'} {limit}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)


def _at(found: Mapping[str, Any], path: str) -> Figure | None:
    entry: Any = found
    for part in path.split("/"):
        entry = entry.get(part) if isinstance(entry, Mapping) else None
    return entry
