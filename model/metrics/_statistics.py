"""All threshold-free figures from weighted images, for many weightings at once.

One implementation serves the figure itself (every weight 1) and its bootstrap (weights are how often an image was
drawn), so that an interval can never belong to another definition than its figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

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
        For F1, balanced accuracy and the decision whose risk is ranked.
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
        order = np.argsort(scores, kind="stable")
        self.labels, self.scores = labels[order].astype(np.float64), scores[order]
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
        """Every figure that is defined.

        Parameters
        ----------
        weights : ndarray of shape (B, N)
            In ascending order of the scores; each row sums to `n_real` over the real and `n_fake` over the fake images.

        Returns
        -------
        dict of ndarray of shape (B,)
        """
        total = np.add.reduceat(weights, self.starts, axis=1)  # (B, G)
        fake = np.add.reduceat(weights * self.labels, self.starts, axis=1)
        values = self._calibration(weights, total, fake) | self._selective(weights)
        if self.n_fake and self.n_real:
            values |= self._ranking(total, fake) | self._decision(weights)
        elif self.n_fake:
            values |= {"f1": self._decision(weights)["f1"]}
        return values

    def _ranking(self, total: Floats, fake: Floats) -> dict[str, Floats]:
        real = total - fake
        tp = fake[:, ::-1].cumsum(axis=1)[:, ::-1]  # fakes at or above each score
        fp = real[:, ::-1].cumsum(axis=1)[:, ::-1]
        values = {"roc_auc": (real * (tp - fake / 2)).sum(axis=1) / (self.n_fake * self.n_real)}
        # Average precision: precision at each threshold, weighted by the recall gained there.
        values["average_precision"] = (fake * tp / np.maximum(tp + fp, 1)).sum(axis=1) / self.n_fake
        # Equal error rate: where the straight line between two neighbouring operating points has FPR = FNR.
        column = np.zeros((len(total), 1))
        fpr = np.hstack([fp / self.n_real, column])  # (B, G + 1), the last point flags nothing
        fnr = 1 - np.hstack([tp / self.n_fake, column])
        gap = fpr - fnr  # falls from 1 to -1 as the threshold rises
        after = (gap >= 0).sum(axis=1)[:, None]
        gap_before, gap_after = (np.take_along_axis(gap, at, axis=1) for at in (after - 1, after))
        fpr_before, fpr_after = (np.take_along_axis(fpr, at, axis=1) for at in (after - 1, after))
        share = gap_before / (gap_before - gap_after)
        values["eer"] = (fpr_before + share * (fpr_after - fpr_before))[:, 0]
        tp = np.hstack([tp, column])
        for target in self.targets:
            at = (fp > allowed(target, self.n_real)).sum(axis=1)[:, None]  # the lowest threshold that keeps the promise
            values[f"tpr_at_fpr {target:g}"] = np.take_along_axis(tp, at, axis=1)[:, 0] / self.n_fake
        return values

    def _decision(self, weights: Floats) -> dict[str, Floats]:
        tp = weights @ (self.labels * self.flagged)
        fp = weights @ ((1 - self.labels) * self.flagged)
        values = {"f1": 2 * tp / (tp + fp + self.n_fake)}
        if self.n_real:
            values["balanced_accuracy"] = (tp / self.n_fake + 1 - fp / self.n_real) / 2
        return values

    def _calibration(self, weights: Floats, total: Floats, fake: Floats) -> dict[str, Floats]:
        values = {"brier": weights @ (self.scores - self.labels) ** 2 / self.n}
        # Tied images share the bin of their middle rank, so that the figure does not depend on their order.
        middle = total.cumsum(axis=1) - total / 2
        which = bin_of(middle / self.n, self.bins) + np.arange(len(total))[:, None] * self.bins
        residual = fake - total * self.unique
        sums = np.bincount(which.ravel(), residual.ravel(), minlength=len(total) * self.bins)
        values["ece"] = np.abs(sums).reshape(len(total), self.bins).sum(axis=1) / self.n
        return values

    def _selective(self, weights: Floats) -> dict[str, Floats]:
        ranked = weights[:, self.by_confidence]
        total = np.add.reduceat(ranked, self.confidence_starts, axis=1)
        wrong = np.add.reduceat(ranked * self.wrong, self.confidence_starts, axis=1)
        kept = total.cumsum(axis=1)
        risk = wrong.cumsum(axis=1) / np.maximum(kept, 1)
        values = {"aurc": (total * risk).sum(axis=1) / self.n}
        for coverage in self.coverages:
            at = (kept < coverage * self.n - 1e-9).sum(axis=1)[:, None]
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


def allowed(target: float, n_real: int) -> int:
    """Return how many false positives among `n_real` images keep the rate at or below `target`."""
    return int(target * n_real + 1e-9)


def drawn(rng: np.random.Generator, count: int, resamples: int) -> Floats:
    """How often each of `count` images was drawn in each resample; shape (resamples, count), rows sum to `count`."""
    picks = rng.integers(0, count, size=(resamples, count)) if count else np.zeros((resamples, 0), dtype=np.int64)
    picks += np.arange(resamples)[:, None] * count
    counts = np.bincount(picks.ravel(), minlength=resamples * count)
    return counts.reshape(resamples, count).astype(np.float64)


def chunks(resamples: int, width: int) -> Iterator[int]:
    """Split the resamples so that a chunk of rows of this width stays small."""
    step = max(1, _CELLS // max(width, 1))
    for start in range(0, resamples, step):
        yield min(step, resamples - start)


def resampled(statistics: Statistics, *, resamples: int, seed: int) -> dict[str, Floats]:
    """Every figure in every resample; real and fake images are resampled separately. Arrays of shape (resamples,)."""
    rng = np.random.default_rng(seed)
    is_fake = statistics.labels == 1
    parts = []
    for rows in chunks(resamples, statistics.n):
        weights = np.empty((rows, statistics.n))
        weights[:, ~is_fake] = drawn(rng, statistics.n_real, rows)
        weights[:, is_fake] = drawn(rng, statistics.n_fake, rows)
        parts.append(statistics(weights))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
