"""Runtimes that read an exported graph."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from model.runtimes._base import RuntimeRefusedError
from model.runtimes._graph import INPUT


class OpenVinoRuntime:
    """OpenVINO on the processor; its precision is stated, since by itself it would choose what the machine is best at.

    Parameters
    ----------
    graph : Path
        ONNX graph that ends in the evidence map.
    bias : float
        Added to the sum of the map.
    precision : {"fp32", "bf16", "int8"}
        int8 expects a graph with quantised layers; what is left of it is computed in float32.
    threads : int
        Processor threads; 0 for as many as this process may use.

    Raises
    ------
    RuntimeRefusedError
        If the processor has no bfloat16: OpenVINO would compute in float32 and not say so.
    """

    name = "openvino"

    def __init__(self, graph: Path, bias: float, precision: str, threads: int = 0) -> None:
        import openvino

        self.precision = precision
        self.version: str = openvino.__version__
        self.bias = bias
        self._compiled = openvino.Core().compile_model(
            str(graph),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
                "INFERENCE_NUM_THREADS": threads or _cores(),
            },
        )
        if precision == "bf16" and self._compiled.get_property("INFERENCE_PRECISION_HINT") != openvino.Type.bf16:
            raise RuntimeRefusedError("openvino has no bf16 on this processor. Choose fp32, or the runtime torch.")

    def forward(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `model.runtimes.Runtime`."""
        evidence = np.array(self._compiled(batch)[0], dtype=np.float32)  # a copy: the output is used again
        return evidence, evidence.sum(axis=(1, 2)) + np.float32(self.bias)


class OnnxRuntime:
    """ONNX Runtime on the processor, without spinning threads; parameters as of `OpenVinoRuntime`."""

    name = "onnxruntime"

    def __init__(self, graph: Path, bias: float, precision: str, threads: int = 0) -> None:
        import onnxruntime

        self.precision = precision
        self.version: str = onnxruntime.__version__
        self.bias = bias
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or _cores()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors only
        self._session: Any = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def forward(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `model.runtimes.Runtime`."""
        evidence = np.asarray(self._session.run(None, {INPUT: batch})[0], dtype=np.float32)
        return evidence, evidence.sum(axis=(1, 2)) + np.float32(self.bias)


def _cores() -> int:
    """Logical cores that this process may use; the runtimes themselves would count those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
