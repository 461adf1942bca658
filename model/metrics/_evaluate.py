"""From a table of results to the whole of `metrics.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from model.dataset import LABELS
from model.metrics._arrays import Floats, Ints, rates_of
from model.metrics._cost import Costs
from model.metrics._groups import group_figures
from model.metrics._rate import Rate, ratio, undefined, wilson
from model.metrics._scored import Scored
from model.metrics._scores import all_scores, threshold_at_fpr
from model.metrics._statistics import BINS, COVERAGES, RESAMPLES, SEED, TARGETS, allowed
from model.metrics._table import DECIDED, JUDGED, MIN_CLUSTERS, OUTCOMES, Table, group_columns, read, threshold_of


def evaluate(
    predictions: pd.DataFrame,
    *,
    threshold: float | None = None,
    group_by: str | Sequence[str] = "group",
    cluster_by: str | None = None,
    prevalence: float | None = None,
    cost_fp: float = 1.0,
    cost_fn: float = 1.0,
    audit: Sequence[Mapping[str, Any]] = (),
    targets: Sequence[float] = TARGETS,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Any]:
    """Compute every figure of an evaluation.

    Parameters
    ----------
    predictions : DataFrame
        Results of images with a known answer: `path`, `p_fake`, `verdict`, `label` (0/1 or a word that
        `model.dataset.label_of` knows); optionally `error`, `threshold_fake` and the `group_by` columns. One row per
        face or per image.
    threshold : float, optional
        `p_fake >= threshold` counts as flagged. If not given, the threshold the results were made with.
    group_by : str or sequence of str
        Columns whose values are compared; `group` is ignored if it is absent. `groups` and `over_groups` are of the
        first, `by_column` holds all.
    cluster_by : str, optional
        Column whose values say which images belong together, such as the person; intervals are then those of whole
        clusters. If not given, an identity column that holds at least 30 values.
    prevalence : float, optional
        Share of fakes where the detector will be used, inside (0, 1); that of the set if not given.
    cost_fp, cost_fn : float
        Costs of a flagged real and of a missed fake image, in any one unit.
    audit : sequence of dict
        Findings of `model.audit`, passed through.
    targets : sequence of float
        False positive rates for `tpr_at_fpr`.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        JSON-ready, as described in `docs/`. `n` counts the scored images, on which every rate but `coverage`,
        `decided` and `likelihood_ratios` is computed; `images` counts all.

    Raises
    ------
    MetricsError
        If a column is missing, an image has no label, a score is no probability, the threshold is not unique, or a
        cost or prevalence is impossible.

    See Also
    --------
    Scored : the part of it that depends on the threshold, for one that moves.
    """
    table = read(predictions)
    columns = group_columns(table.images, group_by)
    cut, origin = threshold_of(table.images, threshold)
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    clusters = table.clusters(cluster_by)
    scored = Scored.from_table(table, columns, clusters, **options)
    costs = Costs(cost_fp, cost_fn, scored.share_of_fakes or 0.5 if prevalence is None else prevalence)
    y, p = scored.y, scored.p
    scores = {
        name: rate.to_dict()
        for name, rate in all_scores(y, p, clusters=scored.clusters, threshold=cut, targets=targets, **options).items()
    }
    at = scored.at(cut, costs)
    outcomes = {
        name: {kind: int(((table.labels == label) & (table.outcome == kind)).sum()) for kind in OUTCOMES}
        for label, name in enumerate(LABELS)
    }
    by_column = {
        column: _groups(table, scored, column, threshold=cut, targets=targets, **options)
        for column in columns
        if column in scored.columns or table.names(column) is not None
    }
    nothing: dict[str, Any] = {"groups": {}, "over_groups": {}}
    first = by_column.get(columns[0], nothing) if columns else nothing
    inconclusive, not_applicable, errors = (
        int((table.outcome == kind).sum()) for kind in ("inconclusive", "not_applicable", "error")
    )
    return {
        "n": len(y),
        "n_real": len(scored.reals),
        "n_fake": len(scored.fakes),
        "images": len(table.images),
        "abstained": inconclusive + not_applicable,
        "inconclusive": inconclusive,
        "not_applicable": not_applicable,
        "errors": errors,
        "unscored": int((table.judged & ~table.scored).sum()),
        "threshold": cut,
        "confusion_matrix": at["confusion_matrix"],
        "accuracy": at["accuracy"],
        "balanced_accuracy": at["balanced_accuracy"],
        "precision": at["precision"],
        "recall": at["recall"],
        "f1": at["f1"],
        "specificity": at["specificity"],
        "fpr": at["fpr"],
        "ppv": at["ppv"],
        "npv": at["npv"],
        "likelihood_ratio": at["likelihood_ratio"],
        "cost": at["cost"],
        "roc_auc": scores["roc_auc"],
        "average_precision": scores["average_precision"],
        "eer": scores["eer"],
        "tpr_at_fpr": {
            f"{target:g}": scores[f"tpr_at_fpr {target:g}"] | _operating_point(y, p, target) for target in targets
        },
        "ece": scores["ece"],
        "brier": scores["brier"],
        "aurc": scores["aurc"],
        "accuracy_at_coverage": {f"{share:g}": scores[f"accuracy_at_coverage {share:g}"] for share in COVERAGES},
        "coverage": wilson(int(np.isin(table.outcome, DECIDED).sum()), len(table.images)).to_dict(),
        "decided": _decided(outcomes),
        "likelihood_ratios": _likelihood_ratios(outcomes),
        "outcomes": outcomes,
        **first,
        "by_column": by_column,
        "audit": [dict(finding) for finding in audit],
        "detector": _provenance(table.images),
        "protocol": _protocol(origin, columns, clusters, cluster_by, resamples, seed),
    }


def _operating_point(y: Ints, p: Floats, target: float) -> dict[str, Any]:
    point: dict[str, Any] = {"threshold": threshold_at_fpr(y, p, target=target)}
    n_real = int((y == 0).sum())
    if n_real and allowed(target, n_real) == 0:
        point["note"] = f"{n_real} real images are too few to tell {target:g} from 0: no false positive was allowed"
    return point


def _decided(outcomes: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Return how often the verdicts that were given are right; abstentions do not count."""
    (tn, fp), (fn, tp) = ([outcomes[name]["real"], outcomes[name]["fake"]] for name in LABELS)
    rates = rates_of(np.array([[tn, fp], [fn, tp]]))
    risk = wilson(fp + fn, tn + fp + fn + tp, reason="no image was decided")
    named = {name: rates[name].to_dict() for name in ("accuracy", "recall", "fpr")}
    return {"n": tn + fp + fn + tp} | named | {"risk": risk.to_dict()}


def _likelihood_ratios(outcomes: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """How much more often each verdict is given to fakes than to reals, of all images that could be read."""
    real, fake = (outcomes[name] for name in LABELS)
    n_real, n_fake = (sum(kinds.values()) - kinds["error"] for kinds in (real, fake))

    def of(verdict: str) -> Rate:
        if real[verdict] == 0 and fake[verdict] == 0:
            return undefined("no image got this verdict")
        above = wilson(fake[verdict], n_fake, reason="no fake images")
        return ratio(above, wilson(real[verdict], n_real, reason="no real images"))

    return {verdict: of(verdict).to_dict() for verdict in JUDGED}


def _groups(table: Table, scored: Scored, column: str, **options: Any) -> dict[str, Any]:
    """Groups by name with what was left out of them, and what they come to together."""
    names = table.names(column)
    assert names is not None
    held = scored.groups_of(column) if column in scored.columns else {}
    groups, over = group_figures(held, scored.reals, scored.y, scored.p, **options)
    frame = pd.DataFrame({"name": names.astype(str), "label": table.labels, "outcome": table.outcome})
    labels = frame.groupby("name")["label"].agg(["min", "max", "size"])
    kinds = pd.crosstab(frame["name"], frame["outcome"]).reindex(columns=list(OUTCOMES[2:]), fill_value=0)
    complete = {}
    for name, low, high, images in labels.itertuples():
        # A group of which no image could be scored has counts alone.
        empty = {"label": LABELS[low] if low == high else "both", "n": 0, "n_real": 0, "n_fake": 0}
        left_out = {kind: int(count) for kind, count in kinds.loc[name].items()}
        complete[str(name)] = {**groups.get(str(name), empty), "images": int(images), **left_out}
    return {"groups": complete, "over_groups": over}


def _provenance(images: pd.DataFrame) -> dict[str, Any]:
    """Return what made the results, as their own columns state it."""
    columns = [name for name in ("checkpoint", "checkpoint_sha256", "runtime", "version") if name in images]
    return {name: sorted({str(value) for value in images[name].dropna() if str(value)}) for name in columns}


def _protocol(
    origin: str,
    columns: Sequence[str],
    clusters: tuple[Ints, str] | None,
    cluster_by: str | None,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    if clusters is None:
        drawn = "real and fake images resampled separately"
        shares = "Wilson score"
        independence = (
            "intervals treat images as independent; images of one source or person are not, so true intervals are wider"
        )
        resampled = None
    else:
        count = int(clusters[0].max(initial=-1)) + 1
        resampled = {"column": clusters[1], "count": count, "chosen": "by the user" if cluster_by else "by its name"}
        drawn = f"whole clusters (column {clusters[1]}) resampled, those of real, fake and both images separately"
        shares = "Wilson score with the design effect of clusters (Rao and Scott 1992)"
        independence = "images of one cluster may depend on each other, clusters are treated as independent"
        if count < MIN_CLUSTERS:
            independence += f"; {count} clusters are few, so true intervals are wider"
    return {
        "positive_class": "fake",
        "reduction": "one row per image: its most fake face",
        "excluded": "images without a score (not applicable, errors) are in no rate except coverage; see the counts",
        "inconclusive": "rates at the threshold use every scored image; `decided` leaves inconclusive ones out",
        "threshold_origin": origin,
        "threshold_rule": "p_fake >= threshold is flagged as fake",
        "ties": "images with equal scores cross a threshold together and share a calibration bin; AUC counts them half",
        "confidence_level": 0.95,
        "interval_shares": (
            f"{shares}: accuracy, precision, recall, specificity, fpr. Wilson score of images by themselves: coverage, "
            "decided and the shares in likelihood_ratios"
        ),
        "interval_recovered": (
            "f1, balanced_accuracy, ppv, npv, likelihood ratios, cost at the threshold, gaps: recovered from the "
            "intervals of the rates in them (MOVER, Zou and Donner 2008; ratios Donner and Zou 2012)"
        ),
        "interval_others": (f"percentile bootstrap, {resamples} resamples, {drawn}, widened to hold the figure itself"),
        "interval_group_means": (
            "accuracy, recall and fpr: recovered from the groups' intervals (MOVER); others: bootstrap, real images "
            "shared"
        ),
        "zero_width": "an interval of no width says that no resample differed, not that the figure is certain",
        "independence": independence,
        "clusters": resampled,
        "seed": seed,
        "resamples": resamples,
        "eer": "FPR = FNR on the straight line between neighbouring operating points",
        "tpr_at_fpr": "highest recall among thresholds with empirical FPR at or below the target, no interpolation",
        "ece": f"{BINS} bins of equal mass, mean absolute difference weighted by mass; biased upwards on small sets",
        "aurc": "confidence is the distance from the threshold scaled to [0, 1] on either side",
        "ppv": "Bayes' rule at the stated prevalence, which is taken as known",
        "cost": (
            "mean per image at the stated costs and prevalence; the lowest is chosen on the images it is measured on, "
            "which flatters it"
        ),
        "likelihood_ratios": "share of the fakes over share of the reals that got the verdict, of all readable images",
        "group_by": columns[0] if columns else "",
        "columns": list(columns),
        "groups": (
            "a group of fakes is ranked against all real images; means over groups count each group the same; `gap` is "
            "between the extreme groups, which were picked for it"
        ),
    }
