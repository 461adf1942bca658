"""Regions from five landmarks, in the proportions of a frontal adult face.

They are drawn in the face's own frame: x in eye distances to either side of the midpoint between the eyes, y in
eye-to-mouth distances downward from it, so that they follow roll and scale. A turned head is approximated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def shapes(landmarks: Sequence[tuple[float, float]], side: int) -> dict[str, np.ndarray]:
    """Overlapping shapes (side, side), bool, by region; earlier ones are meant to win."""
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
    left, right = np.abs(x + 0.5) < 0.4, np.abs(x - 0.5) < 0.4
    return {
        "brows": (y > -0.48) & (y < -0.22) & (left | right),
        "left_eye": (y >= -0.22) & (y < 0.28) & left,
        "right_eye": (y >= -0.22) & (y < 0.28) & right,
        "mouth": (x / 0.52) ** 2 + ((y - 1.0) / 0.27) ** 2 <= 1,
        "nose": (y > -0.3) & (y < 0.75) & (np.abs(x) < 0.12 + 0.28 * np.clip(y, 0, 1)),
        "forehead": oval & (y <= -0.3),
        "jaw": oval & (y > 0.95),
        "cheeks": oval,
        "neck": (y > 1.2) & (np.abs(x) < 0.65),
        "hair": (x / 1.5) ** 2 + ((y - 0.2) / 1.9) ** 2 <= 1,
        "background": np.ones_like(oval),
    }
