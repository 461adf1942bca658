"""Text that can be read on a fill: black or white, by the contrast of WCAG 2.2."""

from __future__ import annotations

from typing import TypeAlias

RGB: TypeAlias = tuple[int, int, int]

BLACK: RGB = (0, 0, 0)
WHITE: RGB = (255, 255, 255)


def luminance(colour: RGB) -> float:
    """Relative luminance in [0, 1] of an sRGB colour of 0 to 255 per channel."""
    red, green, blue = (
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4
        for share in (channel / 255 for channel in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: RGB, other: RGB) -> float:
    """Contrast ratio of two colours, from 1 to 21; text needs 4.5.

    >>> contrast((0, 0, 0), (255, 255, 255))
    21.0
    """
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def ink_on(fill: RGB) -> RGB:
    """Black or white, whichever stands out more: on any fill that is at least 4.58.

    >>> ink_on((217, 115, 13)), ink_on((42, 107, 171))
    ((0, 0, 0), (255, 255, 255))
    """
    return max(BLACK, WHITE, key=lambda ink: contrast(ink, fill))


def of_hex(colour: str) -> RGB:
    """A colour such as '#d9730d' as its channels; ValueError if it is none."""
    value = int(colour.removeprefix("#"), 16)
    return value >> 16, value >> 8 & 255, value & 255
