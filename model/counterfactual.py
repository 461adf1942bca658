"""What if? The score of a face without each of its regions, filled in from their surroundings.

An in-fill is smooth, and smoothness can itself be a cue for a detector of generated pictures: a move says what the
network would make of that picture, not what the region is worth alone. The ledger is the exact account; this is a check
of it by experiment.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from model.calibration import verdict
from model.detector import Detector
from model.infill import fill
from model.results import FaceResult

RIM = 3  # px that are filled in around a region, so that its edge does not colour the in-fill


@dataclass(frozen=True)
class Counterfactual:
    """A face without one region.

    Attributes
    ----------
    region : str
        A name of `model.regions.REGIONS`.
    area : float
        Share of the crop that was filled in, rim included, in (0, 1].
    logit, p_fake, verdict : float, float, str
        Of the picture without the region.
    move : float
        What that changes in the logit, in log-odds: positive where the region had spoken for a photograph.
    crop : PIL.Image.Image
        The picture that was judged.
    """

    region: str
    area: float
    logit: float
    p_fake: float
    verdict: str
    move: float
    crop: Image.Image


def without_each_region(detector: Detector, image: Image.Image, face: FaceResult) -> list[Counterfactual]:
    """Fill in each region that is in the crop, and score them all in one batch; the largest move comes first.

    Parameters
    ----------
    image : PIL.Image.Image
        The upright RGB image in which the face was found.
    face : FaceResult
        Examined by the same detector.

    Raises
    ------
    ValueError
        If the face was not examined.
    """
    if face.logit is None:
        raise ValueError("the face was not examined")
    crop = detector.crop(image, face.face)
    pixels = np.asarray(crop, dtype=np.float32)
    kernel = np.ones((2 * RIM + 1, 2 * RIM + 1), dtype=np.uint8)
    areas = {
        name: cv2.dilate(mask.astype(np.uint8), kernel).astype(bool)
        for name, mask in detector.regions(face).items()
        if mask.any()
    }
    crops = {
        name: Image.fromarray(np.clip(np.round(fill(pixels, missing)), 0, 255).astype(np.uint8))
        for name, missing in areas.items()
    }
    _, logits = detector.score([detector.tensor(one) for one in (crop, *crops.values())])
    whole, *without = (float(logit) for logit in logits)
    found = []
    for (name, one), logit in zip(crops.items(), without, strict=True):
        p_fake = detector.checkpoint.calibration.probability(logit)
        said = verdict(p_fake, detector.thresholds)
        found.append(Counterfactual(name, float(areas[name].mean()), logit, p_fake, said, logit - whole, one))
    return sorted(found, key=lambda one: -abs(one.move))
