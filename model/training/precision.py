"""bfloat16 where the machine computes with it faster than with float32."""

from __future__ import annotations

import torch


def autocast(device: torch.device) -> torch.autocast:
    """Mixed precision on GPUs and on processors with AVX-512; elsewhere bfloat16 is emulated and slow."""
    quick = device.type != "cpu" or torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.autocast(device.type, torch.bfloat16, enabled=quick)
