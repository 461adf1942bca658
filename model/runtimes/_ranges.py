"""How far activations reach, for int8: measured on validation pictures, kept beside the checkpoint.

`NAME.ranges.json` is written by `python -m model.training.ranges`. It holds, of a transformer, the ranges of each
channel of the outputs of its norms, for PyTorch (`channels`); of any other network those of every activation of its
exported graph, for OpenVINO and ONNX Runtime (`ranges`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from model.checkpoint import CheckpointInfo
from model.runtimes._base import RuntimeRefusedError

_FORMAT = 1
Ranges = dict[str, tuple[float, float]]  # of activations
Channels = dict[str, tuple[np.ndarray, np.ndarray]]  # of norms, (D,) each


def ranges_path(info: CheckpointInfo) -> Path:
    """Where the ranges of a checkpoint's activations are."""
    return info.path.with_suffix(".ranges.json")


def of_activations(info: CheckpointInfo) -> Ranges:
    """Lowest and highest value of every activation of the exported graph.

    Raises
    ------
    RuntimeRefusedError
        If the checkpoint has none, or none of its own.
    """
    with _entry(info, "ranges", "openvino and onnxruntime") as entry:
        return {name: (float(low), float(high)) for name, (low, high) in entry.items()}


def of_channels(info: CheckpointInfo) -> Channels:
    """Lowest and highest value of each channel of the outputs of norms; raises as `of_activations`."""
    with _entry(info, "channels", "torch") as entry:
        return {name: (np.array(low, np.float32), np.array(high, np.float32)) for name, (low, high) in entry.items()}


def write_ranges(info: CheckpointInfo, kind: str, ranges: Ranges | Channels, pictures: int) -> Path:
    """Write ranges, of the kind `ranges` or `channels`, as measured on so many validation pictures."""
    entry = {
        "format": _FORMAT,
        "checkpoint_sha256": info.sha256,
        "pictures": pictures,
        kind: {name: [_short(low), _short(high)] for name, (low, high) in sorted(ranges.items())},
    }
    path = ranges_path(info)
    path.write_text(json.dumps(entry, indent=1 if kind == "ranges" else None) + "\n", "utf-8")
    return path


def _short(value: Any) -> Any:
    return [_short(one) for one in value] if isinstance(value, np.ndarray) else float(f"{value:.6g}")


@contextmanager
def _entry(info: CheckpointInfo, kind: str, runtimes: str) -> Iterator[dict[str, Any]]:
    path = ranges_path(info)
    advice = f"Make it with: python -m model.training.ranges {info.name} --data FOLDER"
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["format"] != _FORMAT or content["checkpoint_sha256"] != info.sha256:
            raise RuntimeRefusedError(f"{path.name}: is of another checkpoint. {advice}")
        if kind not in content:
            raise RuntimeRefusedError(f"{path.name}: has no ranges for {runtimes}. Choose another runtime.")
        yield content[kind]
    except FileNotFoundError:
        raise RuntimeRefusedError(f"{info.name} cannot be computed in int8: {path.name} is missing. {advice}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, RuntimeRefusedError):
            raise
        raise RuntimeRefusedError(f"{path.name}: is damaged ({error}). {advice}") from error
