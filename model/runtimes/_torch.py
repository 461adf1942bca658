"""PyTorch on the processor."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch

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
    threads : int
        Processor threads of the whole process; 0 leaves them as they are.
    """

    name = "torch"

    def __init__(self, network: LinearHeadNet, precision: str = "fp32", threads: int = 0) -> None:
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be fp32 or bf16 with the torch runtime, got {precision!r}")
        if threads:
            torch.set_num_threads(threads)
        self.precision = precision
        self.bias = float(network.head.bias.detach()[0])
        self._network = fused(network)
        self._channels_last = self._network is not network

    def forward(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `model.runtimes.Runtime`."""
        images = torch.from_numpy(batch)
        autocast = torch.autocast("cpu", torch.bfloat16) if self.precision == "bf16" else nullcontext()
        if self._channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), autocast:
            evidence, logits = evidence_and_logits(self._network, images)
        return evidence.numpy(), logits.numpy()
