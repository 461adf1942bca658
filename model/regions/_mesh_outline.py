"""Regions as polygons between points of the face mesh.

Numbers are places in MediaPipe's mesh. Outlines of neighbours share their points; what they leave inside the oval of
the face are the cheeks.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152),
    *(148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
POLYGONS: tuple[tuple[str, tuple[int, ...]], ...] = (  # later ones are painted over earlier ones
    (
        "forehead",
        (
            *(162, 21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251, 389),  # along the oval
            *(383, 276, 283, 282, 295, 285, 8, 55, 65, 52, 53, 46, 156),
        ),
    ),
    (
        "jaw",
        (
            *(288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58),  # along the oval
            *(57, 43, 106, 182, 83, 18, 313, 406, 335, 273, 287),  # along the mouth
        ),
    ),
    ("left_eye", (35, 124, 46, 53, 52, 65, 55, 193, 244, 233, 232, 231, 230, 229, 228, 31, 226)),
    ("right_eye", (265, 353, 276, 283, 282, 295, 285, 417, 464, 453, 452, 451, 450, 449, 448, 261, 446)),
    (
        "nose",
        (
            *(8, 193, 245, 188, 174, 217, 126, 129, 98, 97, 2),
            *(326, 327, 358, 355, 437, 399, 412, 465, 417),
        ),
    ),
    ("mouth", (57, 186, 92, 165, 167, 164, 393, 391, 322, 410, 287, 273, 335, 406, 313, 18, 83, 182, 106, 43)),
    ("brows", (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)),
    ("brows", (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)),
)
HAIR_SCALE, HAIR_RISE = 1.3, 0.12  # of the oval about its centre; of its height
_NECK = (136, 365)  # corners of the jaw that the neck hangs from
_TOP, _CHIN = 10, 152
_SHIFT = 4  # bits after the point in OpenCV's coordinates


def paint(mesh: np.ndarray, side: int, names: Sequence[str]) -> np.ndarray:
    """Mesh (468, 2) in crop pixels -> (side, side), uint8: at each pixel the place of its region in `names`."""
    index = {name: place for place, name in enumerate(names)}
    canvas = np.full((side, side), index["background"], dtype=np.uint8)
    oval = mesh[list(OVAL)]
    centre, down = oval.mean(axis=0), mesh[_CHIN] - mesh[_TOP]
    corners = mesh[list(_NECK)]
    _fill(canvas, centre + HAIR_SCALE * (oval - centre) - HAIR_RISE * down, index["hair"])
    _fill(canvas, np.concatenate([corners, corners[::-1] + 2 * down]), index["neck"])
    _fill(canvas, oval, index["cheeks"])
    for name, places in POLYGONS:
        _fill(canvas, mesh[list(places)], index[name])
    return canvas


def _fill(canvas: np.ndarray, polygon: np.ndarray, value: int) -> None:
    corners = np.round((polygon - 0.5) * 2**_SHIFT).astype(np.int32)  # OpenCV counts from the centre of a pixel
    cv2.fillPoly(canvas, [corners], value, shift=_SHIFT)
