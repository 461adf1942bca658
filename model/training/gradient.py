"""What every training by gradients needs: a learning rate over time, and an average of the weights."""

from __future__ import annotations

import math

import torch
from torch import nn


def schedule(step: int, steps: int, warmup_share: float) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then half a cosine to zero."""
    warmup = max(1, round(steps * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@torch.no_grad()
def average(averaged: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move an exponential moving average of the weights on by a step (Polyak and Juditsky 1992), in place.

    Early on, when there is little to average, less of what was before is kept than `decay`.
    """
    kept = min(decay, (1 + step) / (10 + step))
    for mine, theirs in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(theirs, 1 - kept)
        else:
            mine.copy_(theirs)
