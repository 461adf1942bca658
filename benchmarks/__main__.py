"""`make bench`: images per second, verdict and heatmap included, beside the usual loop. Only ratios travel.

The usual loop takes one image at a time: a forward pass for the score, then pytorch-grad-cam (another forward pass and
a backward pass) for the map. Both sides use the same weights, threads, decoder, face finder and crops. The first table
starts from files, the second from finished crops, which leaves the network and its map. Rounds alternate between the
two sides, so that other work on the machine meets both; each side counts with its median.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from PIL import Image

from dashboard.settings import sample_dir
from model.checkpoint import CheckpointError
from model.detector import Detector
from model.faces import FaceFinder
from model.imaging import ImageError, decode
from model.sources import MemorySource, SourceError, from_folder


class UsualLoop:
    """One image at a time, Grad-CAM by hooks and back-propagation."""

    def __init__(self, detector: Detector) -> None:
        from pytorch_grad_cam import GradCAM

        self.detector = detector
        self.finder = FaceFinder()
        self.network = copy.deepcopy(detector.network).requires_grad_(True)
        self.cam = GradCAM(model=self.network, target_layers=[self.network.cells])

    def files(self, sources: Sequence[MemorySource]) -> int:
        """Score and map every face of every file; returns how many."""
        count = 0
        for source in sources:
            image = decode(source.read()).pixels
            faces = self.finder.find(image)
            count += self.crops([self.detector.crop(image, face) for face in faces])
        return count

    def crops(self, crops: Sequence[Image.Image]) -> int:
        """Score and map finished crops."""
        for crop in crops:
            batch = self.detector.tensor(crop)[None]
            with torch.no_grad():
                self.network(batch)
            self.cam(input_tensor=batch, targets=[lambda logit: logit])
        return len(crops)


class OurWay:
    """Batches, with the exact evidence map out of the same forward pass."""

    def __init__(self, detector: Detector, batch_size: int) -> None:
        self.detector = detector
        self.batch_size = batch_size

    def files(self, sources: Sequence[MemorySource]) -> int:
        """Score and map every face of every file; returns how many."""
        results = self.detector.classify_many(sources, batch_size=self.batch_size)
        return sum(face.evidence is not None for result in results for face in result.faces)

    def crops(self, crops: Sequence[Image.Image]) -> int:
        """Score and map finished crops."""
        tensors = [self.detector.tensor(crop) for crop in crops]
        for first in range(0, len(tensors), self.batch_size):
            self.detector.score(tensors[first : first + self.batch_size])
        return len(crops)


def _compare(title: str, count: int, rounds: int, usual: Callable[[], int], ours: Callable[[], int]) -> None:
    seconds: dict[str, list[float]] = {"usual loop": [], "Reality Check": []}
    for _ in range(rounds):
        for (_, times), work in zip(seconds.items(), (usual, ours), strict=True):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    print(f"\n{title}")
    rates = {name: count / statistics.median(times) for name, times in seconds.items()}
    for name, times in seconds.items():
        spread = (max(times) - min(times)) / statistics.median(times)
        print(f"  {name:<14} {rates[name]:7.1f} images/s   (rounds differ by {spread:.0%})")
    print(f"  ratio          {rates['Reality Check'] / rates['usual loop']:7.2f}")


def _samples(wanted: int) -> list[MemorySource]:
    """Sample images that can be decoded, repeated as often as needed."""
    usable = []
    for source in from_folder(sample_dir()):
        data = source.read()
        try:
            decode(data)
        except ImageError:
            continue
        usable.append(MemorySource(source.name, data))
    if not usable:
        raise SourceError(f"{sample_dir()}: there are no sample images.")
    return list(itertools.islice(itertools.cycle(usable), wanted))


def main() -> int:
    """Run both comparisons and print their ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed beside the usual loop.")
    parser.add_argument("--checkpoint", help="name or path; the default checkpoint if not given")
    parser.add_argument("--images", type=int, default=16, help="images per round (default 16)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each side (default 3)")
    parser.add_argument("--batch-size", type=int, default=16, help="faces per forward pass of ours (default 16)")
    options = parser.parse_args()
    try:
        detector = Detector.load(options.checkpoint)
        sources = _samples(options.images)
    except (CheckpointError, SourceError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    usual, ours = UsualLoop(detector), OurWay(detector, options.batch_size)
    finder = FaceFinder()
    decoded = [decode(source.read()).pixels for source in sources]
    crops = [detector.crop(image, face) for image in decoded for face in finder.find(image)]
    if not crops:
        print("benchmarks: no face was found in the sample images.", file=sys.stderr)
        return 2
    print(f"{detector.checkpoint.name}, {detector.runtime}, {torch.get_num_threads()} threads, {len(crops)} faces")
    usual.crops(crops[:2])  # warm up: first calls allocate and choose kernels
    ours.crops(crops[:2])
    files = "From files: decode, find faces, score, map"
    _compare(files, len(sources), options.rounds, lambda: usual.files(sources), lambda: ours.files(sources))
    alone = "From finished crops: score, map"
    _compare(alone, len(crops), options.rounds, lambda: usual.crops(crops), lambda: ours.crops(crops))
    return 0


if __name__ == "__main__":
    sys.exit(main())
