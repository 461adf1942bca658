"""Views of a training picture: the deterministic one that use sees, and random ones around it."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from model.faces import Face, Framing
from model.tiers import tier
from model.training.conceal import conceal
from model.training.degrade import degrade

CONCEALED = 0.15  # share of the random views of which a part is hidden


def box_for(image: Image.Image, faces: list[Face], framing: Framing) -> tuple[float, float, float, float]:
    """Crop of the largest face; of the picture's centre where no face was found (training data are face crops)."""
    if faces:
        return framing.crop_box(faces[0], image.width, image.height)
    side = min(image.size)
    x0, y0 = (image.width - side) / 2, (image.height - side) / 2
    return (x0, y0, x0 + side, y0 + side)


def fixed_view(image: Image.Image, box: tuple[float, float, float, float], framing: Framing, name: str) -> Image.Image:
    """The crop of evaluation tier `name` (see `model.tiers.TIERS`)."""
    return _cut_scaled(image, tier(image, name), box, framing)


def random_view(
    image: Image.Image,
    box: tuple[float, float, float, float],
    framing: Framing,
    rng: np.random.Generator,
) -> Image.Image:
    """A random delivery in a slightly shifted and scaled frame, mirrored half the time; a part of some is hidden."""
    side = (box[2] - box[0]) * float(rng.uniform(0.86, 1.12))
    side = min(side, *image.size)
    shift = rng.uniform(-0.04, 0.04, size=2) * side
    x0 = float(np.clip((box[0] + box[2] - side) / 2 + shift[0], 0, image.width - side))
    y0 = float(np.clip((box[1] + box[3] - side) / 2 + shift[1], 0, image.height - side))
    crop = _cut_scaled(image, degrade(image, rng), (x0, y0, x0 + side, y0 + side), framing)
    if rng.random() < 0.5:
        crop = ImageOps.mirror(crop)
    return conceal(crop, rng) if rng.random() < CONCEALED else crop


def _cut_scaled(
    original: Image.Image, delivered: Image.Image, box: tuple[float, float, float, float], framing: Framing
) -> Image.Image:
    fx, fy = delivered.width / original.width, delivered.height / original.height
    return framing.cut(delivered, (box[0] * fx, box[1] * fy, box[2] * fx, box[3] * fy))
