"""Directions of the products that cells hold: principal axes of tokens over training faces."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from model.backbones import LinearHeadNet
from model.backbones.moments import Moments
from model.training.config import ConfigError
from model.training.features import BATCH, CropLoader
from model.training.identity import of_arrays
from model.training.precision import autocast
from model.training.progress import Log

FACES = 256  # 50,000 tokens for a covariance of 768 channels


def fit_axes(
    network: LinearHeadNet, loader: CropLoader, weights: np.ndarray, log: Log, *, faces: int = FACES
) -> str | None:
    """Give a network whose cells hold products their directions, in place; no label is looked at.

    Parameters
    ----------
    weights : ndarray of shape (N,)
        How likely each picture is drawn; nought leaves it out, as should be for what a leave-one-out fold holds out.

    Returns
    -------
    str or None
        SHA-256 of the directions; None for a network without products.

    Raises
    ------
    ConfigError
        If no picture may be drawn.
    """
    extractor: Any = network.extractor  # whatever has moments has `tokens` too
    moments = getattr(extractor, "moments", None)
    if not isinstance(moments, Moments) or not moments.products:
        return None
    if not weights.any():
        raise ConfigError("every training picture is held out by a fold: products need some that none holds out")
    count = min(faces, int(np.count_nonzero(weights)))
    drawn = np.random.default_rng(loader.seed).choice(len(weights), count, replace=False, p=weights / weights.sum())
    sums = {place: torch.zeros(moments.widths[place], dtype=torch.float64) for place in moments.products}
    squares = {place: torch.zeros(len(value), len(value), dtype=torch.float64) for place, value in sums.items()}
    seen = dict.fromkeys(sums, 0)
    with torch.inference_mode():
        for first in log.track(range(0, len(drawn), BATCH), "axes"):
            images = loader.batch([(int(row), "clean") for row in drawn[first : first + BATCH]])
            with autocast(torch.device("cpu")):
                taps = list(extractor.tokens(images))
            for place in sums:
                flat = taps[place].float().flatten(0, 1)
                sums[place] += flat.sum(dim=0)
                squares[place] += flat.T @ flat
                seen[place] += len(flat)
    for place in sums:
        mean = sums[place] / seen[place]
        moments.set_axes(place, mean, squares[place] / seen[place] - torch.outer(mean, mean))
    return of_arrays(*(value.numpy() for _, value in sorted(moments.named_buffers())))
