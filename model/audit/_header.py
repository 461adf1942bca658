"""RC002: properties of the files that tell the label."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.tree import DecisionTreeClassifier

from model.audit._finding import Finding
from model.metrics import roc_auc

LEAK_WARNING, LEAK_SEVERE = 0.60, 0.80  # AUC of a single property that knows nothing of the picture
JOINT_WARNING = 0.55  # of all together
FOLDS = 5


def format_leak(facts: pd.DataFrame) -> list[Finding]:
    """RC002: properties of the files tell the label, one alone or all together.

    Each property is scored by how often it goes with fakes among the other files (out of fold), or by its plain value
    if it is a number; a small decision tree is fitted to all of them and scored out of fold. An AUC of 0.5 means that
    they tell nothing.

    Parameters
    ----------
    facts : DataFrame
        From `file_facts`, or made from what is known of originals that are no longer there: `name`, `label` and any of
        `format`, `suffix`, `size`, `width`, `height`, `bytes_per_pixel`, `quantisation`, `subsampling`, `jpeg_sum`,
        `metadata`, `mode`.
    """
    if facts["label"].nunique() < 2:
        return []
    labels = facts["label"].to_numpy(dtype=int)
    held = {name: meaning for name, meaning in _PROPERTIES.items() if name in facts}
    told = []
    for name, meaning in held.items():
        column = facts[name]
        scores = column.to_numpy(dtype=float) if name in _NUMERIC else _out_of_fold(column, facts["label"])
        value, low, _ = separation(labels, scores, both_ways=name in _NUMERIC)
        if low > LEAK_WARNING:
            told.append((value, meaning, _contrast(facts, name)))
    together = header_scores(facts)
    value, low, high = separation(labels, together, both_ways=False)
    if not told and low <= JOINT_WARNING:
        return []
    told.sort(key=lambda entry: -entry[0])
    parts = [f"{meaning} (AUC {auc:.2f}: {contrast})" for auc, meaning, contrast in told]
    if low > JOINT_WARNING:
        parts.append(f"all properties of the file together (cross-validated AUC {value:.2f}, {low:.2f} to {high:.2f})")
    worst = max([value] + [auc for auc, _, _ in told]) if low > JOINT_WARNING else told[0][0]
    plain = np.argsort(-np.where(labels == 1, together, 1 - together), kind="stable")
    return [
        Finding(
            "RC002",
            "The file gives the label away",
            "severe" if worst >= LEAK_SEVERE else "warning",
            f"Without looking at the picture, the label can be told from: {'; '.join(parts)}.",
            "A detector can score well here by recognising files instead of faces. Store both classes at one size and "
            "in one format and quality, or collect both in the same way, and evaluate again.",
            tuple(facts["name"].iloc[plain]),
        )
    ]


def header_scores(facts: pd.DataFrame) -> np.ndarray:
    """Chance of fake that the other folds' files give each header, by a small decision tree; shape (N,)."""
    columns = []
    for name in _PROPERTIES:
        if name not in facts:
            continue
        if name in _NUMERIC:
            columns.append(facts[name].to_numpy(dtype=float))
        else:
            values = facts[name].astype(str)
            columns += [(values == each).to_numpy(float) for each in values.value_counts().index[:_VALUES]]
    labels = facts["label"].to_numpy(dtype=int)
    table = np.nan_to_num(np.column_stack([*columns, np.zeros(len(facts))]), nan=-1.0)
    fold = _folds(labels)
    scores = np.full(len(labels), 0.5)
    for number in range(FOLDS):
        rest, own = fold != number, fold == number
        if own.any() and len(set(labels[rest].tolist())) == 2:
            leaf = max(5, int(rest.sum()) // 100)
            tree = DecisionTreeClassifier(max_depth=6, min_samples_leaf=leaf, class_weight="balanced", random_state=0)
            scores[own] = tree.fit(table[rest], labels[rest]).predict_proba(table[own])[:, 1]
    return scores


_PROPERTIES = {
    "format": "file format",
    "suffix": "file suffix",
    "size": "picture size",
    "width": "picture width",
    "height": "picture height",
    "bytes_per_pixel": "bytes per pixel",
    "quantisation": "JPEG quantisation table",
    "subsampling": "JPEG chroma subsampling",
    "jpeg_sum": "strength of JPEG compression",
    "metadata": "kinds of metadata",
    "mode": "colour mode",
}
_NUMERIC = frozenset({"width", "height", "bytes_per_pixel", "jpeg_sum"})
_VALUES = 20  # most frequent values of a property that the tree tells apart


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


def separation(labels: np.ndarray, scores: np.ndarray, *, both_ways: bool) -> tuple[float, float, float]:
    """AUC and its interval; above 0.5 either way for a plain number, 0.5 where it is not defined."""
    spread = float(scores.max() - scores.min())
    if spread == 0:
        return 0.5, 0.5, 0.5
    rate = roc_auc(labels, (scores - scores.min()) / spread, resamples=200)
    value = rate.value if rate.value is not None else 0.5
    if rate.low is None or rate.high is None:
        return value, 0.5, 1.0
    if both_ways and value < 0.5:
        return 1 - value, 1 - rate.high, 1 - rate.low
    return value, rate.low, rate.high


def _contrast(facts: pd.DataFrame, name: str) -> str:
    """What is typical of either class, in words."""
    real, fake = (facts.loc[facts["label"] == label, name] for label in (0, 1))
    if name in _NUMERIC:
        return f"typically {real.median():.3g} for real, {fake.median():.3g} for fake"
    parts = []
    for label, values in (("real", real), ("fake", fake)):
        share = values.value_counts(normalize=True)
        parts.append(f"{share.index[0] or 'none'} in {100 * share.iloc[0]:.0f} % of {label}")
    return ", ".join(parts)
