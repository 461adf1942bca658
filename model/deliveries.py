"""Re-deliveries: one decoded picture as eight usual ways of passing it on bring it.

Each is a pure function of an RGB image and draws nothing at random. Faces are to be searched again in what it returns:
a delivery may shrink, cut or enlarge the picture.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image, ImageFilter

from model.imaging import decode, recompress
from model.sources import MAX_BYTES, ImageSource
from model.tiers import resize_longest

Delivery = Callable[[Image.Image], Image.Image]

SOCIAL_LONGEST = 1080  # px
SCREEN_SCALE = 1.13
SCREEN_GAMMA = 0.95
CROP_SHARE = 0.08  # of a side, cut away at each of its ends
_SCREEN_CURVE = [round(255 * (level / 255) ** SCREEN_GAMMA) for level in range(256)]


def jpeg90(image: Image.Image) -> Image.Image:
    """Saved once as JPEG of quality 90, 4:2:0."""
    return recompress(image, 90)


def jpeg75(image: Image.Image) -> Image.Image:
    """Saved once as JPEG of quality 75, 4:2:0."""
    return recompress(image, 75)


def jpeg50(image: Image.Image) -> Image.Image:
    """Saved once as JPEG of quality 50, 4:2:0."""
    return recompress(image, 50)


def half_size(image: Image.Image) -> Image.Image:
    """Half the sides (bicubic), JPEG 85."""
    return recompress(_scaled(image, 0.5, Image.Resampling.BICUBIC), 85)


def social(image: Image.Image) -> Image.Image:
    """As social networks prepare it: three quarters of the sides but at most 1080 px, sharpened, JPEG 71."""
    longest = min(SOCIAL_LONGEST, round(0.75 * max(image.size)))
    small = resize_longest(image, max(1, longest), Image.Resampling.LANCZOS)
    return recompress(small.filter(ImageFilter.UnsharpMask(radius=0.8, percent=50, threshold=1)), 71)


def webp(image: Image.Image) -> Image.Image:
    """Saved once as WebP of quality 80."""
    return recompress(image, 80, codec="WEBP")


def screenshot(image: Image.Image) -> Image.Image:
    """Shown at 1.13 times its size (bilinear) with a slightly brighter tone, and captured without loss."""
    return _scaled(image, SCREEN_SCALE, Image.Resampling.BILINEAR).point(_SCREEN_CURVE * 3)


def crop(image: Image.Image) -> Image.Image:
    """The outer 8 % cut away on each side, JPEG 90."""
    across, down = int(CROP_SHARE * image.width), int(CROP_SHARE * image.height)
    return recompress(image.crop((across, down, image.width - across, image.height - down)), 90)


DELIVERIES: dict[str, Delivery] = {
    function.__name__: function for function in (jpeg90, jpeg75, jpeg50, half_size, social, webp, screenshot, crop)
}


@dataclass(frozen=True)
class Delivered:
    """An image source as a delivery brings it: a file like any other, the pixels kept without loss.

    Attributes
    ----------
    name : str
        What is shown and exported.
    source : ImageSource
        The original.
    deliver : callable
        One of `DELIVERIES`, an evaluation tier, or any other pure function of an RGB image.
    """

    name: str
    source: ImageSource = field(repr=False)
    deliver: Delivery = field(repr=False)

    def read(self, max_bytes: int = MAX_BYTES) -> bytes:
        """Bytes of the delivered picture as PNG.

        Raises
        ------
        SourceError, model.imaging.ImageError
            If the original cannot be read or is no usable image.
        """
        buffer = io.BytesIO()
        self.deliver(decode(self.source.read(max_bytes)).pixels).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


def _scaled(image: Image.Image, factor: float, kernel: Image.Resampling) -> Image.Image:
    return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))), kernel)
