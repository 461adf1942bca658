"""Means over sets that share images, such as leave-one-out folds that are joined by the same photographs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.metrics._arrays import Floats, checked, missing_class
from model.metrics._rate import BOOTSTRAP, Rate, undefined
from model.metrics._scores import interval
from model.metrics._statistics import RESAMPLES, SEED, Statistics, chunks, drawn_among


def means_over_sets(
    y: npt.ArrayLike, p: npt.ArrayLike, *, target: float = 0.01, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Rate]:
    """Mean over sets of `roc_auc` and of `tpr_at_fpr`, each set counting the same.

    In a resample an image is drawn equally often in every set that holds it, so that what sets share makes their
    figures err together. Images are drawn among their like: of the same label, in the same sets.

    Parameters
    ----------
    y : array of shape (N,)
    p : array of shape (S, N)
        Score of each image in each set; nan where a set does not hold the image.
    target : float
        Highest false positive rate, as of `tpr_at_fpr`.

    Returns
    -------
    dict of Rate
        `roc_auc` and `tpr_at_fpr TARGET`; undefined if a set lacks a class.

    Examples
    --------
    >>> nan = float("nan")
    >>> means_over_sets([0, 0, 1, 1], [[0.1, 0.4, 0.35, nan], [0.1, 0.4, nan, 0.8]])["roc_auc"].value
    0.75
    """
    labels, scores = np.asarray(y), np.asarray(p, dtype=np.float64)
    names = ("roc_auc", f"tpr_at_fpr {target:g}")
    held = ~np.isnan(scores)
    sets: list[tuple[Statistics, npt.NDArray[np.intp]]] = []  # with the images in ascending order of their scores
    smallest = len(labels)
    for own, inside in zip(scores, held, strict=True):
        mine, values = checked(labels[inside], own[inside])
        if (missing := missing_class(mine)) is not None:
            return dict.fromkeys(names, missing)
        smallest = min(smallest, *np.bincount(mine))
        statistics = Statistics(mine, values, targets=(target,))
        sets.append((statistics, np.flatnonzero(inside)[statistics.order]))
    if not sets:
        return dict.fromkeys(names, undefined("no sets"))

    def means(weights: Floats) -> dict[str, Floats]:
        found = [statistics(weights[:, rows]) for statistics, rows in sets]
        return {name: np.mean([figures[name] for figures in found], axis=0) for name in names}

    values_of = {name: float(value[0]) for name, value in means(np.ones((1, len(labels)))).items()}
    if smallest < 2:
        few = "no interval: a class of a set has a single image"
        return {name: Rate(value, None, None, BOOTSTRAP, few) for name, value in values_of.items()}
    alike = np.unique(np.vstack([held, labels]), axis=1, return_inverse=True)[1].ravel()
    strata = [np.flatnonzero(alike == kind) for kind in range(alike.max() + 1)]
    rng = np.random.default_rng(seed)
    parts = [means(drawn_among(rng, strata, rows)) for rows in chunks(resamples, len(labels))]
    return {name: interval(value, np.concatenate([part[name] for part in parts])) for name, value in values_of.items()}
