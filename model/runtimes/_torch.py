"""PyTorch on the processor."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from model.backbones import LinearHeadNet
from model.backbones.fuse import fused
from model.evidence import evidence_and_logits


class TorchRuntime:
    """The reference: norms folded into convolutions, channels last.

    Parameters
    ----------
    network : LinearHeadNet
        In evaluation mode; not changed.
    precision : {"fp32", "bf16"}
        bf16 computes convolutions and matrix products in bfloat16; the evidence is summed in float32.
    """

    name = "torch"

    def __init__(self, network: LinearHeadNet, precision: str = "fp32") -> None:
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be fp32 or bf16 with the torch runtime, got {precision!r}")
        self.precision = precision
        self._network = fused(network)
        self._channels_last = self._network is not network

    def forward(self, batch: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """See `model.runtimes.Runtime`."""
        autocast = torch.autocast("cpu", torch.bfloat16) if self.precision == "bf16" else nullcontext()
        if self._channels_last:
            batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), autocast:
            evidence, logits = evidence_and_logits(self._network, batch)
        return evidence.numpy(), logits.numpy()
