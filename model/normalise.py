"""Crops as networks read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image


class Normaliser:
    """RGB in 0..1, standardised by a checkpoint's mean and deviation per channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = tuple(mean), tuple(std)
        self._mean = np.asarray(mean, dtype=np.float32)[:, None, None] * np.float32(255)
        self._std = np.asarray(std, dtype=np.float32)[:, None, None] * np.float32(255)

    def __call__(self, crop: Image.Image | np.ndarray) -> np.ndarray:
        """RGB crop of S x S pixels -> input (3, S, S), float32."""
        pixels = np.asarray(crop, dtype=np.float32).transpose(2, 0, 1)
        return np.ascontiguousarray((pixels - self._mean) / self._std)
