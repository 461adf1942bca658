import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.regions import FACE_REGIONS, LABELS, REGIONS, masks

FRONTAL = ((78.0, 100.0), (146.0, 100.0), (112.0, 135.0), (86.0, 168.0), (138.0, 168.0))
point = st.tuples(st.floats(-500, 800), st.floats(-500, 800))


def centre(mask):
    rows, columns = np.nonzero(mask)
    return columns.mean(), rows.mean()


@given(st.tuples(point, point, point, point, point), st.integers(1, 96))
def test_regions_are_a_partition_for_any_landmarks(landmarks, side):
    found = masks(landmarks, side)
    assert tuple(found) == REGIONS
    stacked = np.stack(list(found.values()))
    assert stacked.shape == (len(REGIONS), side, side)
    assert stacked.dtype == bool
    assert (stacked.sum(axis=0) == 1).all()


@pytest.mark.parametrize("landmarks", [((5.0, 5.0),) * 5, ((0.0, 0.0),) * 5])
def test_landmarks_in_one_point_still_give_a_partition(landmarks):
    assert (np.stack(list(masks(landmarks, 32).values())).sum(axis=0) == 1).all()


def test_on_a_frontal_face_each_region_lies_where_its_name_says():
    found = masks(FRONTAL, 224)
    for name, landmark in {"left_eye": FRONTAL[0], "right_eye": FRONTAL[1]}.items():
        assert found[name][int(landmark[1]), int(landmark[0])], name
    assert found["nose"][135, 112]
    assert found["mouth"][168, 112]
    assert found["background"][0, 0]
    assert found["background"][223, 223]
    height = {name: centre(mask)[1] for name, mask in found.items()}
    assert height["forehead"] < height["left_eye"] < height["nose"] < height["mouth"] < height["jaw"]
    assert centre(found["left_eye"])[0] < centre(found["right_eye"])[0]
    for name in REGIONS:
        assert found[name].any(), name


def test_mirroring_the_face_swaps_the_eyes_and_mirrors_the_rest():
    found = masks(FRONTAL, 224)
    left, right, nose, mouth_left, mouth_right = [(224 - x, y) for x, y in FRONTAL]
    mirrored = masks((right, left, nose, mouth_right, mouth_left), 224)
    swapped = {"left_eye": "right_eye", "right_eye": "left_eye"}
    for name in REGIONS:
        assert (found[name] != mirrored[swapped.get(name, name)][:, ::-1]).mean() < 0.002, name


@settings(max_examples=25)
@given(st.floats(-40, 40))
def test_regions_turn_with_the_face(degrees):
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = [tuple(turn @ (np.array(spot) - 112) + 112) for spot in FRONTAL]
    for name in ("left_eye", "right_eye", "nose", "mouth"):
        expected = turn @ (np.array(centre(masks(FRONTAL, 224)[name])) + 0.5 - 112) + 112
        assert centre(masks(turned, 224)[name]) == pytest.approx(expected - 0.5, abs=1.5), name


def test_regions_scale_with_the_crop():
    large = masks([(2 * x, 2 * y) for x, y in FRONTAL], 448)
    small = masks(FRONTAL, 224)
    for name in REGIONS:
        assert large[name].mean() == pytest.approx(small[name].mean(), abs=0.005), name


def test_every_region_has_a_label_and_only_the_background_is_not_of_the_face():
    assert tuple(LABELS) == REGIONS
    assert set(REGIONS) - set(FACE_REGIONS) == {"background"}
