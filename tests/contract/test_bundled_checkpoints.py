"""What every checkpoint in model/weights promises. Without weights only the first test has something to hold."""

import json

import cv2
import numpy as np
import pytest
import torch

from model.backbones import REGISTRY
from model.cam import class_activation_map
from model.checkpoint import DEFAULT, WEIGHTS, list_checkpoints
from model.detector import Detector
from model.imaging import decode
from tests.contract.make_golden import GOLDEN, account, samples
from tests.support import draw_face, encode

BUNDLED = list_checkpoints() if WEIGHTS.is_dir() else []
TOLERANCE = 1e-3  # in logit: other processors and libraries round differently
each = pytest.mark.parametrize("info", BUNDLED, ids=lambda info: info.name)


@pytest.fixture(scope="module")
def detectors():
    """Every bundled checkpoint, loaded once."""
    return {info.name: Detector.load(info.path) for info in BUNDLED}


@pytest.fixture(scope="module")
def judged(detectors):
    """Results of every checkpoint on every sample image."""
    return {name: list(detector.classify_many(samples())) for name, detector in detectors.items()}


def test_there_is_a_default_checkpoint():
    assert (WEIGHTS / f"{DEFAULT}.safetensors").is_file()
    assert DEFAULT in [info.name for info in BUNDLED]


@each
def test_its_name_is_its_files_and_it_has_a_card(info):
    assert info.name == info.path.stem
    assert info.card.is_file()
    assert len(info.card.read_text(encoding="utf-8")) > 500


@each
def test_its_header_says_where_it_comes_from_and_how_good_it_is(info):
    header = info.header
    assert header["architecture"] in REGISTRY
    for key in ("training", "metrics", "licence", "origin", "created"):
        assert header[key], key
    assert 0 < info.thresholds.real < info.thresholds.fake < 1
    assert info.thresholds.fpr is not None
    assert 0 < info.thresholds.fpr <= 0.1


def test_files_stay_small_enough_for_a_repository():
    sizes = {info.name: info.path.stat().st_size / 1e6 for info in BUNDLED}
    assert all(size < 95 for size in sizes.values()), sizes
    assert sum(sizes.values()) < 200, sizes


@each
def test_it_says_of_the_sample_images_what_it_said_before(info, judged):
    assert samples(), "sample_images is empty"
    entry = json.loads(GOLDEN.read_text(encoding="utf-8")).get(info.name)
    assert entry is not None, "run python -m tests.contract.make_golden"
    assert entry["checkpoint_sha256"] == info.sha256, "other weights: run python -m tests.contract.make_golden"
    found = account(judged[info.name])
    assert list(found) == list(entry["images"])
    for name, expected in entry["images"].items():
        assert found[name] == expected | {"logit": pytest.approx(expected["logit"], abs=TOLERANCE)}, name


@each
def test_its_ledgers_and_maps_sum_to_its_logits(info, judged):
    faces = [face for result in judged[info.name] for face in result.faces if face.logit is not None]
    assert faces
    for face in faces:
        assert sum(face.ledger.values()) == pytest.approx(face.logit, abs=1e-4)
        assert float(face.evidence.sum()) + face.bias == pytest.approx(face.logit, abs=1e-4)


@each
def test_its_positive_evidence_is_grad_cam(info, detectors):
    detector = detectors[info.name]
    found = detector.classify(encode(draw_face()))
    crop = detector.crop(decode(encode(draw_face())).pixels, found.faces[0].face)
    evidence = np.maximum(found.faces[0].evidence, 0)
    scaled = (evidence - evidence.min()) / (1e-7 + (evidence - evidence.min()).max())
    resized = np.maximum(cv2.resize(scaled, crop.size), 0)
    resized = (resized - resized.min()) / (1e-7 + (resized - resized.min()).max())
    np.testing.assert_allclose(class_activation_map(detector, crop, "grad_cam"), resized, atol=1e-5, rtol=0)


@each
def test_its_logit_is_the_networks_own(info, detectors):
    detector = detectors[info.name]
    crop = detector.normalised(draw_face(info.framing.side))
    crops = [crop, np.zeros_like(crop)]
    with torch.no_grad():
        expected = detector.network(torch.from_numpy(np.stack(crops))).numpy()
    np.testing.assert_allclose(detector.score(crops)[1], expected, atol=1e-4, rtol=1e-5)
