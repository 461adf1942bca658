"""All that is asked of the map of one face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from model.detector import Detector
from model.faithfulness._removal import LEVELS, Curve, centre_prior, random_map, removal
from model.imaging import recompress

QUALITY = 75  # JPEG quality of the second saving


@dataclass(frozen=True)
class Faithfulness:
    """How far the evidence map of one face can be trusted.

    Attributes
    ----------
    own, centre : Curve
        Removal by the evidence map, and by the centre prior.
    random : tuple of Curve
        Removal by random maps.
    flip, reencoded : float
        Correlation in [-1, 1] of the map with that of the mirrored crop, mirrored back, and of the crop saved once
        more as JPEG of quality `QUALITY`.
    flip_move, reencoded_move : float
        What the same does to the logit, in log-odds.
    """

    own: Curve
    centre: Curve
    random: tuple[Curve, ...]
    flip: float
    reencoded: float
    flip_move: float
    reencoded_move: float

    @property
    def road(self) -> float:
        """ROAD score of the evidence map in log-odds (`Curve.road`)."""
        return self.own.road

    @property
    def road_random(self) -> float:
        """Mean ROAD score of the random maps."""
        return float(np.mean([curve.road for curve in self.random]))

    @property
    def beats_random(self) -> bool:
        """Whether the map scores higher than every random map."""
        return all(self.road > curve.road for curve in self.random)

    @property
    def beats_centre(self) -> bool:
        return self.road > self.centre.road


def assess(
    detector: Detector, crop: Image.Image, *, levels: Sequence[float] = LEVELS, randoms: int = 3, seed: int = 0
) -> Faithfulness:
    """Assess the evidence map of one crop; the same crop gives the same answer.

    It takes `3 + 2 * len(levels) * (2 + randoms)` crops through the network.

    Parameters
    ----------
    crop : PIL.Image.Image
        As returned by `Detector.crop`.
    randoms : int
        How many random maps to compare with, at least 1.
    """
    if randoms < 1:
        raise ValueError(f"randoms must be at least 1, got {randoms}")
    variants = (crop, ImageOps.mirror(crop), recompress(crop, QUALITY))
    evidence, logits = detector.score([detector.normalised(one) for one in variants])
    own = evidence[0]
    maps = {"own": own, "centre": centre_prior(own.shape)}
    maps |= {f"random {place}": random_map(own.shape, seed + place) for place in range(randoms)}
    curves = removal(detector, crop, maps, levels=levels, seed=seed)
    return Faithfulness(
        own=curves.pop("own"),
        centre=curves.pop("centre"),
        random=tuple(curves.values()),
        flip=correlation(own, evidence[1][:, ::-1]),
        reencoded=correlation(own, evidence[2]),
        flip_move=float(logits[1] - logits[0]),
        reencoded_move=float(logits[2] - logits[0]),
    )


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of two maps; 1 for equal ones and 0 where one is flat."""
    if np.array_equal(one, other):
        return 1.0
    left, right = one.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    left, right = left - left.mean(), right - right.mean()
    norm = float(np.sqrt((left @ left) * (right @ right)))
    return float(left @ right) / norm if norm > 0 else 0.0
