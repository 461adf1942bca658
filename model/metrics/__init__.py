"""Every figure of an evaluation, each with its 95 % interval, and the curves behind them. Numbers only, no pictures.

Conventions that hold throughout:

- `y` holds labels, 1 is fake; `p` holds the probability of fake in [0, 1]; `p >= threshold` means "flagged as fake".
- Shares of images (accuracy, recall, ...) carry Wilson's score interval; what is made of the rates of the two classes
  (predictive values, likelihood ratios, cost, F1, balanced accuracy) an interval recovered from theirs; all other
  figures the percentile interval of a bootstrap that resamples real and fake images separately. Where images come in
  clusters, such as the frames of a film, whole clusters are resampled and shares have an interval for clusters;
  only those of verdicts (coverage, `decided`, `likelihood_ratios`) have that of images by themselves.
- Images with equal scores cross a threshold together. Nothing is interpolated except the equal error rate.
- A figure that is not defined on the data has the value None and a reason; never 0 or 1.
"""

from model.metrics._arrays import MetricsError, confusion_at, rates_at
from model.metrics._compare import Comparison, compare, mcnemar, paired_differences
from model.metrics._cost import Costs, cost_curve_frame, cost_frame
from model.metrics._curves import (
    det_frame,
    pr_frame,
    reliability_frame,
    risk_coverage_frame,
    roc_frame,
    thin,
    thin_along,
)
from model.metrics._evaluate import evaluate
from model.metrics._groups import mean_of
from model.metrics._rate import Rate, wilson, wilson_clustered
from model.metrics._scored import Scored
from model.metrics._scores import (
    accuracy_at_coverage,
    aurc,
    average_precision,
    brier,
    ece,
    eer,
    roc_auc,
    threshold_at_eer,
    threshold_at_fpr,
    tpr_at_fpr,
)
from model.metrics._sets import means_over_sets
from model.metrics._statistics import confidence
from model.metrics._table import image_level

__all__ = [
    "Comparison",
    "Costs",
    "MetricsError",
    "Rate",
    "Scored",
    "accuracy_at_coverage",
    "aurc",
    "average_precision",
    "brier",
    "compare",
    "confidence",
    "confusion_at",
    "cost_curve_frame",
    "cost_frame",
    "det_frame",
    "ece",
    "eer",
    "evaluate",
    "image_level",
    "mcnemar",
    "mean_of",
    "means_over_sets",
    "paired_differences",
    "pr_frame",
    "rates_at",
    "reliability_frame",
    "risk_coverage_frame",
    "roc_auc",
    "roc_frame",
    "thin",
    "thin_along",
    "threshold_at_eer",
    "threshold_at_fpr",
    "tpr_at_fpr",
    "wilson",
    "wilson_clustered",
]
