from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dashboard.contrast import contrast
from dashboard.overlay import BOX_COLOURS, boxed, cell_limit, colourise, overlay, overlay_cam

GREY = Image.new("RGB", (56, 56), (128, 128, 128))


def test_no_evidence_leaves_the_picture_as_it_is() -> None:
    assert overlay(GREY, np.zeros((7, 7))).tobytes() == GREY.tobytes()


def test_opacity_zero_leaves_the_picture_as_it_is() -> None:
    assert overlay(GREY, np.ones((7, 7)), opacity=0.0).tobytes() == GREY.tobytes()


def test_positive_is_orange_and_negative_is_blue() -> None:
    red, _, blue = np.asarray(overlay(GREY, np.full((7, 7), 0.3)))[28, 28]
    assert red > blue
    red, _, blue = np.asarray(overlay(GREY, np.full((7, 7), -0.3)))[28, 28]
    assert blue > red


def test_the_scale_is_fixed_and_not_stretched_to_the_picture() -> None:
    strong = np.asarray(colourise(np.full((7, 7), cell_limit((7, 7))), 8))
    weak = np.asarray(colourise(np.full((7, 7), cell_limit((7, 7)) / 10), 8))
    assert strong[..., 3].min() == 255
    assert weak[..., 3].max() < 100


def test_equal_density_looks_equal_on_any_grid() -> None:
    coarse = colourise(np.full((7, 7), 0.1), 28)
    fine = colourise(np.full((14, 14), 0.025), 28)
    assert coarse.tobytes() == fine.tobytes()


def test_a_flipped_map_gives_a_flipped_picture() -> None:
    evidence = np.random.default_rng(0).normal(0, 0.2, (7, 7))
    there = np.asarray(colourise(evidence, 56)).astype(int)
    back = np.asarray(colourise(evidence[:, ::-1], 56)).astype(int)[:, ::-1]
    assert np.abs(there - back).max() <= 1


@pytest.mark.parametrize("sign", [1, -1])
def test_one_strong_cell_paints_nothing_of_the_other_sign_around_it(sign: int) -> None:
    evidence = np.zeros((14, 14))
    evidence[6, 8] = sign * 2 * cell_limit((14, 14))
    red, _, blue, alpha = np.moveaxis(np.asarray(colourise(evidence, 224)).astype(int), -1, 0)
    assert (alpha > 0).sum() > 200
    assert (sign * (red - blue)[alpha > 0] > 0).all()


def test_cells_are_shown_as_they_are_when_not_smoothed() -> None:
    evidence = np.array([[0.5, -0.5], [0.0, 0.5]])
    picture = np.asarray(colourise(evidence, 20, 1.0, smooth=False))
    assert len(np.unique(picture.reshape(-1, 4), axis=0)) == 3


def test_an_impossible_opacity_is_refused() -> None:
    with pytest.raises(ValueError, match="opacity"):
        overlay(GREY, np.zeros((7, 7)), opacity=1.5)


def test_a_cam_has_colours_of_its_own() -> None:
    cam = overlay_cam(GREY, np.ones((56, 56), dtype=np.float32), opacity=1.0)
    assert cam.getpixel((10, 10)) not in (
        overlay(GREY, np.full((7, 7), 9.0), opacity=1.0).getpixel((10, 10)),
        overlay(GREY, np.full((7, 7), -9.0), opacity=1.0).getpixel((10, 10)),
    )


@pytest.mark.parametrize("verdict", BOX_COLOURS)
def test_numbers_of_boxes_can_be_read(verdict: str) -> None:
    shown = boxed(Image.new("RGB", (800, 800), "grey"), [(100, 100, 700, 700)] * 2, [verdict] * 2)
    label = shown.crop((104, 104, 124, 130))
    fill = BOX_COLOURS[verdict]
    assert any(contrast(colour, fill) >= 4.5 for _, colour in label.getcolors(1000) or [])  # type: ignore[arg-type]


def test_boxes_are_scaled_with_the_picture_and_coloured_by_verdict() -> None:
    image = Image.new("RGB", (2000, 1000), "black")
    shown = boxed(image, [(500, 250, 1500, 750)], ["fake"], max_side=1000)
    assert shown.size == (1000, 500)
    assert shown.getpixel((500, 126)) == BOX_COLOURS["fake"]
    assert image.getpixel((1000, 250)) == (0, 0, 0)
