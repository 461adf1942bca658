"""Export of a network as an ONNX graph."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from model.backbones import LinearHeadNet
from model.backbones.fuse import fused
from model.runtimes._graph import INPUT, OUTPUT

_OPSET = 17


class _EvidenceOnly(nn.Module):
    """The exact evidence map as the network's only output; see `model.evidence`."""

    def __init__(self, network: LinearHeadNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        products = self.network.project(images)
        return products / (products.shape[1] * products.shape[2])


def export(network: LinearHeadNet, side: int, path: Path) -> None:
    """Write a network's graph for crops of side x side pixels, in batches of any size."""
    wrapped = _EvidenceOnly(fused(network)).eval()
    with warnings.catch_warnings(), torch.no_grad():
        # Tracing warns about shapes that it takes as fixed, which they are, and that newer exporters exist, which need
        # another package.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            wrapped,
            (torch.zeros(2, 3, side, side),),
            str(path),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )
