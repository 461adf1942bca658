"""Facial regions of a crop, drawn from five landmarks.

The regions are a partition: each pixel of the crop belongs to exactly one, so that sums over regions are sums over the
crop. They are drawn in the face's own frame: x in eye distances to either side of the midpoint between the eyes, y in
eye-to-mouth distances downward from it, so that they follow roll and scale. Proportions are those of a frontal adult
face; a strongly turned head is approximated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LABELS = {
    "left_eye": "Left eye and brow",
    "right_eye": "Right eye and brow",
    "nose": "Nose",
    "mouth": "Mouth",
    "cheeks": "Cheeks",
    "forehead": "Forehead",
    "jaw": "Jaw and chin",
    "hair": "Hair and face boundary",
    "background": "Background",
}
REGIONS = tuple(LABELS)
FACE_REGIONS = REGIONS[:-1]


def masks(landmarks: Sequence[tuple[float, float]], side: int) -> dict[str, np.ndarray]:
    """Partition a square crop into regions.

    Parameters
    ----------
    landmarks : sequence of 5 (x, y)
        In crop pixels, in the order of `model.faces.LANDMARKS`; "left" is the viewer's left.
    side : int
        Side of the crop in pixels.

    Returns
    -------
    dict of str to ndarray of shape (side, side), bool
        One mask per name in `REGIONS`; exactly one of them is true at each pixel.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    eyes = points[:2].mean(axis=0)
    mouth = points[3:5].mean(axis=0)
    down = mouth - eyes
    height = max(float(np.hypot(*down)), 1.0)
    down = down / height
    across = np.array([down[1], -down[0]])  # to the viewer's right when the face is upright
    # A turned head brings the eyes together on the picture but not the face's outline: keep a floor.
    width = max(float(np.hypot(*(points[1] - points[0]))), 0.8 * height)

    grid = np.stack(np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5), axis=-1) - eyes
    x, y = grid @ across / width, grid @ down / height  # (S, S) each

    oval = x**2 + ((y - 0.4) / 1.35) ** 2 <= 1
    band = (y > -0.48) & (y < 0.28)
    shapes = {
        "left_eye": band & (np.abs(x + 0.5) < 0.4),
        "right_eye": band & (np.abs(x - 0.5) < 0.4),
        "mouth": (x / 0.52) ** 2 + ((y - 1.0) / 0.27) ** 2 <= 1,
        "nose": (y > -0.3) & (y < 0.75) & (np.abs(x) < 0.12 + 0.28 * np.clip(y, 0, 1)),
        "forehead": oval & (y <= -0.3),
        "jaw": oval & (y > 0.95),
        "cheeks": oval,
        "hair": (x / 1.5) ** 2 + ((y - 0.2) / 1.9) ** 2 <= 1,
        "background": np.ones_like(oval),
    }
    taken = np.zeros_like(oval)
    out = {}
    for name, shape in shapes.items():  # earlier shapes win
        out[name] = shape & ~taken
        taken |= shape
    return {name: out[name] for name in REGIONS}
