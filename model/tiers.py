"""Evaluation tiers: the same picture as three kinds of delivery bring it.

A figure on pristine files says little about pictures that went through a messenger. `tier` makes fixed, reproducible
copies; geometry other than scale is untouched, so a face keeps its relative place.
"""

from __future__ import annotations

from PIL import Image

from model.imaging import recompress

TIERS: dict[str, tuple[int | None, int | None]] = {"clean": (None, None), "web": (768, 60), "hard": (512, 40)}


def resize_longest(
    image: Image.Image, longest: int, kernel: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """Scale so that the longer side is `longest` pixels."""
    scale = longest / max(image.size)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), kernel)


def tier(image: Image.Image, name: str) -> Image.Image:
    """The image as evaluation tier `name` delivers it.

    `clean` is the image itself; `web` at most 768 px and JPEG 60; `hard` at most 512 px and JPEG 40.

    Raises
    ------
    ValueError
        If the tier is unknown.
    """
    if name not in TIERS:
        raise ValueError(f"unknown tier {name!r}; known are {', '.join(TIERS)}")
    longest, quality = TIERS[name]
    if longest is None or quality is None:
        return image
    if max(image.size) > longest:
        image = resize_longest(image, longest)
    return recompress(image, quality)
