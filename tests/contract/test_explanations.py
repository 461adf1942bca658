"""Explanations of the bundled checkpoints: they follow what was learnt, and they add up on every picture.

The second part needs labelled faces, in the folder that the environment variable REALITY_CHECK_FACES names or in
`shared/data/faces256` beside the project. `python -m tests.contract.test_explanations --images 500` checks every
checkpoint on that many, `--runtime openvino` with another runtime.
"""

from __future__ import annotations

import argparse
import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import CheckpointInfo, list_checkpoints
from model.detector import Detector
from model.faithfulness._assess import correlation
from model.runtimes import NAMES
from model.sources import Source
from model.typical import load, pictures
from tests.contract.make_golden import samples

BUNDLED = list_checkpoints()
FACES = Path(os.environ.get("REALITY_CHECK_FACES", Path(__file__).parents[3] / "shared" / "data" / "faces256"))
IMAGES = {"resnet50": 500}  # others are slow: 40
each = pytest.mark.parametrize("info", BUNDLED, ids=lambda info: info.name)


def _crops(detector: Detector, count: int) -> list[np.ndarray]:
    from model.imaging import decode

    found = []
    for source in samples():
        data = source.read()
        face = detector.classify(data).deciding
        if face is not None:
            found.append(detector.normalised(detector.crop(decode(data).pixels, face.face)))
        if len(found) == count:
            break
    return found


@each
def test_the_map_follows_the_parameters(info: CheckpointInfo) -> None:
    """Adebayo et al. 2018, "Sanity Checks for Saliency Maps": other parameters, other map."""
    detector = Detector.load(info.path)
    crops = _crops(detector, 4)
    assert len(crops) == 4
    own, _ = detector.score(crops)
    generator = torch.Generator().manual_seed(0)
    head, all_of_it = copy.deepcopy(detector.network), copy.deepcopy(detector.network)
    with torch.no_grad():
        weight = head.head.weight
        weight.copy_(weight[:, torch.randperm(weight.shape[1], generator=generator)])
        for parameter in all_of_it.extractor.parameters():
            shuffled = torch.randperm(parameter.numel(), generator=generator)
            parameter.copy_(parameter.flatten()[shuffled].view_as(parameter))
    again, _ = Detector(info, lambda: copy.deepcopy(detector.network)).score(crops)
    assert min(correlation(one, other) for one, other in zip(own, again, strict=True)) > 0.999
    for name, network in (("head", head), ("extractor", all_of_it)):
        other, _ = Detector(info, lambda network=network: network).score(crops)
        alike = [abs(correlation(left, right)) for left, right in zip(own, other, strict=True)]
        assert float(np.mean(alike)) < 0.5, (name, alike)


def largest_gap(info: CheckpointInfo, count: int, runtime: str = "torch") -> tuple[int, float]:
    """Faces judged, and the largest distance between a ledger's sum and the logit of the network as it is stored.

    The runtime computes the ledgers in float32; the logits are the stored network's own, always in torch.
    """
    detector = Detector.load(info.path, runtime=runtime)
    score = detector.score
    own: list[float] = []

    def both(crops: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            own.extend(detector.network(torch.from_numpy(np.stack(crops))).flatten().tolist())
        return score(crops)

    detector.score = both  # type: ignore[method-assign]
    paths = [path for label in ("real", "fake") for path in pictures(FACES / "test" / label, count // 2)]
    sums = [
        sum(face.ledger.values())
        for result in detector.classify_many(Source(path.name, path) for path in paths)
        for face in result.faces
        if face.logit is not None
    ]
    assert len(sums) == len(own)
    return len(sums), float(np.abs(np.array(sums) - np.array(own)).max())


@each
@pytest.mark.slow
@pytest.mark.skipif(not (FACES / "test").is_dir(), reason="needs labelled faces: set REALITY_CHECK_FACES")
def test_on_many_pictures_the_ledger_is_the_logit(info: CheckpointInfo) -> None:
    count = IMAGES.get(info.name, 40)
    faces, gap = largest_gap(info, count)
    assert faces > 0.9 * count
    assert gap < 1e-4


@each
def test_its_usual_ledger_was_measured_with_its_weights(info: CheckpointInfo) -> None:
    usual = load(info)
    assert usual is not None, "run python -m model.typical"
    assert min(usual.n_real, usual.n_fake) >= 100


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--runtime", choices=NAMES, default="torch")
    options = parser.parse_args()
    for bundled in BUNDLED:
        found = largest_gap(bundled, options.images, options.runtime)
        print(bundled.name, options.runtime, *found, flush=True)
