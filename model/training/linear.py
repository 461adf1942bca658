"""A linear head on mean cells by weighted, regularised least squares.

Least squares on targets -1 and +1 gives the direction of Fisher's linear discriminant with a shrunken covariance
(Hastie, Tibshirani and Friedman 2009, "The Elements of Statistical Learning", 4.3). On generators that were held out of
training it did better than logistic regression (see `docs/training.md`), and it is solved in closed form. Its scale is
arbitrary; calibration sets it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg.blas import ssyrk
from torch import Tensor


@dataclass(frozen=True)
class Head:
    """A linear layer on raw (unstandardised) mean cells."""

    weight: np.ndarray  # (C,)
    bias: float

    def logits(self, cells: np.ndarray) -> np.ndarray:
        """Mean cells (N, C) -> logits (N,)."""
        return cells @ self.weight + self.bias


class LeastSquares:
    """Heads on the same pictures, with all of them or without some.

    Where pictures outnumber channels, the sums that a fit needs are taken once; leaving pictures out subtracts theirs,
    so that a leave-one-out fold costs little more than its solution. Where channels outnumber pictures, the same
    problem is solved in as many unknowns as there are pictures (its dual; Hastie et al. 2009, 18.3.5).

    Parameters
    ----------
    cells : ndarray of shape (N, C)
    labels : ndarray of shape (N,)
        0 real, 1 fake.
    importance : ndarray of shape (N,)
        Weight of a picture among those of its label; both labels weigh the same in every fit.
    """

    def __init__(self, cells: np.ndarray, labels: np.ndarray, importance: np.ndarray) -> None:
        self._centre, self._scale = cells.mean(axis=0), cells.std(axis=0) + 1e-6
        self._inputs = torch.from_numpy(((cells - self._centre) / self._scale).astype(np.float32))
        self._labels = labels
        self._importance = torch.from_numpy(importance.astype(np.float32))
        self._wide = cells.shape[1] > len(cells)
        self._sums = [] if self._wide else [self._sum(np.flatnonzero(labels == label)) for label in (0, 1)]

    def fit(self, penalty: float, *, without: np.ndarray | None = None) -> Head:
        """Minimise weighted squared error + penalty * ||w||^2 on features of unit variance.

        Parameters
        ----------
        penalty : float
            Positive, in units of a feature's variance; the bias is not penalised.
        without : ndarray of shape (N,), bool, optional
            Pictures to leave out.
        """
        centre, solution = (self._by_pictures if self._wide else self._by_channels)(penalty, without)
        # From the regression's scale, on which the classes lie near -1 and +1, to about that of log-odds.
        weight = _LOG_ODDS * solution.numpy() / self._scale
        return Head(weight, -float((self._centre + centre.numpy() * self._scale) @ weight))

    def _by_channels(self, penalty: float, without: np.ndarray | None) -> tuple[Tensor, Tensor]:
        """Mean of both labels' means (C,), and the direction (C,), in as many unknowns as there are channels."""
        means, seconds = [], []
        for label in (0, 1):
            total, first, second = self._sums[label]
            if without is not None and (rows := np.flatnonzero(without & (self._labels == label))).size:
                less = self._sum(rows)
                total, first, second = total - less[0], first - less[1], second - less[2]
            means.append(first / total)
            seconds.append(second / total)
        centre = (means[0] + means[1]) / 2
        covariance = (seconds[0] + seconds[1]).double() / 2 - torch.outer(centre.double(), centre.double())
        spread = covariance.diagonal().clamp_min(0).sqrt() + 1e-6
        covariance /= spread[:, None] * spread
        covariance.diagonal().add_(penalty)
        moment = ((means[1] - means[0]).double() / 2 / spread)[:, None]
        return centre, torch.cholesky_solve(moment, torch.linalg.cholesky(covariance))[:, 0] / spread

    def _by_pictures(self, penalty: float, without: np.ndarray | None) -> tuple[Tensor, Tensor]:
        """The same, in as many unknowns as there are pictures."""
        kept = np.ones(len(self._labels), dtype=bool) if without is None else ~without
        inputs, labels, weights = self._inputs[kept], torch.from_numpy(self._labels[kept]), self._importance[kept]
        for label in (0, 1):  # to a half each
            weights = torch.where(labels == label, weights / (2 * weights[labels == label].sum()), weights)
        centre = weights @ inputs
        inputs = inputs - centre
        spread = (weights @ inputs.square()).sqrt() + 1e-6
        inputs *= weights.sqrt()[:, None] / spread
        kernel = torch.from_numpy(ssyrk(1.0, inputs.T.numpy(), trans=1, lower=1)).double()  # half the work of a product
        kernel.diagonal().add_(penalty)
        target = (weights.sqrt() * torch.where(labels == 1, 1.0, -1.0)).double()[:, None]
        shares = torch.cholesky_solve(target, torch.linalg.cholesky(kernel))[:, 0]
        return centre, (inputs.T @ shares.float()).double() / spread

    def _sum(self, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Sums over pictures: weight (), weighted features (C,), and their weighted products (C, C)."""
        inputs, weights = self._inputs[rows], self._importance[rows]
        weighted = inputs * weights[:, None]
        return weights.sum(), weighted.sum(dim=0), weighted.T @ inputs


_LOG_ODDS = 4.0  # only a convenient size for logits before calibration
