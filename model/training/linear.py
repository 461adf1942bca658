"""Weighted logistic regression on mean cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional


@dataclass(frozen=True)
class Head:
    """A linear layer on raw (unstandardised) mean cells."""

    weight: np.ndarray  # (C,)
    bias: float

    def logits(self, cells: np.ndarray) -> np.ndarray:
        """Mean cells (N, C) -> logits (N,)."""
        return cells @ self.weight + self.bias


def fit(cells: np.ndarray, labels: np.ndarray, weights: np.ndarray, penalty: float) -> Head:
    """Minimise weighted cross-entropy + penalty * ||w||^2 on standardised features by L-BFGS.

    Parameters
    ----------
    cells : ndarray of shape (N, C)
    labels : ndarray of shape (N,)
        0 real, 1 fake.
    weights : ndarray of shape (N,)
        Normalised to sum to one here.
    penalty : float
        Positive; the bias is not penalised.
    """
    weights = weights / weights.sum()
    centre = weights @ cells
    spread = np.sqrt(weights @ (cells - centre) ** 2) + 1e-6
    inputs = torch.from_numpy(((cells - centre) / spread).astype(np.float32))
    targets = torch.from_numpy(labels.astype(np.float32))
    importance = torch.from_numpy(weights.astype(np.float32))
    weight = torch.zeros(inputs.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=200, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-7
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        errors = functional.binary_cross_entropy_with_logits(inputs @ weight + bias, targets, reduction="none")
        value = (errors * importance).sum() + penalty * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    raw = weight.detach().double().numpy() / spread
    return Head(raw, float(bias.detach()) - float(centre @ raw))
