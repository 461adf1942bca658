"""What computes a checkpoint's network: PyTorch, OpenVINO or ONNX Runtime, behind one small interface.

PyTorch in float32 on the processor is the reference; `cuda` is PyTorch on a GPU. The other two are extras; each
reads a graph that is exported once per checkpoint and kept in the user's cache folder. Whatever is not the reference
must agree with it on the bundled pictures before it may judge any (`model.runtimes.parity`). Runtime and precision are
never chosen silently: every result names both.
"""

from __future__ import annotations

from model.runtimes._base import INT8, PRECISIONS, Runtime, RuntimeRefusedError
from model.runtimes._choose import AUTO, NAMES, Choice, available, choose, load
from model.runtimes.parity import TOLERANCES, Agreement, agreement

__all__ = [
    "AUTO",
    "INT8",
    "NAMES",
    "PRECISIONS",
    "TOLERANCES",
    "Agreement",
    "Choice",
    "Runtime",
    "RuntimeRefusedError",
    "agreement",
    "available",
    "choose",
    "load",
]
