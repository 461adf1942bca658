"""RC006 and RC007: the score separates photographs from photographs, or the set was trained on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from model.accuracy import real_vs_real
from model.audit._finding import Finding, named
from model.audit._many import bounds
from model.audit._sources import LEAK_SEVERE
from model.checkpoint import HASH_BYTES, Hashes, short_hash
from model.metrics import image_level

SOURCES = 12  # of photographs, the largest, that are compared with each other
AUC_TOLERANCE = 0.05
NEAR_TRAINING = 2  # of 64 bits: re-encoded and resized crops stay within, other faces are hardly ever so near
_CHUNK = 1_000_000  # comparisons at once


def real_control(predictions: pd.DataFrame) -> list[Finding]:
    """RC006: the score separates sources of real photographs, which differ in everything but what it should measure.

    Sources are the groups of the real images, or their `source` where there are no groups; see
    `model.accuracy.real_vs_real`. A pair is told if its whole interval, as wide as so many pairs need, is beyond 0.55.
    """
    images = image_level(predictions).dropna(subset=["label"])
    reals = images[(images["label"].astype(int) == 0) & images["p_fake"].notna()]
    held = [name for name in ("group", "source") if name in reals and reals[name].fillna("").ne("").any()]
    if not held:
        return []
    reals = reals.assign(group=reals[held[0]].fillna("").astype(str), label=0)
    largest = reals.loc[reals["group"] != "", "group"].value_counts().index[:SOURCES]
    found = real_vs_real(reals[reals["group"].isin(largest)])["pairs"]
    pairs = [(pair["higher"], pair["lower"], *_interval(pair["roc_auc"], len(found))) for pair in found]
    told = [pair for pair in pairs if pair[3] > 0.5 + AUC_TOLERANCE]
    if not told:
        return []
    listed = [f"{one} over {other} (AUC {auc:.2f}, {low:.2f} to {high:.2f})" for one, other, auc, low, high in told]
    highest = reals[reals["group"] == told[0][0]].sort_values("p_fake", ascending=False)
    return [
        Finding(
            "RC006",
            "The score separates photographs by their source",
            "severe" if told[0][2] >= LEAK_SEVERE else "warning",
            f"In {len(told)} of {len(found)} pairs of real sources one scores higher than the other, though no image "
            f"of either is generated: {named(listed)}. Intervals are as wide as the number of pairs asks for "
            f"({len(found)} compared).",
            "The detector also measures where a picture comes from. Read the false alarms of each source by itself, "
            "and do not carry figures over to a source that is not in the set.",
            tuple(highest["path"].astype(str)),
        )
    ]


def _interval(auc: Mapping[str, float], pairs: int) -> tuple[float, float, float]:
    """AUC of a pair and its interval that holds for so many pairs at once; sources are large enough to have one."""
    value, low, high = auc["value"], auc["low"], auc["high"]
    return value, *bounds(value, low, high, pairs)


def training_overlap(facts: pd.DataFrame, hashes: tuple[Hashes, Hashes]) -> list[Finding]:
    """RC007: files that the checkpoint was fitted or calibrated on.

    Parameters
    ----------
    facts : DataFrame
        From `model.audit.file_facts`.
    hashes : pair of ndarray of shape (M, 8), uint8
        From `model.checkpoint.training_hashes`: training crops are compared, so that a larger picture that a crop was
        taken from is not recognised.
    """
    sha256, phash = hashes
    if not len(facts) or not len(sha256):
        return []
    own = np.array([list(bytes.fromhex(digest)[:HASH_BYTES]) for digest in facts["sha256"]], dtype=np.uint8)
    same = np.isin(_words(own), _words(sha256))
    short = _words(short_hash(np.stack(facts["hash"].to_list())))
    near = ~same & (_nearest(short, _words(phash)) <= NEAR_TRAINING)
    findings = []
    advice = "Figures on them say what the detector remembers. Leave them out and evaluate again."
    if same.any():
        names = facts["name"][same]
        findings.append(
            Finding(
                "RC007",
                "The detector was trained on files of this set",
                "severe",
                f"{int(same.sum())} of {len(facts)} files are among its {len(sha256):,} training pictures: "
                f"{named(names)}.",
                advice,
                tuple(names),
            )
        )
    if near.any():
        names = facts["name"][near]
        findings.append(
            Finding(
                "RC007",
                "Files of this set resemble training pictures",
                "severe" if near.mean() > 0.02 else "info",
                f"{int(near.sum())} of {len(facts)} files have the perceptual hash of a training picture, give or take "
                f"{NEAR_TRAINING} of 64 bits: {named(names)}. Some may be chance: no picture is at hand to compare.",
                "Check where they come from. " + advice,
                tuple(names),
            )
        )
    return findings


def _words(hashes: Hashes) -> np.ndarray:
    """(N, 8) bytes as (N,) words."""
    return np.ascontiguousarray(hashes).view(np.uint64).ravel()


def _nearest(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Bits by which each word differs from the nearest of the others; shape (N,)."""
    step = max(1, _CHUNK // len(others))
    parts = [np.bitwise_count(own[at : at + step, None] ^ others).min(axis=1) for at in range(0, len(own), step)]
    return np.concatenate(parts)
