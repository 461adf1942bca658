"""Twenty sessions that explain different pictures at once get the same maps as one alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dashboard.examination import Picture, examine
from model.cam import class_activation_map
from model.detector import Detector
from model.packet import digest
from tests.support import draw_face, encode, tiny_network

SESSIONS = 20


@pytest.fixture(scope="module")
def detector(tiny_checkpoint):
    return Detector.load(tiny_checkpoint)


def faces():
    """One drawn face per session, each of another colour, size and place."""
    for number in range(SESSIONS):
        yield encode(draw_face(150 + 3 * number, skin=(225 - 4 * number, 175 - 3 * number, 150)))


def at_once(work, items):
    """Apply `work` to every item, each on a thread of its own; all begin at the same moment."""
    start = threading.Barrier(len(items))

    def one(item):
        start.wait(60)
        return work(item)

    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(one, items))


def differ(maps):
    """Whether any two of the maps are different ones, so that a mix-up would be seen."""
    return len({np.round(one, 6).tobytes() for one in maps}) == len(maps)


def test_the_detector_keeps_the_maps_of_threads_apart(detector):
    pictures = list(faces())
    alone = [detector.classify(data).deciding for data in pictures]
    assert all(face is not None for face in alone)
    assert sum(face.mesh is not None for face in alone) > SESSIONS // 4
    assert differ([face.evidence for face in alone])
    for _ in range(3):
        for one, other in zip(alone, at_once(detector.classify, pictures), strict=True):
            np.testing.assert_allclose(other.deciding.evidence, one.evidence, atol=1e-6)
            assert (other.deciding.mesh is None) == (one.mesh is None)
            if one.mesh is not None:
                np.testing.assert_allclose(other.deciding.mesh, one.mesh, atol=1e-3)
            assert other.deciding.ledger == pytest.approx(one.ledger, abs=1e-6)
            assert other.logit == pytest.approx(one.logit, abs=1e-6)


def test_examinations_give_the_same_maps_regions_and_packets_as_one_alone(detector, one_face, picture):
    def explained(number):
        found = examine(detector, Picture(f"{number}.png", picture(number), ""))
        return found.result.faces[0].evidence, found.regions(0)["mouth"], digest(found.packet())

    alone = [explained(number) for number in range(SESSIONS)]
    assert differ([evidence for evidence, *_ in alone])
    for one, other in zip(alone, at_once(explained, range(SESSIONS)), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
        assert one[2] == other[2]


def test_class_activation_maps_do_not_meet_on_a_shared_network(detector, picture, one_face):
    crops = [examine(detector, Picture("a.png", picture(number), "")).crops[0] for number in range(SESSIONS)]

    def cam(crop):
        return class_activation_map(detector, crop, "grad_cam")

    alone = [cam(crop) for crop in crops]
    assert len({np.round(one, 4).tobytes() for one in alone}) > SESSIONS // 4  # few cells: some maps are alike
    for one, other in zip(alone, at_once(cam, crops), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)


def test_the_comparison_would_see_another_network(detector, picture, one_face):
    other = Detector(detector.checkpoint, lambda: tiny_network(seed=7))
    first, second = (one.classify(picture(0)).deciding.evidence for one in (detector, other))
    assert not np.allclose(first, second, atol=1e-3)
