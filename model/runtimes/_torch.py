"""PyTorch, on the processor or on a GPU."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import numpy as np
import torch

from model.backbones import LinearHeadNet
from model.backbones.fuse import fused
from model.backbones.vit_int8 import in_int8, normed, supported
from model.checkpoint import CheckpointInfo
from model.evidence import evidence_and_logits
from model.runtimes._base import RuntimeRefusedError
from model.runtimes._ranges import of_channels


def quantised(info: CheckpointInfo, network: LinearHeadNet) -> LinearHeadNet:
    """A copy of the checkpoint's network that computes in int8, with the ranges that lie beside the checkpoint.

    Raises
    ------
    RuntimeRefusedError
        If it is not a vision transformer, has no ranges of its own, or the processor has no instructions for it.
    """
    if not normed(network):
        raise RuntimeRefusedError(
            f"torch computes int8 of vision transformers only. For {info.name} use openvino or onnxruntime."
        )
    if not supported():
        raise RuntimeRefusedError(
            "torch computes int8 only on processors with AVX-512 VNNI and BF16. Choose another precision."
        )
    return in_int8(network, of_channels(info))


class TorchRuntime:
    """Norms folded into convolutions, channels last; on the processor in fp32 it is the reference.

    Parameters
    ----------
    network : LinearHeadNet
        In evaluation mode; not changed.
    precision : {"fp32", "bf16", "int8"}
        bf16 computes convolutions and matrix products in bfloat16; the evidence is summed in float32. int8 expects a
        network with quantised blocks (`model.backbones.vit_int8`); what is left of it is computed as it is.
    threads : int
        Processor threads of the whole process; 0 leaves them as they are.
    device : {"cpu", "cuda"}
        With `cuda`, the first GPU that the process sees.
    """

    def __init__(self, network: LinearHeadNet, precision: str = "fp32", threads: int = 0, device: str = "cpu") -> None:
        if threads:
            torch.set_num_threads(threads)
        if device == "cuda":
            torch.backends.cudnn.allow_tf32 = False  # float32 as it is stated, not its first ten bits
        self.name = "torch" if device == "cpu" else device
        self.precision = precision
        self.bias = float(network.head.bias.detach()[0])
        folded = fused(network)
        self._channels_last = folded is not network
        self._device = torch.device(device)
        self._network = folded if device == "cpu" else copy.deepcopy(folded).to(self._device)

    def forward(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `model.runtimes.Runtime`."""
        images = torch.from_numpy(batch).to(self._device)
        autocast = torch.autocast(self._device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        if self._channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), autocast:
            evidence, logits = evidence_and_logits(self._network, images)
        return evidence.cpu().numpy(), logits.cpu().numpy()
