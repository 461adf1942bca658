from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.faces import FaceFinder
from model.regions import BOUNDARY_REGIONS, FACE_REGIONS, LABELS, POINTS, REGIONS, find_mesh, masks, outlines
from tests.support import BACKDROP, draw_face

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


def test_no_two_regions_share_a_label_and_each_is_of_the_face_its_boundary_or_the_background():
    assert len(set(LABELS.values())) == len(REGIONS)
    assert sorted((*FACE_REGIONS, *BOUNDARY_REGIONS, "background")) == sorted(REGIONS)


@pytest.fixture(scope="module")
def drawn():
    """A drawn face, five landmarks and its mesh."""
    picture = draw_face(224)
    landmarks = FaceFinder().find(picture)[0].landmarks
    return picture, landmarks, find_mesh(picture, landmarks)


def test_the_mesh_of_a_drawn_face_lies_on_its_features(drawn):
    _, landmarks, mesh = drawn
    assert mesh.shape == (POINTS, 2)
    assert np.abs(mesh[[33, 133]].mean(axis=0) - (0.39 * 224, 0.46 * 224)).max() < 8
    assert np.abs(mesh[[263, 362]].mean(axis=0) - (0.61 * 224, 0.46 * 224)).max() < 8
    assert np.abs(mesh[[61, 291]].mean(axis=0) - np.mean(landmarks[3:5], axis=0)).max() < 10


def test_the_mesh_gives_a_partition_with_each_region_in_its_place(drawn):
    _, landmarks, mesh = drawn
    found = masks(landmarks, 224, mesh)
    assert tuple(found) == REGIONS
    assert (np.stack(list(found.values())).sum(axis=0) == 1).all()
    for name, (x, y) in zip(("left_eye", "right_eye", "nose"), landmarks, strict=False):
        assert found[name][round(y), round(x)], name
    height = {name: centre(mask)[1] for name, mask in found.items()}
    assert height["forehead"] < height["brows"] < height["left_eye"] < height["nose"] < height["mouth"] < height["jaw"]
    assert found["background"][0, 0]


@given(st.integers(0, 2**32 - 1), st.integers(1, 96))
def test_any_mesh_gives_a_partition(seed, side):
    mesh = np.random.default_rng(seed).uniform(-side, 2 * side, (POINTS, 2)).astype(np.float32)
    found = masks(FRONTAL, side, mesh)
    assert (np.stack(list(found.values())).sum(axis=0) == 1).all()


def test_a_turned_face_has_the_same_mesh_turned(drawn):
    picture, landmarks, mesh = drawn
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned = [tuple(turn @ (np.array(spot) - 112) + 112) for spot in landmarks]
    found = find_mesh(picture.rotate(20, Image.Resampling.BICUBIC, fillcolor=BACKDROP), turned)
    assert np.abs(found - ((mesh - 112) @ turn.T + 112)).mean() < 3


def test_there_is_no_mesh_where_there_is_no_face_or_another_one(drawn):
    picture, landmarks, _ = drawn
    assert find_mesh(Image.new("RGB", (224, 224), (90, 120, 90)), landmarks) is None
    elsewhere = [(0.1 * x, 0.1 * y) for x, y in landmarks]
    assert find_mesh(picture, elsewhere) is None


def test_threads_find_the_same_mesh(drawn):
    picture, landmarks, mesh = drawn
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: find_mesh(picture, landmarks), range(8)):
            np.testing.assert_array_equal(found, mesh)


def test_outlines_run_around_their_regions(drawn):
    _, landmarks, mesh = drawn
    found = masks(landmarks, 224, mesh)
    for name, parts in outlines(found).items():
        rows, columns = np.nonzero(found[name])
        points = np.concatenate(parts)
        assert points[:, 0].min() == columns.min() + 0.5, name
        assert points[:, 1].max() == rows.max() + 0.5, name
