"""From a table of results to the whole of `metrics.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from model.dataset import LABELS, label_of
from model.metrics._arrays import Floats, Ints, checked, confusion_at, rates_of
from model.metrics._groups import group_figures
from model.metrics._rate import wilson
from model.metrics._scores import all_scores, threshold_at_fpr
from model.metrics._statistics import BINS, COVERAGES, RESAMPLES, SEED, TARGETS, allowed

DECIDED = ("fake", "real")
OUTCOMES = ("fake", "real", "inconclusive", "not_applicable", "error")
NO_GROUP = "(no group)"


def image_level(predictions: pd.DataFrame) -> pd.DataFrame:
    """Reduce one row per face to one row per image: its most fake face.

    A face that was not applicable stands for its image only if every other was too. Order of the images is kept.

    Parameters
    ----------
    predictions : DataFrame
        Needs `path`, `p_fake` and `verdict`.

    Returns
    -------
    DataFrame
        The same columns, one row per `path`.
    """
    _require(predictions, ("path", "p_fake", "verdict"))
    frame = predictions.reset_index(drop=True)
    rank = pd.DataFrame(
        {
            "path": frame["path"],
            "usable": frame["verdict"].ne("not_applicable").to_numpy(),
            "p_fake": pd.to_numeric(frame["p_fake"]),
        }
    )
    ranked = rank.sort_values(["usable", "p_fake"], ascending=False, na_position="last", kind="stable")
    chosen = ranked.drop_duplicates("path").index
    first = rank.drop_duplicates("path").set_index("path").index
    return frame.loc[chosen].set_index("path", drop=False).loc[first].reset_index(drop=True)


def evaluate(
    predictions: pd.DataFrame,
    *,
    threshold: float | None = None,
    group_by: str = "group",
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
        `model.dataset.label_of` knows); optionally `error`, `threshold_fake` and the `group_by` column. One row per
        face or per image.
    threshold : float, optional
        `p_fake >= threshold` counts as flagged. If not given, the threshold the results were made with.
    group_by : str
        Column whose values are compared; ignored if it is absent and is the default.
    audit : sequence of dict
        Findings of `model.audit`, passed through.
    targets : sequence of float
        False positive rates for `tpr_at_fpr`.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        JSON-ready, as described in `docs/`. `n` counts the scored images, on which every rate but `coverage` and
        `decided` is computed; `images` counts all.

    Raises
    ------
    ValueError
        If a column is missing, an image has no label, a score is no probability, or the threshold is not unique.
    """
    _require(predictions, ("path", "p_fake", "verdict", "label"))
    if group_by not in predictions and group_by != "group":
        have = ", ".join(str(column) for column in predictions.columns)
        raise ValueError(f"There is no column '{group_by}' to group by. Columns: {have}.")
    images = image_level(predictions)
    labels = _labels(images)
    outcome = _outcomes(images)
    cut, origin = _threshold(images, threshold)
    has_verdict = outcome.isin(("fake", "real", "inconclusive")).to_numpy()
    numbers = pd.to_numeric(images["p_fake"]).to_numpy(dtype=np.float64)
    scored = has_verdict & ~np.isnan(numbers)
    y, p = checked(labels[scored], numbers[scored])
    confusion = confusion_at(y, p, cut)
    scores = {
        name: rate.to_dict()
        for name, rate in all_scores(y, p, threshold=cut, targets=targets, resamples=resamples, seed=seed).items()
    }
    rates = {name: rate.to_dict() for name, rate in rates_of(confusion).items()}
    table = {
        name: {kind: int(((labels == label) & (outcome == kind)).sum()) for kind in OUTCOMES}
        for label, name in enumerate(LABELS)
    }
    groups, over_groups = _groups(
        images, labels, outcome, scored, group_by, threshold=cut, targets=targets, resamples=resamples, seed=seed
    )
    inconclusive, not_applicable, errors = (
        int((outcome == kind).sum()) for kind in ("inconclusive", "not_applicable", "error")
    )
    return {
        "n": len(y),
        "n_real": int((y == 0).sum()),
        "n_fake": int((y == 1).sum()),
        "images": len(images),
        "abstained": inconclusive + not_applicable,
        "inconclusive": inconclusive,
        "not_applicable": not_applicable,
        "errors": errors,
        "unscored": int((has_verdict & np.isnan(numbers)).sum()),
        "threshold": cut,
        "confusion_matrix": confusion.tolist(),
        "accuracy": rates["accuracy"],
        "balanced_accuracy": scores["balanced_accuracy"],
        "precision": rates["precision"],
        "recall": rates["recall"],
        "f1": scores["f1"],
        "specificity": rates["specificity"],
        "fpr": rates["fpr"],
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
        "coverage": wilson(int(outcome.isin(DECIDED).sum()), len(images)).to_dict(),
        "decided": _decided(table),
        "outcomes": table,
        "groups": groups,
        "over_groups": over_groups,
        "audit": [dict(finding) for finding in audit],
        "detector": _provenance(images),
        "protocol": _protocol(origin, group_by, resamples, seed),
    }


def _require(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in frame]
    if missing:
        raise ValueError(
            f"The results lack the columns {', '.join(missing)}. Use a file written by `evaluate` or `bulk`."
        )


def _text(column: pd.Series) -> npt.NDArray[np.object_]:
    """Values as text, '' where there is none."""
    return column.astype(object).where(column.notna(), "").astype(str).to_numpy(dtype=object)


def _labels(images: pd.DataFrame) -> Ints:
    found = [label_of(word) for word in images["label"]]
    unknown = [path for path, label in zip(images["path"], found, strict=True) if label is None]
    if unknown:
        raise ValueError(
            f"{len(unknown)} images have no known label, the first is {unknown[0]}. Labels are 0/real or 1/fake."
        )
    return np.asarray(found, dtype=np.int64)


def _outcomes(images: pd.DataFrame) -> pd.Series:
    """Verdict of each image, or 'error' where it could not be read at all."""
    outcome = images["verdict"].astype(object)
    strange = sorted({str(word) for word in outcome} - set(OUTCOMES))
    if strange:
        raise ValueError(f"The verdict '{strange[0]}' is not known. Verdicts are {', '.join(OUTCOMES[:4])}.")
    if "error" in images:
        outcome = outcome.mask(_text(images["error"]) != "", "error")
    return outcome


def _threshold(images: pd.DataFrame, given: float | None) -> tuple[float, str]:
    if given is not None:
        if not 0 <= given <= 1:
            raise ValueError(f"A threshold is a probability in [0, 1], not {given}.")
        return float(given), "chosen by the user"
    used = pd.to_numeric(images["threshold_fake"]).dropna().unique() if "threshold_fake" in images else np.array([])
    if len(used) > 1:
        raise ValueError(f"The results were made with {len(used)} different thresholds. State one.")
    return (float(used[0]), "the threshold the results were made with") if len(used) else (0.5, "default")


def _operating_point(y: Ints, p: Floats, target: float) -> dict[str, Any]:
    point: dict[str, Any] = {"threshold": threshold_at_fpr(y, p, target=target)}
    n_real = int((y == 0).sum())
    if n_real and allowed(target, n_real) == 0:
        point["note"] = f"{n_real} real images are too few to tell {target:g} from 0: no false positive was allowed"
    return point


def _decided(table: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Return how often the verdicts that were given are right; abstentions do not count."""
    (tn, fp), (fn, tp) = ([table[name]["real"], table[name]["fake"]] for name in LABELS)
    rates = rates_of(np.array([[tn, fp], [fn, tp]]))
    return {"n": tn + fp + fn + tp} | {name: rates[name].to_dict() for name in ("accuracy", "recall", "fpr")}


def _groups(
    images: pd.DataFrame,
    labels: Ints,
    outcome: pd.Series,
    scored: npt.NDArray[np.bool_],
    group_by: str,
    **options: Any,
) -> tuple[dict[str, Any], dict[str, Any]]:
    if group_by not in images:
        return {}, {}
    names = _text(images[group_by])
    if not any(names):
        return {}, {}
    names[names == ""] = NO_GROUP
    p = pd.to_numeric(images["p_fake"]).to_numpy(dtype=np.float64)
    groups, over = group_figures(names[scored].tolist(), labels[scored], p[scored], **options)
    complete = {}
    for name in sorted(set(names)):
        own = names == name
        kinds = {kind: int((own & (outcome == kind).to_numpy()).sum()) for kind in OUTCOMES[2:]}
        held = sorted(set(labels[own]))
        label = LABELS[held[0]] if len(held) == 1 else "both"
        empty = {"label": label, "n": 0, "n_real": 0, "n_fake": 0}  # a group of which no image could be scored
        complete[name] = {**groups.get(name, empty), "images": int(own.sum()), **kinds}
    return complete, over


def _provenance(images: pd.DataFrame) -> dict[str, Any]:
    """Return what made the results, as their own columns state it."""
    columns = [name for name in ("checkpoint", "checkpoint_sha256", "runtime", "version") if name in images]
    return {name: sorted({str(value) for value in images[name].dropna() if str(value)}) for name in columns}


def _protocol(origin: str, group_by: str, resamples: int, seed: int) -> dict[str, Any]:
    return {
        "positive_class": "fake",
        "reduction": "one row per image: its most fake face",
        "excluded": "images without a score (not applicable, errors) are in no rate except coverage; see the counts",
        "inconclusive": "rates at the threshold use every scored image; `decided` leaves inconclusive ones out",
        "threshold_origin": origin,
        "threshold_rule": "p_fake >= threshold is flagged as fake",
        "ties": "images with equal scores cross a threshold together and share a calibration bin; AUC counts them half",
        "confidence_level": 0.95,
        "interval_shares": "Wilson score: accuracy, precision, recall, specificity, fpr, coverage, decided",
        "interval_others": (
            f"percentile bootstrap, {resamples} resamples, real and fake images resampled separately, "
            "widened to hold the figure itself"
        ),
        "interval_group_means": (
            "recall and fpr: recovered from the groups' Wilson intervals (MOVER); others: bootstrap, real images shared"
        ),
        "zero_width": "an interval of no width says that no resample differed, not that the figure is certain",
        "independence": (
            "intervals treat images as independent; images of one source or person are not, so true intervals are wider"
        ),
        "seed": seed,
        "resamples": resamples,
        "eer": "FPR = FNR on the straight line between neighbouring operating points",
        "tpr_at_fpr": "highest recall among thresholds with empirical FPR at or below the target, no interpolation",
        "ece": f"{BINS} bins of equal mass, mean absolute difference weighted by mass; biased upwards on small sets",
        "aurc": "confidence is the distance from the threshold scaled to [0, 1] on either side",
        "group_by": group_by,
        "groups": "a group of fakes is ranked against all real images; means over groups count each group the same",
    }
