"""One picture, judged, with the images a page needs to show why."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from dashboard.overlay import boxed
from model.detector import Detector
from model.imaging import ImageError, decode
from model.results import ImageResult


@dataclass(frozen=True)
class Picture:
    """A picture as it was handed in."""

    name: str
    data: bytes
    sha256: str


@dataclass(frozen=True)
class Examination:
    """A judged picture.

    Attributes
    ----------
    preview : PIL.Image.Image or None
        The picture with numbered face boxes, scaled for the screen; None when the file is not a readable image.
    crops : tuple
        Per face, the square that the network saw; None for a face that was not examined.
    """

    picture: Picture
    result: ImageResult
    preview: Image.Image | None
    crops: tuple[Image.Image | None, ...]


def examine(detector: Detector, picture: Picture) -> Examination:
    """Judge a picture. A file that is no image gives a result with `error` set; nothing is raised."""
    result = detector.classify(picture.data, name=picture.name)
    try:
        image = decode(picture.data).pixels
    except ImageError:
        return Examination(picture, result, None, ())
    boxes = [entry.face.box for entry in result.faces]
    preview = boxed(image, boxes, [entry.verdict for entry in result.faces])
    crops = tuple(detector.crop(image, entry.face) if entry.evidence is not None else None for entry in result.faces)
    return Examination(picture, result, preview, crops)
