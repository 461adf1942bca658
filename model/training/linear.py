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


@dataclass(frozen=True)
class Head:
    """A linear layer on raw (unstandardised) mean cells."""

    weight: np.ndarray  # (C,)
    bias: float

    def logits(self, cells: np.ndarray) -> np.ndarray:
        """Mean cells (N, C) -> logits (N,)."""
        return cells @ self.weight + self.bias


def fit(cells: np.ndarray, labels: np.ndarray, weights: np.ndarray, penalty: float) -> Head:
    """Minimise weighted squared error + penalty * ||w||^2 on standardised features.

    Parameters
    ----------
    cells : ndarray of shape (N, C)
    labels : ndarray of shape (N,)
        0 real, 1 fake.
    weights : ndarray of shape (N,)
        Normalised to sum to one here.
    penalty : float
        Positive, in units of a standardised feature's variance; the bias is not penalised.
    """
    weights = weights / weights.sum()
    centre = weights @ cells
    spread = np.sqrt(weights @ (cells - centre) ** 2) + 1e-6
    inputs = torch.from_numpy(((cells - centre) / spread).astype(np.float32))
    importance = torch.from_numpy(weights.astype(np.float32))
    targets = torch.from_numpy((2.0 * labels - 1).astype(np.float32))
    offset = float(importance @ targets)
    covariance = (inputs * importance[:, None]).T @ inputs  # (C, C)
    moment = inputs.T @ (importance * (targets - offset))
    identity = torch.eye(len(covariance), dtype=torch.float64)
    weight = torch.linalg.solve(covariance.double() + penalty * identity, moment.double()).numpy() / spread
    # From the regression's scale, on which the classes lie near -1 and +1, to about that of log-odds.
    weight = _LOG_ODDS * weight
    return Head(weight, _LOG_ODDS * offset - float(centre @ weight))


_LOG_ODDS = 4.0  # only a convenient size for logits before calibration
