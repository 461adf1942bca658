"""RC002: properties of the files, or of the originals they were made from, that tell the label."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from scipy.stats import mannwhitneyu
from sklearn.tree import DecisionTreeClassifier

from model.audit._facts import PROPERTIES, STATED
from model.audit._finding import Finding
from model.audit._many import LEVEL, bounds
from model.audit._sources import LEAK_WARNING, Told, enough, inside_sources, listed, severity
from model.metrics import roc_auc

JOINT_WARNING = 0.55  # of all properties together
FOLDS = 5


def format_leak(facts: pd.DataFrame) -> list[Finding]:
    """RC002: properties of the files tell the label, one alone or all together, over all or inside single sources.

    Each property is scored by how often it goes with fakes among the other files (out of fold), or by its plain value
    if it is a number; a small decision tree is fitted to all of them and scored out of fold. An AUC of 0.5 means that
    they tell nothing. Intervals are as wide as that many comparisons need, and fewer than `MIN_IMAGES` of a label say
    nothing.

    Parameters
    ----------
    facts : DataFrame
        From `file_facts`: `name`, `label`, optionally `source`, and any of `format`, `suffix`, `size`, `width`,
        `height`, `bytes_per_pixel`, `quantisation`, `subsampling`, `jpeg_sum`, `metadata`, `mode`.
    """
    return _findings(
        facts,
        "The file gives the label away",
        "A detector can score well here by recognising files instead of faces. Store both classes at one size and "
        "in one format and quality, or collect both in the same way, and evaluate again.",
    )


def original_leak(facts: pd.DataFrame) -> list[Finding]:
    """RC002: what is known of the originals tells the label, though the stored files may not show it any more.

    Parameters
    ----------
    facts : DataFrame
        From `stated_facts`; scored as in `format_leak`.
    """
    return _findings(
        facts,
        "The original files give the label away",
        "That the files are alike now does not undo it: traces of the older compression and scaling are in the "
        "pictures, and a detector can score well by them. Take both classes from originals of one kind, or degrade "
        "both until the difference is gone, and evaluate again.",
    )


def _findings(facts: pd.DataFrame, title: str, advice: str) -> list[Finding]:
    if not _properties(facts) or not enough(facts):
        return []
    findings = []
    if told := _told(facts):
        chances = header_scores(facts)
        plain = np.argsort(-np.where(facts["label"] == 1, chances, 1 - chances), kind="stable")
        texts = "; ".join(each.text for each in told)
        images = tuple(facts["name"].iloc[plain])
        detail = f"Without looking at the picture, the label can be told from: {texts}."
        findings.append(Finding("RC002", title, severity(told), detail, advice, images))
    if inside := inside_sources(facts, _told):
        images = tuple(facts.loc[facts["source"].isin(list(inside)), "name"])
        detail = f"Even within a single source the label can be told: {listed(inside)}."
        findings.append(
            Finding("RC002", f"{title} inside a source", severity(list(inside.values())), detail, advice, images)
        )
    return findings


def _told(facts: pd.DataFrame, sets: int = 1) -> list[Told]:
    """The properties that tell the label, the strongest first, then all together; for so many `sets` at once."""
    labels, told = facts["label"].to_numpy(dtype=int), []
    properties = _properties(facts)
    comparisons = (len(properties) + 1) * sets
    for name, meaning in properties.items():
        numeric = is_numeric_dtype(facts[name])
        scores = _numbers(facts[name]) if numeric else _out_of_fold(facts[name], facts["label"])
        auc, low, _ = separation(labels, scores, both_ways=numeric, comparisons=comparisons)
        if low > LEAK_WARNING:
            told.append(Told(auc, low, f"{meaning} (AUC {auc:.2f}: {_contrast(facts, name)})"))
    told.sort(key=lambda each: -each.auc)
    auc, low, high = separation(labels, header_scores(facts), both_ways=False, comparisons=comparisons)
    if low > JOINT_WARNING:
        text = f"all properties of the file together (cross-validated AUC {auc:.2f}, {low:.2f} to {high:.2f})"
        told.append(Told(auc, low, text))
    return told


def header_scores(facts: pd.DataFrame) -> np.ndarray:
    """Chance of fake that the other folds' files give each header, by a small decision tree; shape (N,)."""
    columns = []
    for name in _properties(facts):
        if is_numeric_dtype(facts[name]):
            columns.append(_numbers(facts[name]))
        else:
            values = facts[name].astype(str)
            columns += [(values == each).to_numpy(float) for each in values.value_counts().index[:_VALUES]]
    labels = facts["label"].to_numpy(dtype=int)
    table = np.column_stack([*columns, np.zeros(len(facts))])
    fold = _folds(labels)
    scores = np.full(len(labels), 0.5)
    for number in range(FOLDS):
        rest, own = fold != number, fold == number
        if own.any() and len(set(labels[rest].tolist())) == 2:
            leaf = max(5, int(rest.sum()) // 100)
            tree = DecisionTreeClassifier(max_depth=6, min_samples_leaf=leaf, class_weight="balanced", random_state=0)
            scores[own] = tree.fit(table[rest], labels[rest]).predict_proba(table[own])[:, 1]
    return scores


_VALUES = 20  # most frequent values of a property that the tree tells apart


def _properties(facts: pd.DataFrame) -> dict[str, str]:
    """The columns that are properties of files, and what they are in words."""
    return {
        name: PROPERTIES.get(name, f"column {name}") for name in facts if name in PROPERTIES or name.startswith(STATED)
    }


def _numbers(column: pd.Series) -> np.ndarray:
    """Values, -1 where there is none: that one is missing can tell the label too; shape (N,)."""
    return column.fillna(-1).to_numpy(dtype=float)


def _out_of_fold(column: pd.Series, labels: pd.Series) -> np.ndarray:
    """Share of fakes among the other files with the same value, smoothed towards the overall share; shape (N,)."""
    values, truth = column.astype(str).to_numpy(), labels.to_numpy(dtype=float)
    fold = _folds(truth)
    scores = np.empty(len(truth))
    for number in range(FOLDS):
        rest = fold != number
        if not rest.any():
            scores[~rest] = 0.5
            continue
        overall = truth[rest].mean()
        known = (
            pd.DataFrame({"value": values[rest], "truth": truth[rest]}).groupby("value")["truth"].agg(["sum", "size"])
        )
        share = (known["sum"] + overall) / (known["size"] + 1)
        scores[~rest] = pd.Series(values[~rest]).map(share).fillna(overall).to_numpy()
    return scores


def _folds(labels: np.ndarray) -> np.ndarray:
    """Fold of each file; shape (N,). They deal out each class evenly: leaving one out does not shift its share."""
    fold = np.empty(len(labels), dtype=int)
    for label in (0, 1):
        own = np.flatnonzero(labels == label)
        fold[own] = np.random.default_rng(0).permutation(len(own)) % FOLDS
    return fold


def separation(
    labels: np.ndarray, scores: np.ndarray, *, both_ways: bool, comparisons: int = 1
) -> tuple[float, float, float]:
    """AUC and its interval, which holds for so many comparisons at once.

    Above 0.5 either way for a plain number, 0.5 where it is not defined. Resamples of few images are too sure of
    themselves the further the AUC lies out: where chance alone would give it (Mann and Whitney 1947), the interval
    reaches down to 0.5.
    """
    spread = float(scores.max() - scores.min())
    if spread == 0:
        return 0.5, 0.5, 0.5
    rate = roc_auc(labels, (scores - scores.min()) / spread, resamples=200)
    value = rate.value if rate.value is not None else 0.5
    if rate.low is None or rate.high is None:
        return value, 0.5, 1.0
    low, high = bounds(value, rate.low, rate.high, comparisons)
    if both_ways and value < 0.5:
        value, low, high = 1 - value, 1 - high, 1 - low
    if mannwhitneyu(scores[labels == 1], scores[labels == 0]).pvalue * comparisons > 1 - LEVEL:
        low = min(low, 0.5)
    return value, low, high


def _typical(values: pd.Series) -> str:
    return f"{values.median():.4g}" if values.notna().any() else "unknown"


def _contrast(facts: pd.DataFrame, name: str) -> str:
    """What is typical of either class, in words."""
    real, fake = (facts.loc[facts["label"] == label, name] for label in (0, 1))
    if is_numeric_dtype(facts[name]):
        return f"typically {_typical(real)} for real, {_typical(fake)} for fake"
    parts = []
    for label, values in (("real", real), ("fake", fake)):
        share = values.value_counts(normalize=True)
        parts.append(f"{share.index[0] or 'none'} in {100 * share.iloc[0]:.0f} % of {label}")
    return ", ".join(parts)
