"""Facial regions of a crop: a partition, drawn from the face mesh, or from five landmarks where there is no mesh.

Each pixel of the crop belongs to exactly one region, so that sums over regions are sums over the crop. "Left" is the
viewer's left. What lies inside the outline of the face is measured; hair and neck are estimated from that outline, and
the background is the rest, clothes included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from model.regions import _five_points, _mesh_outline
from model.regions._mesh import POINTS, find_mesh

LABELS = {
    "left_eye": "Left eye",
    "right_eye": "Right eye",
    "brows": "Brows",
    "nose": "Nose",
    "mouth": "Mouth",
    "cheeks": "Cheeks",
    "forehead": "Forehead",
    "jaw": "Jaw and chin",
    "hair": "Hair and face boundary",
    "neck": "Neck",
    "background": "Background",
}
REGIONS = tuple(LABELS)
BOUNDARY_REGIONS = ("hair", "neck")
FACE_REGIONS = tuple(name for name in REGIONS if name not in (*BOUNDARY_REGIONS, "background"))

__all__ = ["BOUNDARY_REGIONS", "FACE_REGIONS", "LABELS", "POINTS", "REGIONS", "find_mesh", "masks", "outlines"]


def masks(landmarks: Sequence[tuple[float, float]], side: int, mesh: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Partition a square crop into regions.

    Parameters
    ----------
    landmarks : sequence of 5 (x, y)
        In crop pixels, in the order of `model.faces.LANDMARKS`. They are used only without a mesh.
    side : int
        Side of the crop in pixels.
    mesh : ndarray of shape (468, 2), optional
        Of `find_mesh`, in crop pixels.

    Returns
    -------
    dict of str to ndarray of shape (side, side), bool
        One mask per name in `REGIONS`; exactly one of them is true at each pixel.
    """
    if mesh is None:
        return _partition(_five_points.shapes(landmarks, side))
    painted = _mesh_outline.paint(mesh, side, REGIONS)
    return {name: painted == index for index, name in enumerate(REGIONS)}


def outlines(regions: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Closed outlines of regions, to be drawn over the crop.

    Returns
    -------
    dict of str to list of ndarray of shape (N, 2)
        Per region the outlines of its parts, holes included, as (x, y) in crop pixels; empty for an empty region.
    """
    return {
        name: [
            contour[:, 0].astype(np.float64) + 0.5  # centres of the pixels on the rim
            for contour in cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_TC89_L1)[0]
        ]
        for name, mask in regions.items()
    }


def _partition(shapes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Overlapping shapes as a partition: earlier shapes win, the last one covers everything."""
    out = {}
    taken = np.zeros_like(next(iter(shapes.values())))
    for name, shape in shapes.items():
        out[name] = shape & ~taken
        taken |= shape
    return {name: out[name] for name in REGIONS}
