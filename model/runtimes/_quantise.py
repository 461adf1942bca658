"""int8 graphs: static quantisation with ranges measured on validation pictures.

The ranges lie beside the checkpoint (`model.runtimes._ranges`), so that every machine makes the same graph. Weights
take seven bits per channel and activations eight: products of two then never overflow 16 bits, and processors with and
without VNNI compute the same sums.
"""

from __future__ import annotations

import hashlib
import importlib.util
from importlib.metadata import version
from pathlib import Path
from typing import Any

from model.checkpoint import CheckpointInfo
from model.files import write_whole
from model.runtimes._base import RuntimeRefusedError
from model.runtimes._graph import graph_path
from model.runtimes._ranges import Ranges, of_activations

_LAYERS = ("Conv", "MatMul", "Gemm", "Add", "GlobalAveragePool", "MaxPool")


def quantised(info: CheckpointInfo, graph: Path) -> Path:
    """The int8 graph of a checkpoint, made from its float32 graph if it is not there yet.

    Raises
    ------
    RuntimeRefusedError
        If the checkpoint has no ranges of its own, or what quantises is not installed.
    """
    ranges = of_activations(info)
    if importlib.util.find_spec("onnxruntime") is None:
        raise RuntimeRefusedError(
            "int8 graphs are made by onnxruntime. Install it with: pip install -e '.[onnxruntime]' -c constraints.txt"
        )
    own = hashlib.sha256(repr((version("onnxruntime"), sorted(ranges.items()))).encode()).hexdigest()[:12]
    path = graph_path(info, f"int8-{own}")
    if not path.exists():
        write_whole(path, lambda partial: _quantise(graph, ranges, partial))
    return path


def prepared(graph: Path, folder: Path) -> Path:
    """The float32 graph as the quantiser wants it: shapes inferred, constants folded."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = folder / "prepared.onnx"
    quant_pre_process(str(graph), str(path), skip_symbolic_shape=True)
    return path


def layers(graph: Path) -> list[str]:
    """Kinds of nodes that are quantised."""
    import onnx

    kinds = {node.op_type for node in onnx.load(str(graph), load_external_data=False).graph.node}
    attention = "Softmax" in kinds  # of transformers only the matrix products
    return [kind for kind in _LAYERS if kind in kinds and not (attention and kind not in ("MatMul", "Gemm"))]


def _quantise(graph: Path, ranges: Ranges, out: Path) -> None:
    import numpy as np
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    ready = prepared(graph, out.parent)
    data: dict[str, Any] = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()
    }
    quantizer = QDQQuantizer(
        onnx.load(str(ready)),
        True,  # per channel
        True,  # seven bits for weights
        QuantType.QInt8,
        QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, data),
        [],
        [],
        layers(ready),
        {},
    )
    quantizer.quantize_model()
    quantizer.model.save_model_to_file(str(out), False)
    ready.unlink()
