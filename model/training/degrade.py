"""What happens to pictures on their way: one pipeline of random degradations, the same for both labels.

`degrade` draws a random delivery for training; the fixed copies that evaluation uses are `model.tiers`. Geometry other
than scale is left to the crop (see `model.training.views`), so that a face found once stays valid: every operation here
returns an image of the same aspect and content.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from model.imaging import recompress
from model.tiers import TIERS, resize_longest, tier

__all__ = ["TIERS", "degrade", "resize_longest", "tier"]

_KERNELS = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
)


def degrade(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """One random delivery: scale, blur or sharpen, tone, noise, then one or two rounds of JPEG or WebP.

    Each step is drawn independently of the others and of the label. About one image in ten passes untouched.
    """
    if rng.random() < 0.1:
        return image
    if rng.random() < 0.6:
        image = _rescale(image, rng)
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 1.5)) * image.width / 256))
    elif rng.random() < 0.15:
        image = image.filter(ImageFilter.UnsharpMask(float(rng.uniform(0.5, 2)), int(rng.integers(40, 160)), 2))
    if rng.random() < 0.4:
        image = _tone(image, rng)
    if rng.random() < 0.25:
        image = _noise(image, rng)
    rounds = int(rng.choice([0, 1, 2], p=[0.15, 0.6, 0.25]))
    for _ in range(rounds):
        if rng.random() < 0.75:
            image = recompress(image, int(rng.integers(30, 96)), subsampling=int(rng.choice([0, 2], p=[0.3, 0.7])))
        else:
            image = recompress(image, int(rng.integers(30, 96)), codec="WEBP")
        if rounds == 2 and rng.random() < 0.5:
            image = _rescale(image, rng)
    return image


def _rescale(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Down (sometimes to a thumbnail) and, half the time, back up; random kernels both ways."""
    original = max(image.size)
    factor = float(rng.uniform(0.35, 0.75)) if rng.random() < 0.4 else float(rng.uniform(0.75, 1.3))
    image = resize_longest(image, max(64, round(original * factor)), _KERNELS[rng.integers(len(_KERNELS))])
    if rng.random() < 0.5:
        image = resize_longest(image, original, _KERNELS[rng.integers(1, len(_KERNELS))])
    return image


def _tone(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    gamma = float(rng.uniform(0.75, 1.35))
    curve = [round(255 * (level / 255) ** gamma) for level in range(256)]
    image = image.point(curve * 3)
    for enhancer in (ImageEnhance.Color, ImageEnhance.Contrast):
        image = enhancer(image).enhance(float(rng.uniform(0.7, 1.3)))
    return image


def _noise(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    shape = pixels.shape if rng.random() < 0.5 else (*pixels.shape[:2], 1)  # coloured or luminance
    noisy = pixels + rng.normal(0, float(rng.uniform(1, 10)), shape).astype(np.float32)
    return Image.fromarray(noisy.clip(0, 255).round().astype(np.uint8))
