"""A checkpoint's network as an ONNX graph, kept in the user's cache folder under the checkpoint's digest.

The graph ends in the evidence map; the logit is its sum and the bias, taken outside. A quantiser that saw the sum
would round the very number that decides.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from model.backbones import LinearHeadNet
from model.backbones.fuse import fused
from model.checkpoint import CheckpointInfo

INPUT, OUTPUT = "images", "evidence"
_VERSION = 2  # of what is exported; older graphs are left alone
_OPSET = 17


def cache_dir() -> Path:
    """Where graphs are kept: `REALITY_CHECK_CACHE_DIR`, or the folder that the system has for such files."""
    if wanted := os.environ.get("REALITY_CHECK_CACHE_DIR"):
        return Path(wanted)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "reality-check"


def graph_path(info: CheckpointInfo, precision: str = "fp32") -> Path:
    """Where the graph of a checkpoint is kept; the name changes with whatever changes its content."""
    torch_version = torch.__version__.split("+")[0]
    return cache_dir() / "graphs" / f"{info.sha256[:32]}-{precision}-{_VERSION}-{torch_version}.onnx"


def exported(info: CheckpointInfo, network: LinearHeadNet) -> Path:
    """The graph in float32, exported if it is not there yet: images (N, 3, S, S) -> evidence (N, H, W).

    Raises
    ------
    OSError
        If the cache folder cannot be written.
    """
    path = graph_path(info)
    if not path.exists():
        write_once(path, lambda partial: _export(network, info.framing.side, partial))
    return path


def write_once(path: Path, write: Callable[[Path], None]) -> None:
    """Make a file beside its place, then move it there: another process sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as folder:
        partial = Path(folder) / path.name
        write(partial)
        partial.replace(path)


class _EvidenceOnly(nn.Module):
    """The exact evidence map as the network's only output; see `model.evidence`."""

    def __init__(self, network: LinearHeadNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        products = self.network.project(images)
        return products / (products.shape[1] * products.shape[2])


def _export(network: LinearHeadNet, side: int, path: Path) -> None:
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
