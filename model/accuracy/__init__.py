"""Measured accuracy: what a checkpoint does on pictures whose answer is known, held against stated targets.

`measure` judges its material part by part, each into a table of its own (Parquet, one row per face), and writes the
figures as `NAME.json`; `page` says them in Markdown. The name of a table carries a digest over everything that decides
its content: pictures, weights, calibration, thresholds, arithmetic and code. A table that exists is not judged again,
an interrupted one continues, and what a checkpoint's header says of it may change in between.
"""

from model.accuracy._figures import BY_FOLDS, NOT_SETS, leave_one_out, unseen_fake, unseen_real
from model.accuracy._measure import Material, load, measure, real_vs_real
from model.accuracy._page import APART, TARGETS, TEST_PICTURES, Target, introduction, is_own, met, page, said, targets

__all__ = [
    "APART",
    "BY_FOLDS",
    "NOT_SETS",
    "TARGETS",
    "TEST_PICTURES",
    "Material",
    "Target",
    "introduction",
    "is_own",
    "leave_one_out",
    "load",
    "measure",
    "met",
    "page",
    "real_vs_real",
    "said",
    "targets",
    "unseen_fake",
    "unseen_real",
]
