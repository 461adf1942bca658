"""Exact signed evidence: how much each cell, and each facial region, moved the decision.

For a network that averages its cells and applies one linear layer,

    logit = bias + sum over cells of (w . cell) / number of cells,

so each cell's term is its exact contribution in log-odds: positive toward `fake`, negative toward `real`. Cells are
measured from the mean training face at the same place (see `model.backbones.LinearHeadNet`): zero means "as usual
there", and the bias is what the network says of the usual face. This is the
class activation map of Zhou et al. 2016 without rescaling, and Grad-CAM (Selvaraju et al. 2017) on the same layer is
its positive part up to a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:  # a second to import, which whoever only sums maps does without
    from torch import Tensor

    from model.backbones import LinearHeadNet


def evidence_and_logits(network: LinearHeadNet, images: Tensor) -> tuple[Tensor, Tensor]:
    """One forward pass: evidence maps and logits.

    Parameters
    ----------
    images : Tensor of shape (B, 3, S, S)
        Normalised crops.

    Returns
    -------
    evidence : Tensor of shape (B, H, W), float32
        Log-odds per cell; `evidence.sum((1, 2)) + bias == logits`.
    logits : Tensor of shape (B,), float32
    """
    products = network.project(images)  # (B, H, W)
    evidence = products / (products.shape[1] * products.shape[2])
    return evidence, evidence.sum(dim=(1, 2)) + network.head.bias.float()


def ledger(evidence: np.ndarray, bias: float, masks: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Sum an evidence map over regions; a cell on a border is split by area.

    Parameters
    ----------
    evidence : ndarray of shape (H, W)
        Log-odds per cell.
    bias : float
        The network's bias, in log-odds.
    masks : mapping of str to ndarray of shape (S, S), bool
        A partition of the crop (see `model.regions.masks`).

    Returns
    -------
    dict of str to float
        Log-odds per region, then `bias`. The values sum to the logit.
    """
    shares = area_shares(masks, evidence.shape)
    out = {name: float((evidence * share).sum()) for name, share in shares.items()}
    out["bias"] = float(bias)
    return out


def area_shares(masks: Mapping[str, np.ndarray], grid: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The share of each cell of an H x W grid that each region covers; shares of a cell sum to one."""
    (top, bottom), (left, right) = (
        _windows(cells, side) for cells, side in zip(grid, next(iter(masks.values())).shape, strict=True)
    )
    areas = np.outer(bottom - top, right - left)

    def share(mask: np.ndarray) -> np.ndarray:
        sums = cv2.integral(np.ascontiguousarray(mask, np.uint8))  # of all pixels above and left of a point
        corners = [sums[np.ix_(y, x)] for y in (top, bottom) for x in (left, right)]
        return (corners[3] - corners[2] - corners[1] + corners[0]) / areas

    return {name: share(mask) for name, mask in masks.items()}


def _windows(cells: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel of each cell along a side, and the one after its last; a pixel on a border lies in both cells."""
    numbers = np.arange(cells + 1) * side
    return numbers[:-1] // cells, -(-numbers[1:] // cells)
