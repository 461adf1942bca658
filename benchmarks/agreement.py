"""`python -m benchmarks.agreement --data FOLDER`: every runtime and precision beside PyTorch in float32.

The gate of `model.runtimes` holds them to the bundled pictures. Here the same agreement is taken over faces of a
folder, spread evenly over it: by how much the probability differs, how many verdicts do, and how alike the maps are.
What the gate refuses is named with its reason.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks._page import machine, publish, table
from benchmarks._pick import spread
from dashboard.settings import ROOT
from model import quality, runtimes
from model.checkpoint import CheckpointError, CheckpointInfo, list_checkpoints
from model.detector import Detector
from model.faces import FaceFinder
from model.imaging import ImageError, decode
from model.runtimes import Agreement, RuntimeRefusedError
from model.sources import SourceError

PAGE = ROOT / "docs" / "runtimes.md"


def faces(detector: Detector, folder: Path, count: int) -> np.ndarray:
    """The largest usable face of as many pictures, spread evenly over the folder: (N, 3, S, S), N at most `count`."""
    finder, crops = FaceFinder(), []
    for source in spread(folder, count).sources:
        try:
            image = decode(source.read()).pixels
        except (ImageError, SourceError):
            continue
        usable = (face for face in finder.find(image) if quality.reason_against(face) is None)
        if (face := max(usable, key=lambda face: face.size, default=None)) is not None:
            crops.append(detector.normalised(detector.crop(image, face)))
    return np.stack(crops)


def agreements(info: CheckpointInfo, folder: Path, count: int) -> Iterator[tuple[str, Agreement | str]]:
    """Of every runtime and precision that is installed: how it agrees, or why the gate refuses it."""
    reference = Detector.load(info.path)
    crops = faces(reference, folder, count)
    base = runtimes.load(info, lambda: reference.network)
    for name, precision in itertools.product(runtimes.available(), runtimes.PRECISIONS):
        if (name, precision) == ("torch", "fp32"):
            continue
        try:
            other = runtimes.load(info, lambda: reference.network, name, precision)
        except RuntimeRefusedError as error:
            yield f"{name}-{precision}", str(error)
            continue
        yield f"{name}-{precision}", runtimes.agreement(info, base, other, crops)


def main() -> int:
    """Measure, print and, if asked, write; exit code 1 if an admitted runtime changes more than its tolerance."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.agreement", description="Runtimes beside the reference."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--images", type=int, default=400, help="at most so many of them (default 400)")
    parser.add_argument("--write", action="store_true", help="write the section of docs/runtimes.md")
    options = parser.parse_args()
    rows, refused, beyond = [], [], 0
    try:
        for info in list_checkpoints():
            for name, found in agreements(info, options.data, options.images):
                print(info.name, name, found, flush=True)
                if isinstance(found, str):
                    refused.append(f"- `{info.name}`, {name}: {found}")
                    continue
                tolerance = runtimes.TOLERANCES[name.split("-")[1]]
                held = found.within(tolerance)
                beyond += not held
                numbers = [f"{found.faces:,}", f"{found.p_fake:.4f}", f"{found.flips}"]
                maps = [f"{found.correlation:.4f}", f"{found.error:.3f}"]
                allowed = f"{tolerance.p_fake:g}, 0, {tolerance.correlation:g}, {tolerance.error:g}"
                rows.append([f"`{info.name}`", name, *numbers, *maps, allowed, "yes" if held else "no"])
    except (CheckpointError, SourceError) as error:
        print(f"benchmarks.agreement: {error}", file=sys.stderr)
        return 2
    titles = ["Network", "Runtime", "Faces", "Probability apart, at most", "Other verdicts", "Maps correlate, at least"]
    titles.append("Maps apart, in standard deviations of the reference's, at most")
    text = "\n\n".join(
        (
            "## On pictures that the gate has not seen",
            f"{machine()} PyTorch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()}). Written by "
            f"`python -m benchmarks.agreement --data FOLDER --images {options.images} --write`.",
            table((*titles, "Allowed at the gate", "Within that here too"), rows),
            "Refused at the gate, or not offered:",
            "\n".join(refused) or "nothing.",
        )
    )
    publish(text, PAGE, "agreement", write=options.write)
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
