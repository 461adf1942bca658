"""RC003: the same picture more than once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from model.audit._finding import Finding, named

NEAR_BITS = 26  # of 256: re-encoding and resizing stay below, different photographs of faces are around 128
NEAR_CORRELATION = 0.98
MAX_COMPARED = 60_000  # about ten seconds
MAX_PAIRS = 5_000


def duplicates(facts: pd.DataFrame) -> list[Finding]:
    """RC003: the same picture under both labels, in several splits, or several times under one.

    Parameters
    ----------
    facts : DataFrame
        From `file_facts`, with a column `split` if the set has any.
    """
    findings = []
    exact = facts.groupby("sha256", sort=False).filter(lambda group: len(group) > 1)
    across = exact.groupby("sha256", sort=False).filter(lambda group: group["label"].nunique() > 1)
    if len(across):
        findings.append(
            Finding(
                "RC003",
                "The same file under both labels",
                "severe",
                f"{across['sha256'].nunique()} files are labelled both real and fake: {named(across['name'])}.",
                "One of the labels is wrong. Remove or correct these files.",
                tuple(across["name"]),
            )
        )
    repeated = int(exact.duplicated("sha256").sum() - across.duplicated("sha256").sum())
    if repeated:
        within = exact[~exact["sha256"].isin(across["sha256"])]
        findings.append(
            Finding(
                "RC003",
                "Repeated files",
                "warning" if repeated > 0.02 * len(facts) else "info",
                f"{repeated} files repeat another one of their class byte for byte: {named(within['name'])}.",
                "Keep one of each: repeated images make the intervals too narrow.",
                tuple(within["name"]),
            )
        )
    pairs = near_pairs(facts.drop_duplicates("sha256"))
    crossing = pairs[pairs["label_a"] != pairs["label_b"]]
    if len(crossing):
        shown = [f"{row.name_a} and {row.name_b}" for row in crossing.itertuples()]
        findings.append(
            Finding(
                "RC003",
                "Nearly the same picture under both labels",
                "warning",
                f"{len(crossing)} pairs of a real and a fake file look alike: {named(shown)}.",
                "Look at them: either a label is wrong, or the fakes are edits of these very photographs.",
                _both(crossing),
            )
        )
    alike = pairs[pairs["label_a"] == pairs["label_b"]]
    if len(alike):
        shown = [f"{row.name_a} and {row.name_b}" for row in alike.itertuples()]
        findings.append(
            Finding(
                "RC003",
                "Near-duplicates",
                "warning" if len(alike) > 0.02 * len(facts) else "info",
                f"{len(alike)} pairs within a class are nearly the same picture: {named(shown)}.",
                "Keep one of each, or name a column to cluster by that says which belong together: they make the "
                "intervals too narrow.",
                _both(alike),
            )
        )
    if "split" in facts:
        findings += _across_splits(facts, exact, pairs)
    if len(pairs) >= MAX_PAIRS:
        findings.append(
            Finding(
                "RC003",
                "The set is full of near-duplicates",
                "severe",
                f"The search ended after {len(pairs):,} pairs; there are more.",
                "Keep one image of each scene, for example one frame of each film, and evaluate again.",
            )
        )
    if len(facts) > MAX_COMPARED:
        findings.append(
            Finding(
                "RC003",
                "Near-duplicates were searched in a part of the set",
                "info",
                f"Only the first {MAX_COMPARED:,} of {len(facts):,} files were compared with each other.",
                "Audit the set in parts if duplicates are likely.",
            )
        )
    return findings


def _across_splits(facts: pd.DataFrame, exact: pd.DataFrame, pairs: pd.DataFrame) -> list[Finding]:
    """The same or nearly the same picture in two splits, such as training and test."""
    copies = exact.groupby("sha256", sort=False).filter(lambda group: group["split"].nunique() > 1)
    split = facts.drop_duplicates("name").set_index("name")["split"]
    apart = pairs[split.loc[pairs["name_a"]].to_numpy() != split.loc[pairs["name_b"]].to_numpy()]
    names = tuple(copies["name"]) + _both(apart)
    if not names:
        return []
    splits = ", ".join(sorted({str(each) for each in split.loc[list(names)]}))
    return [
        Finding(
            "RC003",
            "The same picture in several splits",
            "severe",
            f"{copies['sha256'].nunique()} files and {len(apart)} pairs of nearly the same picture are in more than "
            f"one of the splits {splits}: {named(dict.fromkeys(names))}.",
            "What was trained on cannot test. Keep each picture, and all edits of it, in one split.",
            names,
        )
    ]


def _both(pairs: pd.DataFrame) -> tuple[str, ...]:
    """Names of both files of each pair, pair by pair."""
    return tuple(name for pair in zip(pairs["name_a"], pairs["name_b"], strict=True) for name in pair)


def near_pairs(facts: pd.DataFrame) -> pd.DataFrame:
    """Pairs of files that look nearly the same.

    A perceptual hash proposes (at most `NEAR_BITS` of 256 bits differ), the correlation of small copies disposes.

    Returns
    -------
    DataFrame
        `name_a`, `label_a`, `name_b`, `label_b`, `bits`, `correlation`; each pair once. The search ends with the file
        that brings the count to `MAX_PAIRS`: the frames of a film would fill the memory.
    """
    facts = facts.iloc[:MAX_COMPARED].reset_index(drop=True)
    rows: list[tuple[Any, ...]] = []
    columns = ["name_a", "label_a", "name_b", "label_b", "bits", "correlation"]
    if len(facts) < 2:
        return pd.DataFrame(rows, columns=columns)
    words = np.ascontiguousarray(np.stack(facts["hash"].to_list()).view(np.uint64).T)  # (4, N)
    small = np.stack(facts["small"].to_list())  # (N, 256), zero mean, unit length
    names, labels = facts["name"].tolist(), facts["label"].tolist()
    for first in range(len(facts) - 1):
        # One word alone rules out most.
        others = first + 1 + np.flatnonzero(np.bitwise_count(words[0, first + 1 :] ^ words[0, first]) <= NEAR_BITS)
        bits = np.bitwise_count(words[:, others] ^ words[:, first, None]).sum(axis=0, dtype=np.int64)
        others, bits = others[bits <= NEAR_BITS], bits[bits <= NEAR_BITS]
        correlation = small[others] @ small[first]
        for second, differ, alike in zip(others.tolist(), bits.tolist(), correlation.tolist(), strict=True):
            if alike >= NEAR_CORRELATION:
                rows.append((names[first], labels[first], names[second], labels[second], differ, alike))
        if len(rows) >= MAX_PAIRS:
            break
    return pd.DataFrame(rows, columns=columns)
