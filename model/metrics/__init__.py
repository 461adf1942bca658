"""Every figure of an evaluation, each with its 95 % interval, and the curves behind them. Numbers only, no pictures.

Conventions that hold throughout:

- `y` holds labels, 1 is fake; `p` holds the probability of fake in [0, 1]; `p >= threshold` means "flagged as fake".
- Shares of images (accuracy, recall, ...) carry Wilson's score interval; all other figures the percentile interval of
  a bootstrap that resamples real and fake images separately.
- Images with equal scores cross a threshold together. Nothing is interpolated except the equal error rate.
- A figure that is not defined on the data has the value None and a reason; never 0 or 1.
"""

from model.metrics._arrays import confusion_at, rates_at
from model.metrics._curves import pr_frame, reliability_frame, risk_coverage_frame, roc_frame, thin
from model.metrics._evaluate import evaluate, image_level
from model.metrics._rate import Rate, wilson
from model.metrics._scores import (
    accuracy_at_coverage,
    aurc,
    average_precision,
    brier,
    ece,
    eer,
    roc_auc,
    threshold_at_fpr,
    tpr_at_fpr,
)

__all__ = [
    "Rate",
    "accuracy_at_coverage",
    "aurc",
    "average_precision",
    "brier",
    "confusion_at",
    "ece",
    "eer",
    "evaluate",
    "image_level",
    "pr_frame",
    "rates_at",
    "reliability_frame",
    "risk_coverage_frame",
    "roc_auc",
    "roc_frame",
    "thin",
    "threshold_at_fpr",
    "tpr_at_fpr",
    "wilson",
]
