"""Model cards: written from a checkpoint's header, so that card and header cannot disagree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from model.checkpoint import KEY, CheckpointInfo, read_info

RATES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "precision": "Precision (fake)",
    "recall": "Recall (fake)",
    "specificity": "Specificity",
    "fpr": "False positive rate",
    "f1": "F1 (fake)",
    "roc_auc": "ROC AUC",
    "average_precision": "Average precision",
    "eer": "Equal error rate",
    "ece": "Expected calibration error",
    "brier": "Brier score",
}
_KEPT = (
    *("n", "n_real", "n_fake", "abstained", "errors", "threshold", "confusion_matrix", "outcomes"),
    *("coverage", "decided", "tpr_at_fpr", *RATES),
)


def attach(path: Path, measured: dict[str, Path]) -> CheckpointInfo:
    """Put figures into a checkpoint's header and rewrite its card.

    Parameters
    ----------
    path : Path
        The checkpoint; its weights stay as they are.
    measured : dict of str to Path
        Name of a measurement (e.g. `test`, `test_hard`) -> the metrics.json that `reality-check evaluate` wrote.

    Raises
    ------
    ValueError
        If a metrics file was measured with another checkpoint.
    """
    info = read_info(path)
    header = dict(info.header)
    metrics = dict(header["metrics"])
    for name, file in measured.items():
        figures = json.loads(file.read_text("utf-8"))
        metrics[name] = {key: figures[key] for key in _KEPT if key in figures}
        metrics[name]["groups"] = figures.get("groups", {})
    header["metrics"] = metrics
    with safe_open(path, framework="pt") as stream:
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
    save_file(tensors, path, metadata={KEY: json.dumps(header, ensure_ascii=False, sort_keys=True)})
    info = read_info(path)
    info.card.write_text(render(info), "utf-8")
    return info


def render(info: CheckpointInfo) -> str:
    """The card of a checkpoint as Markdown."""
    header = info.header
    thresholds = header["thresholds"]
    parts = [
        f"# {header['name']}\n",
        f"Architecture `{header['architecture']}` {_options(header['options'])}, created {header['created']}. "
        f"Licence: {header['licence']}. {header['origin'][:1].upper()}{header['origin'][1:]}.\n",
        "## What it does\n",
        "Judges one face crop as photographed (`real`) or AI-generated (`fake`). The logit is a bias plus one signed "
        "contribution per image cell, so that every decision has an exact account by facial region.\n",
        f"Calibration: temperature {header['temperature']:.3f}, bias {header['calibration_bias']:+.3f}. Verdict *fake* "
        f"from p = {thresholds['fake']:.3f}, *real* up to p = {thresholds['real']:.3f}, inconclusive between. "
        + (
            f"The threshold for *fake* keeps false alarms on validation photographs at or below "
            f"{thresholds['fpr']:.0%} in the worst of the clean, web and hard tiers.\n"
            if thresholds.get("fpr") is not None
            else "\n"
        ),
        "## Measured\n",
        *_measured(header["metrics"]),
        "## Trained on\n",
        *_training(header["training"]),
        "## Not for\n",
        "- Accusing a person of anything: a verdict is one signal, with the error rates above, to be weighed with "
        "others.\n"
        "- Face swaps, retouching and local edits: these were not trained as AI-generated.\n"
        "- Pictures without a face, faces below 64 pixels, drawings and renderings.\n"
        "- Generators and cameras unlike those listed: see the leave-one-out table for how far the figures fall on "
        "sources that were never seen.\n",
        "## Known biases\n",
        "- Many photographs in training are FFHQ, on which StyleGAN generators were themselves trained.\n"
        "- Age, gender and skin tone are not balanced and were not labelled; error rates by group are not known.\n",
    ]
    return "\n".join(parts)


def _options(options: dict[str, Any]) -> str:
    return "(" + ", ".join(f"{key} {value}" for key, value in options.items()) + ")" if options else ""


def _measured(metrics: dict[str, Any]) -> list[str]:
    out = []
    sets = {name: figures for name, figures in metrics.items() if name != "leave_one_out"}
    if sets:
        out.append("| | " + " | ".join(name.replace("_", " ") for name in sets) + " |")
        out.append("|---|" + "---|" * len(sets))
        counts = " | ".join(f"{figures['n_real']} real, {figures['n_fake']} fake" for figures in sets.values())
        out.append(f"| Images judged | {counts} |")
        for key, label in RATES.items():
            if all(key in figures for figures in sets.values()):
                out.append(f"| {label} | " + " | ".join(rate(figures[key]) for figures in sets.values()) + " |")
        for target in ("0.01", "0.005"):
            cells = [rate(figures.get("tpr_at_fpr", {}).get(target)) for figures in sets.values()]
            out.append(f"| Recall at {float(target):.1%} false positives | " + " | ".join(cells) + " |")
        shares = [rate(figures.get("coverage")) for figures in sets.values()]
        out.append("| Verdict given (not inconclusive) | " + " | ".join(shares) + " |")
        right = [rate(figures.get("decided", {}).get("accuracy")) for figures in sets.values()]
        out.append("| Verdicts that were right | " + " | ".join(right) + " |")
        out.append("\n95 % intervals in brackets. Written by `reality-check evaluate` at the checkpoint's threshold.\n")
        out += _groups(sets)
    folds = metrics.get("leave_one_out")
    if folds:
        out.append("### Leave-one-out: the same recipe on generators and photographs it never saw\n")
        out.append("| removed from training, then tested | ROC AUC | recall at 1 % false positives | real | fake |")
        out.append("|---|---|---|---|---|")
        for name, fold in folds.items():
            auc, tpr = rate(fold["roc_auc"]), rate(fold["tpr_at_1_percent_fpr"])
            out.append(f"| {name.replace('_', ' ')} | {auc} | {tpr} | {fold['n_real']} | {fold['n_fake']} |")
        aucs = [fold["roc_auc"]["value"] for fold in folds.values()]
        tprs = [fold["tpr_at_1_percent_fpr"]["value"] for fold in folds.values()]
        out.append(f"| **mean** | {sum(aucs) / len(aucs):.4f} | {sum(tprs) / len(tprs):.4f} | | |")
        out.append(f"| **minimum** | {min(aucs):.4f} | {min(tprs):.4f} | | |\n")
    return out or ["Nothing yet.\n"]


def _groups(sets: dict[str, Any]) -> list[str]:
    """Error rates by source, of the first measurement that has groups."""
    for name, figures in sets.items():
        groups = figures.get("groups") or {}
        if groups:
            out = [f"### By source, on {name.replace('_', ' ')}\n"]
            out.append("| source | label | images | flagged as AI-generated | inconclusive |")
            out.append("|---|---|---|---|---|")
            for group, entry in groups.items():
                flagged = rate(entry.get("fpr") or entry.get("recall"))
                cells = (group, entry.get("label", ""), entry["n"], flagged, entry.get("inconclusive", ""))
                out.append("| " + " | ".join(map(str, cells)) + " |")
            return [*out, ""]
    return []


def rate(entry: dict[str, Any] | None) -> str:
    """A rate with its interval, as text; `undefined` with the reason where there is none."""
    if not entry or entry.get("value") is None:
        return f"undefined ({entry['reason']})" if entry and entry.get("reason") else "undefined"
    if entry.get("low") is None:
        return f"{entry['value']:.4f}"
    return f"{entry['value']:.4f} [{entry['low']:.4f}, {entry['high']:.4f}]"


def _training(training: dict[str, Any]) -> list[str]:
    if not training:
        return ["Not recorded.\n"]
    out = [
        f"{training['train']} pictures for fitting and {training['val']} for calibration and thresholds "
        f"(SHA-256 over their sorted content hashes: `{training['digest']}`).\n",
        "| label | source | generator | train | val |",
        "|---|---|---|---|---|",
    ]
    out += [
        "| " + " | ".join(str(row.get(key) or "-") for key in ("label", "source", "generator", "train", "val")) + " |"
        for row in training["counts"]
    ]
    recipe = json.dumps(training["config"], ensure_ascii=False)
    out.append(f"\nRecipe: `{recipe}`\n")
    return out
