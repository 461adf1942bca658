"""A checkpoint's network as an ONNX graph, kept in the user's cache folder under the checkpoint's digest.

The graph ends in the evidence map; the logit is its sum and the bias, taken outside. A quantiser that saw the sum
would round the very number that decides.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from model.checkpoint import CheckpointInfo
from model.files import write_whole

if TYPE_CHECKING:  # a second to import, for a graph that is there already
    from model.backbones import LinearHeadNet

INPUT, OUTPUT = "images", "evidence"
_VERSION = 2  # of what is exported; older graphs are left alone


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
    torch_version = version("torch").split("+")[0]
    return cache_dir() / "graphs" / f"{info.sha256[:32]}-{precision}-{_VERSION}-{torch_version}.onnx"


def exported(info: CheckpointInfo, network: Callable[[], LinearHeadNet]) -> Path:
    """The graph in float32: images (N, 3, S, S) -> evidence (N, H, W).

    The network is asked for, and exported, if the graph is not there yet.

    Raises
    ------
    OSError
        If the cache folder cannot be written.
    """
    path = graph_path(info)
    if not path.exists():
        from model.runtimes._export import export

        write_whole(path, lambda partial: export(network(), info.framing.side, partial))
    return path
