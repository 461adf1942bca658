"""`python -m benchmarks.heatmap_cost`: what the map and the ledger cost beside the classification alone.

Finished crops in batches of 32, on both sides the same network, lock and threads. Rounds alternate between the sides,
so that other work on the machine meets all; each counts with its median. With `--write` the table goes into
docs/faithfulness.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks._page import publish
from benchmarks.faithfulness import PAGE
from dashboard.settings import sample_dir
from model.backbones.fuse import fused
from model.checkpoint import CheckpointError, list_checkpoints
from model.detector import Detector
from model.evidence import ledger
from model.faces import FaceFinder
from model.imaging import ImageError, decode
from model.regions import find_mesh, masks
from model.sources import SourceError, from_folder


def crops_of(detector: Detector, count: int) -> tuple[list, list]:
    """Crops of the faces in the sample images and their landmarks in them, repeated to `count`."""
    finder, framing = FaceFinder(), detector.checkpoint.framing
    crops, landmarks = [], []
    for source in from_folder(sample_dir()):
        try:
            image = decode(source.read()).pixels
        except ImageError:
            continue
        for face in finder.find(image)[:1]:
            crops.append(detector.crop(image, face))
            landmarks.append(framing.inside(face, framing.crop_box(face, *image.size)))
        if len(crops) >= count:
            break
    if not crops:
        raise SourceError(f"{sample_dir()}: no face was found in the sample images.")
    return (crops * count)[:count], (landmarks * count)[:count]


def measure(detector: Detector, count: int, rounds: int) -> dict[str, list[float]]:
    """Seconds per round of each side."""
    crops, landmarks = crops_of(detector, count)
    inputs = [detector.normalised(crop) for crop in crops]
    bias, side = float(detector.network.head.bias.detach()[0]), detector.checkpoint.framing.side

    network = fused(detector.network)  # as the runtime has it
    layout = torch.contiguous_format if network is detector.network else torch.channels_last

    def alone() -> None:
        with detector._lock, torch.inference_mode():
            images = torch.from_numpy(np.stack(inputs)).contiguous(memory_format=layout)
            network.head(network.mean_cells(images)).numpy()  # no cell is held, on either side

    def with_map() -> None:
        detector.score(inputs)

    def with_ledger() -> None:
        evidence, _ = detector.score(inputs)
        for one, crop, points in zip(evidence, crops, landmarks, strict=True):
            ledger(one, bias, masks(points, side, find_mesh(crop, points)))

    sides: dict[str, Callable[[], None]] = {"alone": alone, "with map": with_map, "with map and ledger": with_ledger}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for work in sides.values():  # warm up: first calls allocate and choose kernels
        work()
    for _ in range(rounds):
        for name, work in sides.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> int:
    """Measure, print and, if asked, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heatmap_cost", description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=32, help="crops in the batch (default 32)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side (default 5)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/faithfulness.md")
    options = parser.parse_args()
    lines = [
        f"Median of {options.rounds} alternating rounds of one batch of {options.images} finished crops, fp32, "
        f"{torch.get_num_threads()} threads; only the ratios mean anything on another machine. *Alone*, all that cells "
        "hold is averaged and then weighed. For a map each cell is weighed first and the sum over cells is the logit, "
        "which is no more work, so that figures about or below zero are to be expected.",
        "",
        "| Checkpoint | Classification alone, s | With map | With map, mesh and ledger | Spread of rounds |",
        "| --- | --- | --- | --- | --- |",
    ]
    try:
        for info in list_checkpoints():
            seconds = measure(Detector.load(info.path), options.images, options.rounds)
            alone, mapped, booked = (statistics.median(times) for times in seconds.values())
            spread = max((max(times) - min(times)) / statistics.median(times) for times in seconds.values())
            lines.append(
                f"| `{info.name}` | {alone:.2f} | {mapped / alone - 1:+.1%} "
                f"| {booked / alone - 1:+.1%} | {spread:.0%} |"
            )
            print(lines[-1], flush=True)
    except (CheckpointError, SourceError) as error:
        print(f"benchmarks.heatmap_cost: {error}", file=sys.stderr)
        return 2
    publish("\n".join(("## What a map costs", "", *lines)), PAGE, "cost of maps", write=options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
