"""What would make an evaluation a lie: checks of a labelled set, each with a stable code.

- RC001 class imbalance
- RC002 the file gives the label away, or the original that it was made from
- RC003 duplicates, across labels and splits above all
- RC004 too few images for the claim
- RC005 the framing of the faces gives the label away
- RC006 the score separates sources of real photographs
- RC007 the detector was trained on images of the set

The checks look at headers, sizes, small copies of the pictures and, if there are any, at the results. They find known
faults; that none is found proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from model.audit._alike import fingerprint, near_groups
from model.audit._controls import real_control, training_overlap
from model.audit._duplicates import NEAR_BITS, duplicates, near_pairs
from model.audit._facts import file_facts, perceptual_hash, stated_facts
from model.audit._finding import MAX_NAMED, SEVERITIES, Finding
from model.audit._framing import framing_leak
from model.audit._header import format_leak, header_scores, original_leak
from model.audit._size import class_imbalance, too_few
from model.checkpoint import Hashes
from model.dataset import LabelledSet

__all__ = [
    "MAX_NAMED",
    "NEAR_BITS",
    "SEVERITIES",
    "Finding",
    "audit",
    "class_imbalance",
    "duplicates",
    "file_facts",
    "fingerprint",
    "format_leak",
    "framing_leak",
    "header_scores",
    "near_groups",
    "near_pairs",
    "original_leak",
    "perceptual_hash",
    "real_control",
    "stated_facts",
    "too_few",
    "training_overlap",
]


def audit(
    labelled: LabelledSet,
    predictions: pd.DataFrame | None = None,
    *,
    training: tuple[Hashes, Hashes] | None = None,
    step: Callable[[], object] | None = None,
) -> list[Finding]:
    """Look for faults that would make figures measured on this set misleading.

    Parameters
    ----------
    labelled : LabelledSet
        Its files are read once each. Columns of its manifest that begin with `original_` describe the originals of
        files that were made alike since; see `stated_facts`.
    predictions : DataFrame, optional
        Results of the same set (columns of `model.results.COLUMNS` with `label`); without them the checks of faces, of
        what could be scored and of real against real are left out.
    training : pair of ndarray, optional
        `model.checkpoint.training_hashes` of the checkpoint; without them it is not checked what it was trained on.
    step : callable, optional
        Called before each file; what it raises ends the audit.

    Returns
    -------
    list of Finding
        Severe ones first, then by code. Empty if nothing was found.
    """
    frame = labelled.frame
    facts = file_facts(labelled.sources, frame["label"].tolist(), step=step)
    for name in {"source", "split"} & set(frame):
        facts[name] = frame.set_index("name")[name].loc[facts["name"]].astype(str).to_numpy()
    findings = [*class_imbalance(frame), *format_leak(facts), *original_leak(stated_facts(frame))]
    findings += [*duplicates(facts), *too_few(frame)]
    if predictions is not None:
        findings += [*framing_leak(predictions), *real_control(predictions)]
    if training is not None:
        findings += training_overlap(facts, training)
    return sorted(findings, key=lambda finding: (-SEVERITIES.index(finding.severity), finding.code))
