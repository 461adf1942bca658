"""Figures of weighted images, for many weightings at once, and the weightings of a bootstrap.

One implementation serves the figure itself (every weight 1) and its bootstrap (weights are how often an image was
drawn), so that an interval can never belong to another definition than its figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from model.metrics._arrays import Floats, Ints

BINS = 15
TARGETS = (0.01, 0.005)
COVERAGES = (0.8, 0.9)
RESAMPLES = 1000
SEED = 0
_CELLS = 1_000_000  # weights handled at once: bounds memory and stays near the cache


class Statistics:
    """The figures of one set of images as functions of their weights.

    Parameters
    ----------
    labels, scores : ndarray of shape (N,)
        Already checked; N > 0.
    threshold : float
        For the decision whose risk is ranked, and for `decision`.
    bins : int
        Of the calibration error, of equal mass.
    targets, coverages : sequence of float
        False positive rates and coverages to report at.
    """

    def __init__(
        self,
        labels: Ints,
        scores: Floats,
        *,
        threshold: float = 0.5,
        bins: int = BINS,
        targets: Sequence[float] = TARGETS,
        coverages: Sequence[float] = COVERAGES,
    ) -> None:
        self.order = np.argsort(scores, kind="stable")
        self.labels, self.scores = labels[self.order].astype(np.float64), scores[self.order]
        self.n, self.n_fake = len(labels), int(labels.sum())
        self.n_real = self.n - self.n_fake
        self.unique, self.starts = np.unique(self.scores, return_index=True)  # (G,) tie groups
        self.flagged = (self.scores >= threshold).astype(np.float64)
        self.bins, self.targets, self.coverages = bins, tuple(targets), tuple(coverages)
        wrong = (self.flagged != self.labels).astype(np.float64)
        certainty = confidence(self.scores, threshold)
        self.by_confidence = np.argsort(-certainty, kind="stable")
        self.wrong = wrong[self.by_confidence]
        self.confidence_starts = np.unique(-certainty[self.by_confidence], return_index=True)[1]

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        """Every figure that is defined, but those of `decision`.

        Parameters
        ----------
        weights : ndarray of shape (B, N)
            In ascending order of the scores, `order`; each row holds some image of every class that the set holds.

        Returns
        -------
        dict of ndarray of shape (B,)
        """
        total = np.add.reduceat(weights, self.starts, axis=1)  # (B, G)
        fake = np.add.reduceat(weights * self.labels, self.starts, axis=1)
        values = self._calibration(weights, total, fake) | self._selective(weights)
        if self.n_fake and self.n_real:
            values |= self._ranking(total, fake)
        return values

    def decision(self, weights: Floats) -> dict[str, Floats]:
        """Shares at the threshold: `accuracy`, and `recall`, `fpr` and their mean where the classes are there."""
        tp, fp = (weights @ (kind * self.flagged) for kind in (self.labels, 1 - self.labels))
        fakes, n = weights @ self.labels, weights.sum(axis=1)
        values = {"accuracy": (tp + n - fakes - fp) / n}
        if self.n_fake:
            values["recall"] = tp / fakes
        if self.n_real:
            values["fpr"] = fp / (n - fakes)
        if self.n_fake and self.n_real:
            values["balanced_accuracy"] = (values["recall"] + 1 - values["fpr"]) / 2
        return values

    def _ranking(self, total: Floats, fake: Floats) -> dict[str, Floats]:
        real = total - fake
        tp = fake[:, ::-1].cumsum(axis=1)[:, ::-1]  # fakes at or above each score
        fp = real[:, ::-1].cumsum(axis=1)[:, ::-1]
        n_fake, n_real = tp[:, :1], fp[:, :1]  # differ by resample where clusters differ in size
        values = {"roc_auc": (real * (tp - fake / 2)).sum(axis=1) / (n_fake * n_real)[:, 0]}
        # Average precision: precision at each threshold, weighted by the recall gained there.
        values["average_precision"] = (fake * tp / np.maximum(tp + fp, 1)).sum(axis=1) / n_fake[:, 0]
        # Equal error rate: where the straight line between two neighbouring operating points has FPR = FNR.
        column = np.zeros((len(total), 1))
        fpr = np.hstack([fp / n_real, column])  # (B, G + 1), the last point flags nothing
        fnr = 1 - np.hstack([tp / n_fake, column])
        gap = fpr - fnr  # falls from 1 to -1 as the threshold rises
        after = (gap >= 0).sum(axis=1)[:, None]
        gap_before, gap_after = (np.take_along_axis(gap, at, axis=1) for at in (after - 1, after))
        fpr_before, fpr_after = (np.take_along_axis(fpr, at, axis=1) for at in (after - 1, after))
        share = gap_before / (gap_before - gap_after)
        values["eer"] = (fpr_before + share * (fpr_after - fpr_before))[:, 0]
        tp = np.hstack([tp, column])
        for target in self.targets:
            at = (fp > allowed(target, n_real)).sum(axis=1)[:, None]  # the lowest threshold that keeps the promise
            values[f"tpr_at_fpr {target:g}"] = (np.take_along_axis(tp, at, axis=1) / n_fake)[:, 0]
        return values

    def _calibration(self, weights: Floats, total: Floats, fake: Floats) -> dict[str, Floats]:
        n = weights.sum(axis=1)
        values = {"brier": weights @ (self.scores - self.labels) ** 2 / n}
        # Tied images share the bin of their middle rank, so that the figure does not depend on their order.
        middle = total.cumsum(axis=1) - total / 2
        which = bin_of(middle / n[:, None], self.bins) + np.arange(len(total))[:, None] * self.bins
        residual = fake - total * self.unique
        sums = np.bincount(which.ravel(), residual.ravel(), minlength=len(total) * self.bins)
        values["ece"] = np.abs(sums).reshape(len(total), self.bins).sum(axis=1) / n
        return values

    def _selective(self, weights: Floats) -> dict[str, Floats]:
        ranked = weights[:, self.by_confidence]
        total = np.add.reduceat(ranked, self.confidence_starts, axis=1)
        wrong = np.add.reduceat(ranked * self.wrong, self.confidence_starts, axis=1)
        kept = total.cumsum(axis=1)
        n = kept[:, -1:]
        risk = wrong.cumsum(axis=1) / np.maximum(kept, 1)
        values = {"aurc": (total * risk).sum(axis=1) / n[:, 0]}
        for coverage in self.coverages:
            at = (kept < coverage * n - 1e-9).sum(axis=1)[:, None]
            values[f"accuracy_at_coverage {coverage:g}"] = 1 - np.take_along_axis(risk, at, axis=1)[:, 0]
        return values


def confidence(scores: Floats, threshold: float) -> Floats:
    """Distance of each score from the threshold, 0 at it and 1 at the end of its side; shape (N,)."""
    above, below = max(1 - threshold, 1e-12), max(threshold, 1e-12)
    return np.where(scores >= threshold, (scores - threshold) / above, (threshold - scores) / below)


def bin_of(middle: Floats, bins: int) -> Ints:
    """Bin of each middle rank in (0, 1)."""
    # The tiny shift sends a rank that lies on an edge up, whatever the rounding of the division said.
    return np.minimum((middle * bins + 1e-9).astype(np.int64), bins - 1)


def allowed(target: float, n_real: npt.ArrayLike) -> Ints:
    """Return how many false positives among `n_real` images keep the rate at or below `target`; shape of `n_real`."""
    return np.floor(target * np.asarray(n_real) + 1e-9).astype(np.int64)


def _drawn(rng: np.random.Generator, count: int, resamples: int) -> Floats:
    """How often each of `count` units was drawn in each resample; shape (resamples, count), rows sum to `count`."""
    picks = rng.integers(0, count, size=(resamples, count)) if count else np.zeros((resamples, 0), dtype=np.int64)
    picks += np.arange(resamples)[:, None] * count
    counts = np.bincount(picks.ravel(), minlength=resamples * count)
    return counts.reshape(resamples, count).astype(np.float64)


def drawn_among(rng: np.random.Generator, strata: Sequence[Ints], resamples: int) -> Floats:
    """How often each unit was drawn among its like; shape (resamples, U). The strata part the numbers below U."""
    weights = np.empty((resamples, sum(map(len, strata))))
    for stratum in strata:
        weights[:, stratum] = _drawn(rng, len(stratum), resamples)
    return weights


class Draws:
    """How images are drawn again: each by itself or whole clusters together, each class by itself.

    A cluster that holds both classes is drawn whole too, among its like.

    Parameters
    ----------
    labels : ndarray of shape (N,)
    clusters : ndarray of shape (N,), optional
        Code of the cluster of each image; every image by itself if not given.
    """

    def __init__(self, labels: Ints, clusters: Ints | None = None) -> None:
        if clusters is None:
            self._clusters, kinds = None, np.asarray(labels)
        else:
            found, self._clusters = np.unique(clusters, return_inverse=True)
            shares = np.bincount(self._clusters, labels) / np.bincount(self._clusters)
            kinds = np.where(shares == 1, 1, np.where(shares == 0, 0, 2))
            kinds = kinds.reshape(len(found))
        self._strata = [np.flatnonzero(kinds == kind) for kind in (0, 1, 2)]
        self._rows = len(labels)

    @property
    def smallest(self) -> int:
        """The least units that a class is drawn from; below 2 its resamples do not differ.

        Clusters of one class and clusters of both are drawn among their like: one of each has nothing to change with.
        """
        real, fake, both = (len(stratum) for stratum in self._strata)
        return min((max(count, both) for count in (real, fake) if count + both), default=0)

    def units(self, rng: np.random.Generator, resamples: int) -> Floats:
        """How often each unit is drawn; shape (resamples, U)."""
        return drawn_among(rng, self._strata, resamples)

    def weights(self, rng: np.random.Generator, resamples: int) -> Floats:
        """How often each image is drawn; shape (resamples, N)."""
        units = self.units(rng, resamples)
        return units if self._clusters is None else units[:, self._clusters]

    def chunks(self, rng: np.random.Generator, resamples: int) -> Iterator[Floats]:
        """How often each image is drawn, in arrays of shape (some, N) that make up `resamples` rows."""
        for rows in chunks(resamples, self._rows):
            yield self.weights(rng, rows)


def chunks(resamples: int, width: int) -> Iterator[int]:
    """Split the resamples so that a chunk of rows of this width stays small."""
    step = max(1, _CELLS // max(width, 1))
    for start in range(0, resamples, step):
        yield min(step, resamples - start)


def resampled(statistics: Statistics, draws: Draws, *, resamples: int, seed: int) -> dict[str, Floats]:
    """Every figure in every resample; `draws` of the images in order of their scores. Arrays of shape (resamples,)."""
    parts = [statistics(weights) for weights in draws.chunks(np.random.default_rng(seed), resamples)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
