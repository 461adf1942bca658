"""Evaluation tiers: fixed copies, and a detector that sees them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from model.detector import Detector
from model.sources import MemorySource
from model.tiers import TIERS, tier


@pytest.mark.parametrize(("name", "longest"), [("web", 768), ("hard", 512)])
def test_large_pictures_are_scaled_down_and_recompressed(
    picture: Callable[..., bytes], name: str, longest: int
) -> None:
    image = Image.open(BytesIO(picture(1, size=(1000, 600)))).convert("RGB")
    copy = tier(image, name)
    assert copy.size == (longest, round(600 * longest / 1000))
    assert tier(image, name).tobytes() == copy.tobytes()


def test_small_pictures_are_not_enlarged(picture: Callable[..., bytes]) -> None:
    image = Image.open(BytesIO(picture(1, size=(200, 100)))).convert("RGB")
    for name in TIERS:
        assert tier(image, name).size == (200, 100)
    assert tier(image, "clean") is image
    assert tier(image, "hard").tobytes() != image.tobytes()


def test_an_unknown_tier_is_named() -> None:
    with pytest.raises(ValueError, match="nasty"):
        tier(Image.new("RGB", (64, 64)), "nasty")


def test_the_training_code_offers_the_same_tiers() -> None:
    from model.training import degrade

    assert degrade.tier is tier
    assert degrade.TIERS is TIERS


def test_the_detector_judges_the_transformed_picture(
    tiny_checkpoint: Path, one_face: None, picture: Callable[..., bytes]
) -> None:
    detector = Detector.load(tiny_checkpoint)
    source = MemorySource("a.png", picture(3, size=(1000, 600)))
    (plain,) = detector.classify_many([source])
    (hard,) = detector.classify_many([source], transform=partial(tier, name="hard"))
    assert (plain.width, hard.width) == (1000, 512)
    assert plain.sha256 == hard.sha256
    assert plain.logit != hard.logit


def test_a_transform_that_fails_is_the_failure_of_one_image(
    tiny_checkpoint: Path, one_face: None, picture: Callable[..., bytes]
) -> None:
    def refuse(image: Image.Image) -> Image.Image:
        if image.width == 100:
            raise RuntimeError("no")
        return image

    sources = [MemorySource("a.png", picture(1, size=(100, 100))), MemorySource("b.png", picture(2))]
    first, second = Detector.load(tiny_checkpoint).classify_many(sources, transform=refuse)
    assert first.error is not None
    assert "a.png" in first.error
    assert second.error is None
