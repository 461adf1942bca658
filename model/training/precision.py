"""bfloat16 where the machine computes with it faster than with float32."""

from __future__ import annotations

import torch

from model import bfloat16


def autocast(device: torch.device) -> torch.autocast:
    """Mixed precision on GPUs, and on processors that do not only emulate it."""
    quick = device.type != "cpu" or not bfloat16.emulated()
    return torch.autocast(device.type, torch.bfloat16, enabled=quick)
