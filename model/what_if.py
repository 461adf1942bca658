"""What if a part of the face were not there? Each region in turn is filled in from its surroundings and judged again.

This is a test from outside, beside the ledger: it sees what other cells had gathered from the region, which the ledger
books where it arrived. Any in-fill is itself artificial, and a detector of generated pictures may take it as a cue, so
the moves are hints and need not add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from model.calibration import verdict
from model.detector import Detector
from model.infill import fill
from model.results import FaceResult

_BATCH = 8


@dataclass(frozen=True)
class WithoutRegion:
    """The score of a face with one region filled in.

    Attributes
    ----------
    region : str
        A name of `model.regions.REGIONS`.
    logit, p_fake : float
        Of the filled-in crop.
    move : float
        What filling in did to the logit, in log-odds; negative where the region spoke for fake.
    booked : float
        What the ledger books on the region, in log-odds.
    verdict : str
    """

    region: str
    logit: float
    p_fake: float
    move: float
    booked: float
    verdict: str


def without(crop: Image.Image, mask: np.ndarray) -> Image.Image:
    """A crop whose pixels under `mask`, (S, S) and bool, are filled in from those around them."""
    filled = fill(np.asarray(crop, dtype=np.float32), mask)
    return Image.fromarray(np.clip(np.round(filled), 0, 255).astype(np.uint8))


def without_regions(
    detector: Detector, crop: Image.Image, face: FaceResult, regions: Mapping[str, np.ndarray]
) -> tuple[WithoutRegion, ...]:
    """Judge an examined face once without each region that covers some of the crop, but not all of it.

    Parameters
    ----------
    crop : PIL.Image.Image
        As returned by `Detector.crop`.
    regions : mapping of str to ndarray of shape (S, S), bool
        Of `Detector.regions`.

    Raises
    ------
    ValueError
        If the face was not examined.
    """
    if face.logit is None:
        raise ValueError("the face was not examined")
    names = [name for name, mask in regions.items() if mask.any() and not mask.all()]
    logits: list[float] = []
    for first in range(0, len(names), _BATCH):
        batch = [detector.normalised(without(crop, regions[name])) for name in names[first : first + _BATCH]]
        logits += [float(logit) for logit in detector.score(batch)[1]]
    found = []
    for name, logit in zip(names, logits, strict=True):
        p_fake = detector.checkpoint.calibration.probability(logit)
        given = verdict(p_fake, detector.thresholds)
        found.append(WithoutRegion(name, logit, p_fake, logit - face.logit, face.ledger[name], given))
    return tuple(found)
