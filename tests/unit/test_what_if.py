"""The score with one part of the face filled in."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dashboard import words
from dashboard.examination import Picture, examine
from model.detector import Detector
from model.results import FaceResult
from model.what_if import WithoutRegion, without, without_regions
from tests.support import encode


@pytest.fixture
def detector(tiny_checkpoint, one_face):
    return Detector.load(tiny_checkpoint)


def test_only_the_region_is_filled_in(detector, picture):
    found = examine(detector, Picture("a.png", picture(1), ""))
    mask = found.regions(0)["mouth"]
    before, after = np.asarray(found.crops[0]), np.asarray(without(found.crops[0], mask))
    assert np.array_equal(before[~mask], after[~mask])
    assert not np.array_equal(before[mask], after[mask])


def test_each_move_is_what_judging_the_filled_crop_says(detector, picture):
    found = examine(detector, Picture("a.png", picture(1), ""))
    face, crop, regions = found.result.faces[0], found.crops[0], found.regions(0)
    moves = without_regions(detector, crop, face, regions)
    assert [entry.region for entry in moves] == [name for name, mask in regions.items() if mask.any()]
    for entry in moves:
        _, logits = detector.score([detector.normalised(without(crop, regions[entry.region]))])
        assert entry.logit == pytest.approx(float(logits[0]), abs=1e-5)
        assert entry.move == pytest.approx(entry.logit - face.logit, abs=1e-5)
        assert entry.booked == face.ledger[entry.region]
    assert any(abs(entry.move) > 1e-3 for entry in moves)


def test_a_face_of_one_colour_loses_nothing(detector):
    found = examine(detector, Picture("a.png", encode(Image.new("RGB", (160, 160), (200, 60, 40))), ""))
    assert all(abs(entry.move) < 1e-5 for entry in found.without(0))


def test_a_face_that_was_not_examined_is_refused(detector, picture):
    face = examine(detector, Picture("a.png", picture(1), "")).result.faces[0]
    empty = FaceResult(face.face, face.crop_box, "not_applicable", "face_too_small")
    with pytest.raises(ValueError, match="not examined"):
        without_regions(detector, Image.new("RGB", (64, 64)), empty, {})


def test_the_sentence_names_what_decides_and_warns_of_the_fill():
    moves = [
        WithoutRegion("mouth", 0.1, 0.5, -2.0, 1.0, "inconclusive"),
        WithoutRegion("nose", 2.0, 0.9, 0.1, 0.0, "fake"),
    ]
    text = words.what_if("fake", moves)
    assert (
        "changes where one of these is filled in: mouth." in text
        and "\N{MINUS SIGN}2.00" in text
        and "can itself be a cue" in text
    )
    assert "stays whichever part is filled in" in words.what_if("fake", moves[1:])
