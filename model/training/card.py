"""Model cards: written from a checkpoint's header, so that card and header cannot disagree.

A section whose figures are not in the header is left out. What a person saw on the worst errors is beside the
checkpoint instead, in `NAME.failures.csv`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from model.accuracy import APART, NOT_SETS, TEST_PICTURES, is_own, leave_one_out
from model.checkpoint import CheckpointInfo, read_info, rewrite
from model.metrics import image_level, reliability_frame, wilson
from model.metrics._groups import mean_of
from model.tiers import TIERS
from model.training.leave_one_out import is_ffhq

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
MANIPULATED = "manipulated"  # sets whose name begins so are face swaps and edits: another question, scored apart
BINS = 10
_KEPT = (
    *("n", "n_real", "n_fake", "abstained", "errors", "threshold", "confusion_matrix", "outcomes"),
    *("coverage", "decided", "tpr_at_fpr", *RATES),
)
_UNSEEN = {"unseen_real": "photograph called AI-generated", "unseen_fake": "AI-generated called real"}
_RELIABILITY = ["images", "mean_score", "fake_share", "low", "high"]


class CardError(ValueError):
    """Figures that do not belong to a checkpoint."""


def attach(path: Path, measured: Mapping[str, Path]) -> CheckpointInfo:
    """Put figures into a checkpoint's header and rewrite its card.

    Parameters
    ----------
    path : Path
        The checkpoint; its weights stay as they are.
    measured : dict of str to Path
        Name of a measurement (e.g. `test`, `test_hard`, `manipulated`) -> the metrics.json that
        `reality-check evaluate` wrote. The calibration table is taken from `predictions.parquet` beside it, if it is
        there.

    Raises
    ------
    CardError
        If a file does not hold figures, if these were measured with another checkpoint or at another threshold than its
        own, or if the predictions beside them are not those they were computed from.
    """
    read = {name: (file, _figures(file)) for name, file in measured.items()}
    info = read_info(path)
    metrics = dict(info.header["metrics"])
    for name, (file, figures) in read.items():
        _check(info, figures, file)
        metrics[name] = {key: figures[key] for key in _KEPT if key in figures}
        metrics[name]["groups"] = figures.get("groups", {})
        metrics[name]["runtime"] = figures.get("detector", {}).get("runtime", [])
        predictions = file.with_name("predictions.parquet")
        if predictions.is_file():
            metrics[name]["reliability"] = _reliability(predictions, figures)
    info = rewrite(info, info.header | {"metrics": metrics}, path)
    info.card.write_text(render(info), "utf-8")
    return info


def _figures(file: Path) -> dict[str, Any]:
    try:
        figures = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise CardError(f"{file}: is not JSON ({error}).") from error
    if not isinstance(figures, dict) or "n" not in figures:
        raise CardError(f"{file}: does not hold the figures of an evaluation.")
    return figures


def _check(info: CheckpointInfo, figures: Mapping[str, Any], file: Path) -> None:
    names = figures.get("detector", {}).get("checkpoint", [])
    if names and names != [info.name]:
        raise CardError(f"{file}: was measured with {', '.join(names)}, not with {info.name}")
    threshold = figures.get("threshold", info.thresholds.fake)
    if abs(threshold - info.thresholds.fake) > 1e-9:
        raise CardError(
            f"{file}: was measured at the threshold {threshold:.6g}, but that of {info.name} is "
            f"{info.thresholds.fake:.6g}; evaluate again"
        )


def _reliability(path: Path, figures: Mapping[str, Any]) -> list[dict[str, float]]:
    images = image_level(pd.read_parquet(path)).dropna(subset=["p_fake"])
    if len(images) != figures["n"]:
        raise CardError(f"{path}: has {len(images)} scored images, but the figures beside it are of {figures['n']}")
    table = reliability_frame(images["label"].astype(int), images["p_fake"], bins=BINS)
    return table[_RELIABILITY].round(6).to_dict("records")


def render(info: CheckpointInfo) -> str:
    """The card of a checkpoint as Markdown."""
    header = info.header
    training, metrics = header["training"], header["metrics"]
    sets = {name: figures for name, figures in metrics.items() if name not in NOT_SETS}
    whole = {name: figures for name, figures in sets.items() if not name.startswith(MANIPULATED)}
    sections = [
        _identity(header),
        ["## What it does\n", *_purpose(header)],
        ["## Measured\n", *_measured(whole)] if whole else [],
        _groups(whole),
        _failures(info),
        _leave_one_out(metrics),
        _unseen(metrics),
        _calibration(whole),
        _manipulated({name: figures for name, figures in sets.items() if name not in whole}),
        ["## Trained on\n", *_training(training)] if training else [],
        ["## How to reproduce it\n", *_reproduction(training)] if training else [],
        ["## Not for\n", *_limits(metrics)],
        ["## Known biases\n", *_biases(training.get("counts", []))],
    ]
    return "\n".join(line for section in sections for line in section)


def _identity(header: Mapping[str, Any]) -> list[str]:
    return [
        f"# {header['name']}\n",
        f"Architecture `{header['architecture']}`{_options(header['options'])}, created {header['created']}. "
        f"Licence: {header['licence']}. {header['origin'][:1].upper()}{header['origin'][1:].rstrip('.')}.\n",
    ]


def _options(options: Mapping[str, Any]) -> str:
    return " (" + ", ".join(f"{key} {value}" for key, value in options.items()) + ")" if options else ""


def _purpose(header: Mapping[str, Any]) -> list[str]:
    thresholds = header["thresholds"]
    fpr, anew = thresholds.get("fpr"), header.get("calibrated_on")
    pictures = "the photographs that it was set on" if anew else "validation photographs"
    if thresholds.get("unseen"):
        pictures = "photographs of sources that were left out of training"
    out = [
        "Judges one face crop as photographed (`real`) or AI-generated (`fake`). The logit is a bias plus one signed "
        "contribution per image cell, so that every decision has an exact account by facial region.\n",
        f"Calibration: temperature {header['temperature']:.3f}, bias {header['calibration_bias']:+.3f}. Verdict *fake* "
        f"from p = {thresholds['fake']:.3f}, *real* up to p = {thresholds['real']:.3f}, inconclusive between. "
        "Both labels weigh the same: p is the probability in a set of which half is generated."
        + (
            f" The threshold for *fake* keeps false alarms on {pictures} at or below {100 * fpr:.3g} % in the worst of "
            "the clean, web and hard tiers.\n"
            if fpr is not None
            else "\n"
        ),
    ]
    if anew:
        out.append(
            f"Calibration and thresholds were set anew on {anew['date']}, on {anew['n_real']:,} real and "
            f"{anew['n_fake']:,} fake pictures (SHA-256 over their sorted content hashes: `{anew['digest']}`), from "
            f"the checkpoint with SHA-256 `{anew['checkpoint']}`.\n"
        )
    return out


def _measured(sets: Mapping[str, Any]) -> list[str]:
    counts = [f"{figures['n_real']} real, {figures['n_fake']} fake" for figures in sets.values()]
    out = [*_table_head(["", *(name.replace("_", " ") for name in sets)]), _row(["Images judged", *counts])]
    for key, label in RATES.items():
        if all(key in figures for figures in sets.values()):
            out.append(_row([label, *(rate(figures[key]) for figures in sets.values())]))
    for target in ("0.01", "0.005"):
        cells = [rate(figures.get("tpr_at_fpr", {}).get(target)) for figures in sets.values()]
        out.append(_row([f"Recall at {float(target):.1%} false positives", *cells]))
    shares = [rate(figures.get("coverage")) for figures in sets.values()]
    out.append(_row(["Verdict given (neither inconclusive nor not applicable)", *shares]))
    right = [rate(figures.get("decided", {}).get("accuracy")) for figures in sets.values()]
    out.append(_row(["Verdicts that were right", *right]))
    return [
        *out,
        "\n95 % intervals in brackets. Measured by `reality-check evaluate` at the checkpoint's threshold for "
        f"*fake*: an inconclusive photograph counts as right there, an inconclusive fake as missed.{_computed(sets)}\n",
        *([f"{TEST_PICTURES}\n"] if is_own(sets.get("test", {}).get("groups", {})) else []),
    ]


def _computed(sets: Mapping[str, Any]) -> str:
    """What computed the network, where the figures say so: older ones do not."""
    runtimes = {name for figures in sets.values() for name in figures.get("runtime", [])}
    if not runtimes:
        return ""
    return f" Computed by {', '.join(sorted(runtimes))}; the application takes fp32 unless told otherwise."


def _groups(sets: Mapping[str, Any]) -> list[str]:
    """Error rates by source, of the first measurement that has groups."""
    for name, figures in sets.items():
        if groups := figures.get("groups"):
            out = [f"### By source, on {name.replace('_', ' ')}\n"]
            out += _table_head(["source", "label", "images", "flagged as AI-generated", "inconclusive"])
            for group, entry in groups.items():
                flagged = rate(entry.get("fpr") or entry.get("recall"))
                out.append(_row([group, entry.get("label", ""), entry["n"], flagged, entry.get("inconclusive", "")]))
            return [*out, ""]
    return []


def _failures(info: CheckpointInfo) -> list[str]:
    """The worst errors in words; of a file that is of other weights or another calibration, nothing."""
    path = info.path.with_suffix(".failures.csv")
    if not path.is_file():
        return []
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows = table.loc[table["checkpoint_sha256"] == info.sha256, ["label", "source", "p_fake", "description"]]
    if rows.empty:
        return []
    out = [
        "### Worst failures\n",
        "The photographs and the fakes of the test pictures that were most wrong, in the words of somebody who looked "
        "at them.\n",
        *_table_head(["label", "source", "p", "what the picture shows"]),
    ]
    return [*out, *(_row(row) for row in rows.itertuples(index=False)), ""]


def _leave_one_out(metrics: Mapping[str, Any]) -> list[str]:
    folds, summed_up = metrics.get("leave_one_out") or {}, leave_one_out(metrics)
    if summed_up is None:
        return []
    out = [
        "### Leave-one-out: the same recipe on generators and photographs it never saw\n",
        "Tested on all pictures that were removed, joined by photographs of the test split (those of FFHQ, if any), "
        "whose sources stay in training.\n",
    ]
    head = ["removed from training, then tested", "ROC AUC", "recall at 1 % false positives", "real", "fake"]
    out += _table_head(head)
    for name, fold in folds.items():
        cells = [name.replace("_", " "), rate(fold["roc_auc"]), rate(fold["tpr_at_1_percent_fpr"])]
        out.append(_row([*cells, fold["n_real"], fold["n_fake"]]))
    for title, which in (("**mean**", "mean"), ("**minimum**", "worst")):
        figures = [summed_up[key][which] for key in ("roc_auc", "tpr_at_1_percent_fpr")]
        out.append(_row([title, *map(rate, figures), "", ""]))
    return [*out, "", *([] if summed_up["together"] else [f"{APART}\n"])]


def _unseen(metrics: Mapping[str, Any]) -> list[str]:
    """Wrong verdicts on unseen sources, as `model.training.calibrate.unseen_entries` gives them."""
    out = [
        "### The thresholds on sources it never saw\n",
        "From the leave-one-out refits: each picture is judged by the fit that was made without its source. The "
        "threshold for *fake* had to keep its limit on these photographs together, too.\n",
        *_table_head(["wrong verdict", "tier", "sources", "images", "all images", "mean of sources", "worst source"]),
    ]
    length = len(out)
    for key, title in _UNSEEN.items():
        by_source = metrics.get(key) or {}
        for tier in TIERS:
            rates = {source: tiers[tier] for source, tiers in by_source.items() if tier in tiers}
            if rates:
                count, errors = (sum(entry[name] for entry in rates.values()) for name in ("n", "errors"))
                worst = max(rates, key=lambda source: rates[source]["value"])
                pooled, mean = wilson(errors, count).to_dict(), mean_of(list(rates.values())).to_dict()
                cells = [title, tier, len(rates), count, rate(pooled), rate(mean), f"{worst}: {rate(rates[worst])}"]
                out.append(_row(cells))
    return [*out, ""] if len(out) > length else []


def _calibration(sets: Mapping[str, Any]) -> list[str]:
    """The calibration error of every set, and the bins of those whose predictions were at hand."""
    tables = {name: figures["reliability"] for name, figures in sets.items() if figures.get("reliability")}
    if not tables:
        return []
    out = ["### Calibration\n"]
    out.append("Of the images that are given a probability near *mean p*, this share was fake; bins of equal mass.\n")
    for name, rows in tables.items():
        error = f", expected calibration error {rate(sets[name]['ece'])}" if "ece" in sets[name] else ""
        out += [f"**{name.replace('_', ' ')}**{error}\n", *_table_head(["mean p", "share fake", "images"])]
        for row in rows:
            share = rate({"value": row["fake_share"], "low": row["low"], "high": row["high"]})
            out.append(_row([f"{row['mean_score']:.4f}", share, row["images"]]))
        out.append("")
    return out


def _manipulated(sets: Mapping[str, Any]) -> list[str]:
    if not sets:
        return []
    out = [
        "### Manipulated photographs\n",
        "Face swaps, reenactment and edits of real photographs: another question than the above, and never trained "
        "as AI-generated.\n",
        *_table_head(["set", "images", "flagged as AI-generated", "inconclusive or not judged"]),
    ]
    for name, figures in sets.items():
        cells = [name.replace("_", " "), figures["n"], rate(figures.get("recall")), figures.get("abstained", "")]
        out.append(_row(cells))
        for group, entry in (figures.get("groups") or {}).items():
            undecided = entry.get("inconclusive", 0) + entry.get("not_applicable", 0)
            out.append(_row([f"{name.replace('_', ' ')}: {group}", entry["n"], rate(entry.get("recall")), undecided]))
    return [*out, ""]


def rate(entry: Mapping[str, Any] | None) -> str:
    """A rate with its interval, as text; `undefined` with the reason where there is none."""
    if not entry or entry.get("value") is None:
        return f"undefined ({entry['reason']})" if entry and entry.get("reason") else "undefined"
    if entry.get("low") is None:
        return f"{entry['value']:.4f}"
    return f"{entry['value']:.4f} [{entry['low']:.4f}, {entry['high']:.4f}]"


def _training(training: Mapping[str, Any]) -> list[str]:
    columns = ("label", "source", "generator", "train", "val")
    return [
        f"{training['train']} pictures for fitting and {training['val']} for calibration and thresholds "
        f"(SHA-256 over their sorted content hashes: `{training['digest']}`).\n",
        *_table_head(columns),
        *(_row([row.get(key) or "-" for key in columns]) for row in training["counts"]),
        "",
    ]


def _reproduction(training: Mapping[str, Any]) -> list[str]:
    recipe = dict(training["config"])
    recipe["data"] = {"root": "FOLDER", **recipe.get("data", {})}
    out = [f"Save this recipe as `{recipe['name']}.toml`:\n", "```toml", *_toml(recipe), "```\n"]
    if "command" in training:
        out += ["and run it on pictures with the digest above:\n", "```text", training["command"], "```\n"]
    return out


def _toml(recipe: Mapping[str, Any], within: str = "") -> list[str]:
    """A recipe as TOML: plain entries, then a table per section. JSON's notation of a plain value is also TOML's."""
    out, sections = [], []
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            sections += ["", f"[{within}{key}]", *_toml(value, f"{within}{key}.")]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for entry in value:
                sections += ["", f"[[{within}{key}]]", *_toml(entry, f"{within}{key}.")]
        elif value is not None:
            out.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return out + sections


def _limits(metrics: Mapping[str, Any]) -> list[str]:
    unseen = ": see the leave-one-out table for how far the figures fall on sources that were never seen"
    return [
        "- Accusing a person of anything: a verdict is one signal, with an error rate, to be weighed with others.",
        "- Face swaps, retouching and local edits: these were not trained as AI-generated.",
        "- Pictures without a face, faces below 64 pixels, drawings and renderings.",
        f"- Generators and cameras unlike those listed{unseen if metrics.get('leave_one_out') else ''}.\n",
    ]


def _biases(counts: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the counts by label and source show, and what nobody has measured."""
    out = []
    table = pd.DataFrame(counts, columns=["label", "source", "train"])
    real = table[table["label"] == "real"]
    ffhq = int(real.loc[real["source"].map(is_ffhq).astype(bool), "train"].sum()) if len(real) else 0
    if ffhq:
        out.append(
            f"- {ffhq / real['train'].sum():.0%} of the photographs in training are FFHQ, on which StyleGAN generators "
            "were themselves trained: a detector can learn what looks like FFHQ."
        )
    for label, what in (("real", "photographs"), ("fake", "fakes")):
        by_source = table[table["label"] == label].groupby("source")["train"].sum()
        if len(by_source) > 1:
            largest = by_source.idxmax()
            out.append(
                f"- {by_source.max() / by_source.sum():.0%} of the {what} in training are of one source, {largest}."
            )
    labels = table[table["train"] > 0].groupby("source")["label"].nunique()
    if (alone := int((labels == 1).sum())) and len(labels) > 2:
        out.append(
            f"- {alone} of {len(labels)} sources occur under one label only: there, how pictures were collected goes "
            "with the label."
        )
    out.append("- Age, gender and skin tone were not labelled: error rates by group are not known.\n")
    return out


def _table_head(columns: Sequence[str]) -> list[str]:
    return [_row(columns), "|" + "---|" * len(columns)]


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
