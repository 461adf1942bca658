"""Parts of a crop hidden by an in-fill from their surroundings, as removal tests and counterfactuals hide them.

A network that never met an in-fill takes the smooth patch itself for evidence. One that was fitted on in-filled faces
of both labels does not, so that `model.faithfulness` and `model.what_if` measure what the hidden part had to say (cf.
Hooker et al. 2019, "A Benchmark for Interpretability Methods in Deep Neural Networks", which retrains for the same
reason).
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from model.infill import NOISE, hidden


def conceal(crop: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The crop with a tenth to four fifths of it filled in: scattered patches, its middle, or all but its middle."""
    pixels = np.asarray(crop, dtype=np.float32)
    height, width = pixels.shape[:2]
    shape, share = rng.integers(3), float(rng.uniform(0.1, 0.8))
    if shape == 0:
        coarse = rng.random((int(rng.integers(4, 15)),) * 2).astype(np.float32)
        rank = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    else:
        middle = rng.normal(0.5, 0.08, 2)
        rows, columns = ((np.arange(n) + 0.5) / n - m for n, m in zip((height, width), middle, strict=True))
        rank = np.hypot(rows[:, None], columns[None]) * (1 if shape == 1 else -1)
    missing = rank <= np.quantile(rank, share)
    return hidden(pixels, missing, rng.normal(0, NOISE, pixels.shape))
