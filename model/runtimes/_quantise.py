"""int8 graphs: static quantisation with ranges measured on validation pictures.

The ranges lie beside the checkpoint (`NAME.ranges.json`, written by `python -m model.training.ranges`), so that every
machine makes the same graph. Weights take seven bits per channel and activations eight: products of two then never
overflow 16 bits, and processors with and without VNNI compute the same sums.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from model.checkpoint import CheckpointInfo
from model.files import write_whole
from model.runtimes._base import RuntimeRefusedError
from model.runtimes._graph import graph_path

_LAYERS = ("Conv", "MatMul", "Gemm", "Add", "GlobalAveragePool", "MaxPool")
_FORMAT = 1


def ranges_path(info: CheckpointInfo) -> Path:
    """Where the ranges of a checkpoint's activations are."""
    return info.path.with_suffix(".ranges.json")


def quantised(info: CheckpointInfo, graph: Path) -> Path:
    """The int8 graph of a checkpoint, made from its float32 graph if it is not there yet.

    Raises
    ------
    RuntimeRefusedError
        If the checkpoint has no ranges of its own, or what quantises is not installed.
    """
    ranges = _ranges(info)
    if importlib.util.find_spec("onnxruntime") is None:
        raise RuntimeRefusedError(
            "int8 graphs are made by onnxruntime. Install it with: pip install -e '.[onnxruntime]' -c constraints.txt"
        )
    own = hashlib.sha256(repr((version("onnxruntime"), sorted(ranges.items()))).encode()).hexdigest()[:12]
    path = graph_path(info, f"int8-{own}")
    if not path.exists():
        write_whole(path, lambda partial: _quantise(graph, ranges, partial))
    return path


def _ranges(info: CheckpointInfo) -> dict[str, tuple[float, float]]:
    path = ranges_path(info)
    advice = f"Make it with: python -m model.training.ranges {info.name} --data FOLDER"
    try:
        entry = json.loads(path.read_text("utf-8"))
        if entry["format"] != _FORMAT or entry["checkpoint_sha256"] != info.sha256:
            raise RuntimeRefusedError(f"{path.name}: is of another checkpoint. {advice}")
        return {name: (float(low), float(high)) for name, (low, high) in entry["ranges"].items()}
    except FileNotFoundError:
        raise RuntimeRefusedError(f"{info.name} cannot be computed in int8: {path.name} is missing. {advice}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, RuntimeRefusedError):
            raise
        raise RuntimeRefusedError(f"{path.name}: is damaged ({error}). {advice}") from error


def write_ranges(info: CheckpointInfo, ranges: dict[str, tuple[float, float]], pictures: int) -> Path:
    """Write the ranges of every activation, as measured on so many validation pictures."""
    entry = {
        "format": _FORMAT,
        "checkpoint_sha256": info.sha256,
        "pictures": pictures,
        "ranges": {name: [float(f"{low:.6g}"), float(f"{high:.6g}")] for name, (low, high) in sorted(ranges.items())},
    }
    path = ranges_path(info)
    path.write_text(json.dumps(entry, indent=1) + "\n", "utf-8")
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


def _quantise(graph: Path, ranges: dict[str, tuple[float, float]], out: Path) -> None:
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
