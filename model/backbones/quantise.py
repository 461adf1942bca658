"""Weights as bytes: how a checkpoint stores them, and what int8 multiplies with."""

from __future__ import annotations

import torch
from torch import Tensor


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric int8 with one scale per output channel (dimension 0).

    Quantising what was restored gives the same levels and scales again.
    """
    flat = weight.flatten(1)
    scale = (flat.abs().amax(dim=1) / 127).clamp_min(1e-12)  # (out,)
    levels = (flat / scale[:, None]).round().clamp(-127, 127).to(torch.int8)
    return levels.view_as(weight).contiguous(), scale
