"""Two runs over the same images: which is better, how sure that is, and where they disagree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import bdtr, chdtrc  # of the distributions; scipy.stats takes a second to import

from model.metrics._arrays import Floats, Ints, MetricsError, checked
from model.metrics._members import Mask
from model.metrics._rate import BOOTSTRAP, Rate, undefined
from model.metrics._scores import interval
from model.metrics._statistics import RESAMPLES, SEED, TARGETS, Draws, Statistics
from model.metrics._table import Table, read, text, threshold_of

FEW = 25  # discordant images below which chi-square is too rough
_SHOWN = 20


@dataclass(frozen=True)
class Comparison:
    """Two runs, A and B, side by side.

    Attributes
    ----------
    figures : dict
        JSON-ready; see `compare`.
    images : DataFrame
        One row per image scored in both: `path` (as in A), `path_b`, `sha256` ('' if not known), `label` (0/1), `p_a`,
        `p_b`, `verdict_a`, `verdict_b`, `flagged_a`, `flagged_b`, `disagree`, `right` (`both`, `a`, `b`, `neither`),
        and `row_a`, `row_b`, the rows of `image_level` of the two tables. Those that disagree come first, the largest
        difference of scores on top.
    """

    figures: dict[str, Any]
    images: pd.DataFrame


def mcnemar(only_a: int, only_b: int) -> dict[str, Any]:
    """Test whether two runs err equally often on the same images (McNemar 1947).

    Parameters
    ----------
    only_a, only_b : int
        Images that only A, and only B, gets right.

    Returns
    -------
    dict
        `only_a`, `only_b`, `p_value` (two-sided), `mid_p` (less conservative; Fagerland et al. 2013), `statistic` and
        `method`: exact binomial below 25 such images, else chi-square with continuity correction (Edwards 1948).
        Without such images there is nothing to test: None, with the `reason`.

    Examples
    --------
    >>> round(mcnemar(1, 9)["p_value"], 4), mcnemar(1, 9)["method"]
    (0.0215, 'exact binomial')
    """
    count, smaller = only_a + only_b, min(only_a, only_b)
    found: dict[str, Any] = {"only_a": only_a, "only_b": only_b, "p_value": None, "mid_p": None, "statistic": None}
    if min(only_a, only_b) < 0:
        raise MetricsError(f"Counts are not negative, but {only_a} and {only_b} were given.")
    if not count:
        return found | {"method": "none", "reason": "both runs are right and wrong on the same images"}
    tail = float(bdtr(smaller, count, 0.5))
    exact = min(1.0, 2 * tail)
    below = float(bdtr(smaller - 1, count, 0.5)) if smaller else 0.0
    found["mid_p"] = min(1.0, tail + below) if only_a != only_b else 1.0
    if count < FEW:
        return found | {"p_value": exact, "method": "exact binomial"}
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / count
    method = "chi-square with continuity correction"
    return found | {"p_value": float(chdtrc(1, statistic)), "statistic": statistic, "method": method}


def paired_differences(
    y: npt.ArrayLike,
    p_a: npt.ArrayLike,
    p_b: npt.ArrayLike,
    *,
    threshold_a: float = 0.5,
    threshold_b: float = 0.5,
    clusters: npt.ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Rate]:
    """A less B in every figure; each resample draws the same images for both.

    Parameters
    ----------
    y, p_a, p_b : array-like of shape (N,)
        Labels and the probabilities of the two runs, image by image.
    clusters : array-like of shape (N,), optional
        Codes of clusters that are drawn whole.

    Returns
    -------
    dict
        `roc_auc`, `average_precision`, `eer`, `tpr_at_fpr 0.01`, `tpr_at_fpr 0.005`, `ece`, `brier`, `aurc`,
        `accuracy`, `balanced_accuracy`, `recall`, `fpr`.
    """
    labels, scores_a = checked(y, p_a)
    _, scores_b = checked(y, p_b)
    names = ["roc_auc", "average_precision", "eer", *(f"tpr_at_fpr {target:g}" for target in TARGETS)]
    names += ["ece", "brier", "aurc", "accuracy", "balanced_accuracy", "recall", "fpr"]
    if not len(labels):
        return dict.fromkeys(names, undefined("no images"))
    both = (
        Statistics(labels, scores_a, threshold=threshold_a, coverages=()),
        Statistics(labels, scores_b, threshold=threshold_b, coverages=()),
    )
    codes = None if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1].astype(np.int64)
    draws = Draws(labels, codes)

    def differences(weights: Floats) -> dict[str, Floats]:
        first, second = ((each(own) | each.decision(own)) for each in both for own in (weights[:, each.order],))
        return {name: first[name] - second[name] for name in first}

    values = differences(np.ones((1, len(labels))))
    missing = undefined("no fake images" if not labels.any() else "no real images")
    rates = dict.fromkeys(names, missing)
    if draws.smallest < 2:
        reason = "no interval: a class has a single image or too few clusters"
        return rates | {name: Rate(float(value[0]), None, None, BOOTSTRAP, reason) for name, value in values.items()}
    parts = [differences(weights) for weights in draws.chunks(np.random.default_rng(seed), resamples)]
    resampled = {name: np.concatenate([part[name] for part in parts]) for name in values}
    return rates | {name: interval(float(value[0]), resampled[name]) for name, value in values.items()}


def compare(
    predictions_a: pd.DataFrame,
    predictions_b: pd.DataFrame,
    *,
    threshold_a: float | None = None,
    threshold_b: float | None = None,
    cluster_by: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Comparison:
    """Compare two runs on the images that both scored.

    Images are matched by `sha256` where both tables hold that of every image they scored, else by `path`; images
    without one, which could not be read, always by `path`. A file that occurs several times is matched in order.

    Parameters
    ----------
    predictions_a, predictions_b : DataFrame
        As for `evaluate`.
    threshold_a, threshold_b : float, optional
        `p_fake >= threshold` counts as flagged; if not given, those the results were made with.
    cluster_by : str, optional
        Column of A, as for `evaluate`.

    Returns
    -------
    Comparison
        Its `figures`: `n`, `n_real`, `n_fake`, `matched_by`, `threshold_a`, `threshold_b`, `left_out` (`count` and up
        to 20 `names` each of `only_in_a`, `only_in_b`, `unscored`, `labels_differ`), `agreement` (`both_right`,
        `only_a`, `only_b`, `neither`, and `disagree`, flagged by one alone), `mcnemar`, `differences` (A less B) and
        `protocol`.

    Raises
    ------
    MetricsError
        If a table cannot be read; see `evaluate`.
    """
    a, b = read(predictions_a), read(predictions_b)
    cut_a, cut_b = threshold_of(a.images, threshold_a)[0], threshold_of(b.images, threshold_b)[0]
    matched_by = "sha256" if _has_hashes(a) and _has_hashes(b) else "path"
    rows = _matched(a, b, matched_by)
    one, other = rows["row_a"].notna(), rows["row_b"].notna()
    pairs = rows[one & other].astype({"row_a": "int64", "row_b": "int64"})
    row_a, row_b = pairs["row_a"].to_numpy(), pairs["row_b"].to_numpy()
    agree = a.labels[row_a] == b.labels[row_b]
    scored = a.scored[row_a] & b.scored[row_b]
    names_a, names_b = a.images["path"].astype(str), b.images["path"].astype(str)
    left_out = {
        "only_in_a": _listed(names_a.iloc[rows.loc[one & ~other, "row_a"].astype(int)]),
        "only_in_b": _listed(names_b.iloc[rows.loc[other & ~one, "row_b"].astype(int)]),
        "labels_differ": _listed(names_a.iloc[row_a[~agree]]),
        "unscored": _listed(names_a.iloc[row_a[agree & ~scored]]),
    }
    kept = agree & scored
    row_a, row_b = row_a[kept], row_b[kept]
    images = _side_by_side(a, b, row_a, row_b, cut_a, cut_b)
    right = images["right"]
    only_a, only_b = int((right == "a").sum()), int((right == "b").sum())
    clusters = a.clusters(cluster_by)
    codes = None if clusters is None else clusters[0][np.cumsum(a.scored)[row_a] - 1]
    differences = paired_differences(
        images["label"],
        images["p_a"],
        images["p_b"],
        threshold_a=cut_a,
        threshold_b=cut_b,
        clusters=codes,
        resamples=resamples,
        seed=seed,
    )
    figures = {
        "n": len(images),
        "n_real": int((images["label"] == 0).sum()),
        "n_fake": int((images["label"] == 1).sum()),
        "matched_by": matched_by,
        "threshold_a": cut_a,
        "threshold_b": cut_b,
        "left_out": left_out,
        "agreement": {
            "both_right": int((right == "both").sum()),
            "only_a": only_a,
            "only_b": only_b,
            "neither": int((right == "neither").sum()),
            "disagree": int(images["disagree"].sum()),
        },
        "mcnemar": mcnemar(only_a, only_b),
        "differences": {name: rate.to_dict() for name, rate in differences.items()},
        "protocol": {
            "differences": f"A less B, paired percentile bootstrap, {resamples} resamples of the same images for both",
            "clusters": None if clusters is None else clusters[1],
            "mcnemar": "treats images as independent, whether or not they come in clusters",
            "seed": seed,
        },
    }
    ranked = images.assign(apart=(images["p_a"] - images["p_b"]).abs())
    ranked = ranked.sort_values(["disagree", "apart"], ascending=False, kind="stable").drop(columns="apart")
    return Comparison(figures, ranked.reset_index(drop=True))


def _has_hashes(table: Table) -> bool:
    if "sha256" not in table.images:
        return False
    held = text(table.images["sha256"]) != ""
    return bool(held.any() and held[table.scored].all())


def _matched(a: Table, b: Table, key: str) -> pd.DataFrame:
    """Rows of either table that are the same image, missing where one lacks it: `row_a`, `row_b`."""

    def keyed(table: Table, name: str) -> pd.DataFrame:
        keys, paths = pd.Series(text(table.images[key])), pd.Series(text(table.images["path"]))
        keys = keys.mask(keys == "", "path " + paths)
        return pd.DataFrame({"key": keys, "turn": keys.groupby(keys).cumcount(), name: np.arange(len(keys))})

    return keyed(a, "row_a").merge(keyed(b, "row_b"), on=["key", "turn"], how="outer", sort=False)


def _side_by_side(a: Table, b: Table, row_a: Ints, row_b: Ints, cut_a: float, cut_b: float) -> pd.DataFrame:
    def scores(table: Table, rows: Ints) -> Floats:
        return pd.to_numeric(table.images["p_fake"]).to_numpy(dtype=np.float64, na_value=np.nan)[rows]

    p_a, p_b, label = scores(a, row_a), scores(b, row_b), a.labels[row_a]
    flagged_a, flagged_b = p_a >= cut_a, p_b >= cut_b
    hashes = text(a.images["sha256"])[row_a] if "sha256" in a.images else ""
    return pd.DataFrame(
        {
            "path": text(a.images["path"])[row_a],
            "path_b": text(b.images["path"])[row_b],
            "sha256": hashes,
            "label": label,
            "p_a": p_a,
            "p_b": p_b,
            "verdict_a": a.outcome[row_a],
            "verdict_b": b.outcome[row_b],
            "flagged_a": flagged_a,
            "flagged_b": flagged_b,
            "disagree": flagged_a != flagged_b,
            "right": _right(flagged_a == (label == 1), flagged_b == (label == 1)),
            "row_a": row_a,
            "row_b": row_b,
        }
    )


def _right(a: Mask, b: Mask) -> npt.NDArray[np.object_]:
    words = np.array(["neither", "b", "a", "both"], dtype=object)
    return words[a.astype(int) * 2 + b]


def _listed(names: pd.Series) -> dict[str, Any]:
    return {"count": len(names), "names": names.iloc[:_SHOWN].tolist()}
