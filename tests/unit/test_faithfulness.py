import numpy as np
import pytest
import torch
from PIL import Image
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve

from dashboard import words
from model.backbones import LinearHeadNet
from model.calibration import Calibration, Thresholds
from model.faithfulness import (
    Curve,
    Faithfulness,
    Whereabouts,
    assess,
    centre_prior,
    margin,
    random_map,
    removal,
    whereabouts,
)
from model.infill import fill
from model.regions import REGIONS
from model.results import FaceResult, not_applicable
from tests.support import detector_of, draw_face, tiny_network


class Brightness(torch.nn.Module):
    """Cells are the brightness of their squares: what a map should find is known."""

    def forward(self, images):
        return torch.nn.functional.avg_pool2d(images.mean(dim=1, keepdim=True), 8)


@pytest.fixture(scope="module")
def bright():
    network = LinearHeadNet(Brightness(), 1)
    with torch.no_grad():
        network.head.weight.fill_(8.0)
        network.head.bias.zero_()
    framing = {"side": 64, "face_share": 0.8, "vertical_offset": 0.0, "jpeg_quality": None}
    return detector_of(network.eval().requires_grad_(False), framing=framing)


@pytest.fixture(scope="module")
def spots():
    """White squares on black, on the left half."""
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[8:56:16, 8:24] = 255
    pixels[9:57:16, 8:24] = 255
    return Image.fromarray(pixels)


def exact_fill(pixels, missing):
    """The equations of the linear imputation, solved by a sparse solver."""
    height, width = missing.shape
    index = {place: row for row, place in enumerate(zip(*np.nonzero(missing), strict=True))}
    matrix, right = lil_matrix((len(index), len(index))), np.zeros((len(index), 3))
    for (y, x), row in index.items():
        total = 0.0
        for dy, dx in [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]:
            if not (0 <= y + dy < height and 0 <= x + dx < width):
                continue
            weight = 1 / 6 if 0 in (dy, dx) else 1 / 12
            total += weight
            if (y + dy, x + dx) in index:
                matrix[row, index[y + dy, x + dx]] = -weight
            else:
                right[row] += weight * pixels[y + dy, x + dx]
        matrix[row, row] = total
    out = pixels.astype(np.float64)
    out[missing] = spsolve(matrix.tocsc(), right)
    return out


@pytest.mark.parametrize("seed", range(3))
def test_the_infill_solves_the_equations_of_linear_imputation(seed):
    rng = np.random.default_rng(seed)
    pixels = np.asarray(draw_face(48), dtype=np.float32)
    missing = np.kron(rng.random((6, 6)) < 0.4, np.ones((8, 8))).astype(bool)
    found, expected = fill(pixels, missing), exact_fill(pixels, missing)
    np.testing.assert_array_equal(found[~missing], pixels[~missing])
    assert np.abs(found - expected)[missing].mean() < 1
    assert np.abs(pixels - expected)[missing].mean() > 5  # the fill is another picture


def test_an_infill_of_all_or_nothing():
    pixels = np.asarray(draw_face(32), dtype=np.float32)
    np.testing.assert_array_equal(fill(pixels, np.zeros((32, 32), bool)), pixels)
    np.testing.assert_allclose(fill(pixels, np.ones((32, 32), bool)), np.full_like(pixels, 1) * pixels.mean((0, 1)))


def test_an_infill_inside_one_colour_is_that_colour():
    pixels = np.full((37, 53, 3), 80.0, dtype=np.float32)
    missing = np.zeros((37, 53), bool)
    missing[5:30, 10:45] = True
    hidden = pixels.copy()
    hidden[missing] = 255
    np.testing.assert_allclose(fill(hidden, missing), pixels, atol=1e-2)


def test_a_true_map_scores_high_its_opposite_low_and_a_random_one_in_between(bright, spots):
    evidence = bright.score([bright.normalised(spots)])[0][0]
    maps = {"true": evidence, "opposite": -evidence, "random": random_map(evidence.shape, 1)}
    found = removal(bright, spots, maps, levels=(0.3, 0.6))
    assert found["true"].road > found["random"].road > found["opposite"].road
    assert found["true"].road > 0.1 > -0.1 > found["opposite"].road
    assert found["true"].deletion < found["opposite"].deletion
    assert found["true"].insertion > found["opposite"].insertion
    assert found["true"].levels == (0.3, 0.6)


def test_maps_that_rank_alike_score_alike_and_share_their_crops(bright, spots, monkeypatch):
    seen = []
    score = bright.score
    monkeypatch.setattr(bright, "score", lambda crops: seen.extend(crops) or score(crops))
    one = random_map((8, 8), 5)
    found = removal(bright, spots, {"one": one, "again": 3 * one, "other": random_map((8, 8), 6)}, levels=(0.5,))
    assert found["one"] == found["again"] != found["other"]
    assert len(seen) == 4


def test_removal_draws_the_same_at_random_again(bright, spots):
    maps = {"flat": np.zeros((8, 8))}
    assert removal(bright, spots, maps) == removal(bright, spots, maps)
    assert removal(bright, spots, maps) != removal(bright, spots, maps, seed=1)


def test_a_level_below_one_pixel_hides_nothing(bright, spots):
    found = removal(bright, spots, {"one": random_map((8, 8), 5)}, levels=(1e-6,))["one"]
    assert found.road == 0


@pytest.mark.parametrize("levels", [(), (0.0,), (0.5, 1.0)])
def test_levels_outside_0_to_1_are_refused(bright, spots, levels):
    with pytest.raises(ValueError, match="levels must lie between 0 and 1"):
        removal(bright, spots, {"flat": np.zeros((8, 8))}, levels=levels)


def test_an_assessment_says_all_of_one_map(bright, spots):
    found = assess(bright, spots, levels=(0.3, 0.6), randoms=4)
    assert found.beats_random
    assert len(found.random) == 4
    assert found.road > found.road_random
    assert found.road == found.own.road
    assert found.beats_centre == (found.road > found.centre.road)
    assert found.flip == pytest.approx(1, abs=1e-5)  # brightness does not tell left from right
    assert found.flip_move == pytest.approx(0, abs=1e-5)
    assert 0.9 < found.reencoded <= 1
    assert found == assess(bright, spots, levels=(0.3, 0.6), randoms=4)


def test_a_network_that_tells_left_from_right_has_an_unstable_map():
    detector = detector_of(tiny_network())
    found = assess(detector, draw_face(224), levels=(0.5,), randoms=1)
    assert -1 <= found.flip < 0.99
    assert found.flip_move != 0
    with pytest.raises(ValueError, match="at least 1"):
        assess(detector, draw_face(224), randoms=0)


def test_the_centre_prior_is_highest_in_the_middle_and_even():
    found = centre_prior((7, 9))
    assert found.argmax() == 3 * 9 + 4
    np.testing.assert_allclose(found, found[::-1, ::-1])


def booked(**ledger):
    book = dict.fromkeys(REGIONS, 0.0) | ledger
    face = not_applicable(None, (0, 0, 1, 1), "").face
    return FaceResult(face, (0, 0, 1, 1), "fake", None, 1.0, 0.7, None, 0.0, book)


def test_evidence_is_counted_where_it_lies_whatever_its_sign():
    found = whereabouts(booked(nose=2.0, mouth=-1.0, hair=0.5, background=0.5, bias=9.0))
    assert found == Whereabouts(face=0.75, boundary=0.125, background=0.125)
    assert not found.alarm
    assert whereabouts(booked(nose=1.0, background=-1.5)).alarm
    assert not whereabouts(booked()).alarm
    with pytest.raises(ValueError, match="not examined"):
        whereabouts(not_applicable(None, (0, 0, 1, 1), "small"))


def scored(road, randoms=(0.1, 0.0, -0.1), centre=0.2):
    """An assessment with these ROAD scores."""
    own, middle, *others = (Curve((0.5,), (-score,), (score,)) for score in (road, centre, *randoms))
    return Faithfulness(own, middle, tuple(others), 1.0, 1.0, 0.0, 0.0)


def test_a_map_that_beats_random_maps_and_the_centre_is_said_to_do_so():
    said = words.map_is_faithful(scored(0.5))
    assert said.startswith("The map scored above all of 3 random maps and the centre. ")
    assert "+0.50 log-odds (ROAD); by random maps 0.00, by a map of the centre +0.20." in said


def test_a_map_that_moves_the_score_the_wrong_way_is_not_relied_on_whatever_it_beats():
    for road in (0.0, -0.1):
        found = scored(road, (-0.3, -0.4, -0.5), -0.2)
        assert found.beats_random and found.beats_centre
        said = words.map_is_faithful(found)
        assert "do not rely on where it points" in said
        assert "scored above" not in said


def test_a_map_that_beats_random_maps_alone_is_said_not_to_beat_the_centre():
    said = words.map_is_faithful(scored(0.15))
    assert said.startswith("The map scored above all of 3 random maps, but not above the centre")


def test_a_map_that_one_random_map_beats_is_not_relied_on():
    said = words.map_is_faithful(scored(0.5, (0.1, 0.6, 0.0)))
    assert said.startswith("The map did not score above all of 3 random maps: do not rely on where it points. ")
    assert "chance" not in said


def hangs(given, logit, **ledger):
    """What a verdict hangs on, with thresholds at log-odds of about -0.85 and 0.85."""
    book = dict.fromkeys(REGIONS, 0.0) | ledger
    return margin(book, logit, given, Calibration(), Thresholds(real=0.3, fake=0.7))


def test_the_background_decides_where_it_turns_the_verdict_and_is_the_largest_part():
    found = hangs("fake", 2.0, background=2.5, nose=1.5, mouth=-3.0)
    assert found.turning == {"nose": "inconclusive", "background": "inconclusive"}
    assert found.background_decides
    said = words.margin_alarm(found)
    assert said.startswith("The background decided")
    assert "would be Inconclusive" in said
    assert "narrow margin" not in said


@pytest.mark.parametrize(("given", "side"), [("fake", 1), ("real", -1)])
def test_a_background_that_another_part_outweighs_does_not_decide(given, side):
    found = hangs(given, side * 1.0, background=side * 1.0, nose=side * 1.5, hair=-side * 4.0)
    assert found.turning == {"nose": "inconclusive", "background": "inconclusive"}
    assert not found.background_decides
    assert words.margin_alarm(found) == (
        "The verdict hangs on a narrow margin: it would change without the score of any one of these: nose, background."
    )


def test_a_background_that_holds_a_face_back_decides_against_larger_parts_of_the_other_side():
    found = hangs("inconclusive", 0.0, background=-2.0, nose=2.5, bias=9.0)
    assert found.turning["background"] == "fake"
    assert found.background_decides


def test_a_verdict_with_room_hangs_on_nothing():
    assert words.margin_alarm(hangs("fake", 5.0, background=3.0, nose=1.0)) is None
    alone = hangs("fake", 2.0, nose=1.5)
    assert alone.turning == {"nose": "inconclusive"}
    assert words.margin_alarm(alone) is None
