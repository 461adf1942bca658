"""Re-deliveries: what each does to a picture, and that it does nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model.deliveries import DELIVERIES, SOCIAL_LONGEST, Delivered
from model.detector import Detector
from model.faces import FaceFinder
from model.imaging import ImageError, decode
from model.sources import MemorySource
from tests.support import draw_face, encode

SIZES = {
    "jpeg90": (400, 300),
    "jpeg75": (400, 300),
    "jpeg50": (400, 300),
    "half_size": (200, 150),
    "social": (300, 225),
    "webp": (400, 300),
    "screenshot": (452, 339),
    "crop": (336, 252),
}
each = pytest.mark.parametrize("name", SIZES)


@pytest.fixture
def image(picture: Callable[..., bytes]) -> Image.Image:
    return Image.open(BytesIO(picture(1, size=(400, 300)))).convert("RGB")


def distance(first: Image.Image, second: Image.Image) -> float:
    """Mean absolute difference in levels."""
    return float(np.abs(np.asarray(first, dtype=float) - np.asarray(second, dtype=float)).mean())


def test_there_are_eight_and_each_says_what_it_does() -> None:
    assert list(DELIVERIES) == list(SIZES)
    assert all(inspect.getdoc(deliver) for deliver in DELIVERIES.values())


@each
def test_a_delivery_is_a_pure_function_of_the_picture(name: str, image: Image.Image) -> None:
    before = image.tobytes()
    first, second = (DELIVERIES[name](image) for _ in range(2))
    assert image.tobytes() == before
    assert first.tobytes() == second.tobytes()
    assert (first.mode, first.size) == ("RGB", SIZES[name])


@each
def test_a_delivery_shows_the_same_picture(name: str, image: Image.Image) -> None:
    expected = image.crop((32, 24, 368, 276)) if name == "crop" else image
    found = DELIVERIES[name](image)
    assert found.size != image.size or found.tobytes() != image.tobytes()
    assert distance(found.resize((50, 40)), expected.resize((50, 40))) < 5


def test_stronger_compression_moves_more() -> None:
    face = draw_face(200)
    moved = [distance(DELIVERIES[name](face), face) for name in ("jpeg90", "jpeg75", "jpeg50")]
    assert moved == sorted(moved)
    assert moved[0] > 0


def test_social_limits_the_longest_side() -> None:
    for width, longest in ((200, 150), (1400, 1050), (1440, SOCIAL_LONGEST), (3000, SOCIAL_LONGEST)):
        assert max(DELIVERIES["social"](Image.new("RGB", (width, width // 4))).size) == longest


def test_a_screenshot_is_a_little_brighter_and_keeps_black_and_white() -> None:
    def shown(level: int) -> int:
        return int(np.asarray(DELIVERIES["screenshot"](Image.new("RGB", (64, 64), (level,) * 3))).mean())

    assert (shown(0), shown(255)) == (0, 255)
    assert 128 < shown(128) < 140


@given(st.sampled_from(sorted(DELIVERIES)), st.integers(1, 70), st.integers(1, 70))
def test_no_size_is_too_small_to_deliver(name: str, width: int, height: int) -> None:
    assert min(DELIVERIES[name](Image.new("RGB", (width, height), "red")).size) >= 1


def test_a_face_is_found_again_in_every_delivery() -> None:
    finder, face = FaceFinder(), draw_face(256)
    assert {name: len(finder.find(deliver(face))) for name, deliver in DELIVERIES.items()} == dict.fromkeys(SIZES, 1)


def test_a_delivered_source_is_a_file_with_exactly_the_delivered_pixels(image: Image.Image) -> None:
    source = Delivered("crop/a.png", MemorySource("a.png", encode(image)), DELIVERIES["crop"])
    assert decode(source.read()).pixels.tobytes() == DELIVERIES["crop"](image).tobytes()


def test_a_delivered_source_that_is_no_picture_is_one_failed_result(tiny_checkpoint: Path, one_face: None) -> None:
    source = Delivered("jpeg90/a.png", MemorySource("a.png", b"no image"), DELIVERIES["jpeg90"])
    with pytest.raises(ImageError):
        source.read()
    (result,) = Detector.load(tiny_checkpoint).classify_many([source])
    assert (result.verdict, result.reason) == ("not_applicable", "unreadable")
    assert result.error is not None
    assert "jpeg90/a.png" in result.error


def test_the_detector_judges_a_delivered_source_as_it_does_the_transformed_picture(
    tiny_checkpoint: Path, one_face: None, image: Image.Image
) -> None:
    detector, source = Detector.load(tiny_checkpoint), MemorySource("a.png", encode(image))
    for deliver in DELIVERIES.values():
        (as_file,) = detector.classify_many([Delivered("a.png", source, deliver)])
        (transformed,) = detector.classify_many([source], transform=deliver)
        assert as_file.logit == transformed.logit
