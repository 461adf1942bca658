import numpy as np
import pytest

from model.counterfactual import without_each_region
from model.imaging import decode
from model.regions import REGIONS
from model.results import not_applicable
from tests.support import detector_of, draw_face, encode, tiny_network


@pytest.fixture(scope="module")
def examined():
    detector = detector_of(tiny_network())
    data = encode(draw_face())
    return detector, decode(data).pixels, detector.classify(data).deciding


def test_each_region_is_taken_away_once_and_only_there(examined):
    detector, image, face = examined
    found = without_each_region(detector, image, face)
    present = [name for name, share in face.regions_share.items() if share > 0]
    assert sorted(one.region for one in found) == sorted(present)
    assert set(present) <= set(REGIONS)
    crop = np.asarray(detector.crop(image, face.face), dtype=int)
    masks = detector.regions(face)
    for one in found:
        changed = (np.abs(np.asarray(one.crop, dtype=int) - crop) > 1).any(axis=2)
        assert one.area >= face.regions_share[one.region]
        assert changed.mean() <= one.area
        assert not changed[~masks[one.region]].mean() > one.area - face.regions_share[one.region] + 0.05, one.region
    mouth = next(one for one in found if one.region == "mouth")
    assert np.abs(np.asarray(mouth.crop, dtype=int) - crop)[masks["mouth"]].mean() > 3


def test_moves_are_the_networks_own_and_the_largest_comes_first(examined):
    detector, image, face = examined
    found = without_each_region(detector, image, face)
    for one in found:
        _, logits = detector.score([detector.tensor(one.crop)])
        assert one.logit == pytest.approx(float(logits[0]), abs=1e-4)
        assert one.move == pytest.approx(one.logit - face.logit, abs=1e-4)
        assert one.p_fake == pytest.approx(detector.checkpoint.calibration.probability(one.logit))
    sizes = [abs(one.move) for one in found]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0


def test_the_same_picture_gives_the_same_moves(examined):
    first, second = without_each_region(*examined), without_each_region(*examined)
    assert [(one.region, one.logit) for one in first] == [(one.region, one.logit) for one in second]


def test_a_face_that_was_not_examined_is_refused(examined):
    detector, image, face = examined
    with pytest.raises(ValueError, match="not examined"):
        without_each_region(detector, image, not_applicable(face.face, face.crop_box, "small"))
