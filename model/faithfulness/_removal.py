"""Removal: the score while the most, or the least, relevant pixels of a crop are filled in from their surroundings.

ROAD by Rong et al. 2022. Grey or blurred patches would be foreign to the network, and to a detector of generated
pictures a cue of their own; the noisy linear in-fill leaks least of where pixels are missing. What the in-fill itself
does to the score meets both orders alike, so only their difference counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from model.detector import Detector
from model.infill import NOISE, hidden

LEVELS = (0.2, 0.5, 0.8)  # shares of the crop that are filled in
_BATCH = 16


@dataclass(frozen=True)
class Curve:
    """Logits of a crop while a map decides which pixels go.

    Attributes
    ----------
    levels : tuple of float
        Share of the pixels that are filled in, in (0, 1).
    most_first, least_first : tuple of float
        Logits where those pixels are the most relevant ones, and the least relevant ones.
    """

    levels: tuple[float, ...]
    most_first: tuple[float, ...]
    least_first: tuple[float, ...]

    @property
    def deletion(self) -> float:
        """Mean logit while the most relevant pixels are deleted: low is good (Petsiuk et al. 2018)."""
        return float(np.mean(self.most_first))

    @property
    def insertion(self) -> float:
        """Mean logit while only the most relevant pixels are there: high is good."""
        return float(np.mean(self.least_first))

    @property
    def road(self) -> float:
        """Half the distance between the two, in log-odds: zero for a map that knows nothing, high is good."""
        return (self.insertion - self.deletion) / 2


def removal(
    detector: Detector,
    crop: Image.Image,
    maps: Mapping[str, np.ndarray],
    *,
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
) -> dict[str, Curve]:
    """Remove by each map, with one batch after the other through the network; maps that rank alike share their crops.

    Parameters
    ----------
    crop : PIL.Image.Image
        As returned by `Detector.crop`.
    maps : mapping of str to ndarray of shape (H, W)
        High where there is evidence toward `fake`; scaled to the crop bilinearly, ties are broken at random.
    levels : sequence of float
        In (0, 1).
    seed : int
        Of the noise and of broken ties.

    Returns
    -------
    dict of str to Curve

    Raises
    ------
    ValueError
        If there is no level, or one outside (0, 1).
    """
    if not levels or not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels must lie between 0 and 1, got {tuple(levels)}")
    pixels = np.asarray(crop, dtype=np.float32)
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, NOISE, pixels.shape).astype(np.float32)
    ties = rng.permutation(pixels.shape[0] * pixels.shape[1])
    places: dict[bytes, int] = {}
    crops: list[Image.Image] = []
    wanted: dict[str, list[tuple[int, int]]] = {}
    for name, one in maps.items():
        order = _ranking(one, crop.size, ties)
        wanted[name] = []
        for level in levels:
            count = round(level * len(order))
            pair = []
            for chosen in (order[:count], order[len(order) - count :]):
                missing = np.zeros(len(order), dtype=bool)
                missing[chosen] = True
                key = np.packbits(missing).tobytes()
                if key not in places:
                    places[key] = len(crops)
                    crops.append(hidden(pixels, missing.reshape(pixels.shape[:2]), noise))
                pair.append(places[key])
            wanted[name].append((pair[0], pair[1]))
    logits = _logits(detector, crops)
    return {
        name: Curve(
            tuple(levels),
            tuple(float(logits[most]) for most, _ in pairs),
            tuple(float(logits[least]) for _, least in pairs),
        )
        for name, pairs in wanted.items()
    }


def random_map(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """A map (H, W) that knows nothing, as coarse as the maps that it is compared with."""
    return np.random.default_rng(seed).random(shape)


def centre_prior(shape: tuple[int, ...]) -> np.ndarray:
    """A map (H, W) that knows only that faces stand in the middle: a Gaussian, a quarter of the sides wide."""
    rows, columns = ((np.arange(count) + 0.5) / count - 0.5 for count in shape)
    return np.exp(-(rows[:, None] ** 2 + columns[None] ** 2) / (2 * 0.25**2))


def _ranking(one: np.ndarray, size: tuple[int, int], ties: np.ndarray) -> np.ndarray:
    """Places of the pixels (H * W,), most relevant first."""
    values = cv2.resize(np.asarray(one, dtype=np.float32), size, interpolation=cv2.INTER_LINEAR).ravel()
    scale = float(np.abs(values).max()) or 1.0
    return np.lexsort((ties, -np.round(values / scale, 6)))  # a millionth is rounding, not relevance


def _logits(detector: Detector, crops: Sequence[Image.Image]) -> np.ndarray:
    batches = (crops[first : first + _BATCH] for first in range(0, len(crops), _BATCH))
    return np.concatenate([detector.score([detector.normalised(crop) for crop in batch])[1] for batch in batches])
