"""`python -m model.training.ranges CHECKPOINT --data FOLDER`: how far each activation reaches, for int8.

The pictures are those of the split `val`, drawn in turn from both labels. Nothing else is learnt from them: the ranges
say where eight bits are spent.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from model import quality
from model.backbones import LinearHeadNet
from model.backbones.vit_int8 import normed
from model.checkpoint import CheckpointError, CheckpointInfo, read_info, resolve
from model.faces import FaceFinder
from model.imaging import ImageError, decode
from model.network import load_network
from model.normalise import Normaliser
from model.runtimes._graph import INPUT, exported
from model.runtimes._quantise import layers, prepared
from model.runtimes._ranges import Channels, Ranges, write_ranges
from model.training.config import ConfigError, DataConfig
from model.training.data import load


def main() -> int:
    """Measure, then write the ranges beside the checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m model.training.ranges", description="Ranges for int8.")
    parser.add_argument("checkpoint", help="name or path")
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled pictures")
    parser.add_argument("--manifest", type=Path, help="CSV of the pictures; the folder's name with .csv if not given")
    parser.add_argument("--pictures", type=int, default=128, help="so many of the split val (default 128)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of pictures (default 0)")
    options = parser.parse_args()
    manifest = options.manifest or options.data.with_suffix(".csv")
    try:
        info = read_info(resolve(options.checkpoint))
        frame = load(DataConfig.model_validate({"root": options.data, "manifest": manifest}), options.seed)
    except (CheckpointError, ConfigError, OSError) as error:
        print(f"ranges: {error}", file=sys.stderr)
        return 2
    crops = list(faces(info, chosen(frame, options.pictures, options.seed)))
    network = load_network(info)
    if normed(network):
        path = write_ranges(info, "channels", measure_channels(network, crops), len(crops))
    else:
        path = write_ranges(info, "ranges", measure_activations(info, crops), len(crops))
    print(f"Wrote {path} from {len(crops)} faces")
    return 0


def chosen(frame: pd.DataFrame, count: int, seed: int) -> list[Path]:
    """Pictures of the split `val`, half of each label."""
    val = frame[frame["split"] == "val"].sample(frac=1, random_state=seed)
    halves = [val[val["label"] == label]["path"].head(count // 2) for label in (0, 1)]
    return [Path(path) for path in pd.concat(halves)]


def faces(info: CheckpointInfo, pictures: list[Path]) -> Iterator[np.ndarray]:
    """The largest usable face of each picture as the network sees it: (1, 3, S, S)."""
    finder, framing = FaceFinder(), info.framing
    normalise = Normaliser(info.header["mean"], info.header["std"])
    for path in pictures:
        try:
            image = decode(path.read_bytes()).pixels
        except ImageError:
            continue
        for face in finder.find(image)[:1]:
            if quality.reason_against(face) is None:
                crop = framing.cut(image, framing.crop_box(face, image.width, image.height))
                yield normalise(crop)[None]


def measure_channels(network: LinearHeadNet, crops: list[np.ndarray]) -> Channels:
    """Smallest and largest value of each channel of the norms of a vision transformer."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def seen(name: str, outputs: Tensor) -> None:
        values = outputs.flatten(0, -2).numpy()  # (N, D)
        low, high = found.get(name, (values[0], values[0]))
        found[name] = (np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0)))

    hooks = [
        norm.register_forward_hook(lambda _, __, outputs, name=name: seen(name, outputs))
        for name, norm in normed(network).items()
    ]
    with torch.inference_mode():
        for crop in crops:
            network.project(torch.from_numpy(crop))
    for hook in hooks:
        hook.remove()
    return found


def measure_activations(info: CheckpointInfo, crops: list[np.ndarray]) -> Ranges:
    """Smallest and largest value of every activation that is quantised."""
    from onnxruntime.quantization import CalibrationDataReader
    from onnxruntime.quantization.calibrate import MinMaxCalibrater

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(crops)

        def get_next(self) -> dict[str, Any] | None:
            crop = next(self.left, None)
            return None if crop is None else {INPUT: crop}

    graph = exported(info, lambda: load_network(info))
    with tempfile.TemporaryDirectory() as folder:
        ready = prepared(graph, Path(folder))
        calibrater = MinMaxCalibrater(str(ready), layers(ready), str(Path(folder) / "augmented.onnx"))
        calibrater.augment_graph()
        calibrater.create_inference_session()
        calibrater.collect_data(Reader())
        found = calibrater.compute_data()
    return {
        name: (float(np.min(entry.range_value[0])), float(np.max(entry.range_value[1])))
        for name, entry in found.items()
    }


if __name__ == "__main__":
    sys.exit(main())
