"""Directions of the products of a vision transformer's tokens: principal axes over training faces."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from model.backbones import LinearHeadNet, ViTCells
from model.training.features import BATCH, CropLoader
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
    """
    cells = network.extractor
    if not isinstance(cells, ViTCells) or not cells.products:
        return None
    count = min(faces, int(np.count_nonzero(weights)))
    drawn = np.random.default_rng(loader.seed).choice(len(weights), count, replace=False, p=weights / weights.sum())
    sums = torch.zeros(len(cells.products), cells.width, dtype=torch.float64)
    squares = torch.zeros(len(cells.products), cells.width, cells.width, dtype=torch.float64)
    with torch.inference_mode():
        for first in log.track(range(0, len(drawn), BATCH), "axes"):
            images = loader.batch([(int(row), "clean") for row in drawn[first : first + BATCH]])
            with autocast(torch.device("cpu")):
                found = cells.tokens(images, cells.products)
            for place, tokens in enumerate(found):
                flat = tokens.float().flatten(0, 1)
                sums[place] += flat.sum(dim=0)
                squares[place] += flat.T @ flat
    tokens_seen = count * cells.grid**2
    means = sums / tokens_seen
    cells.set_axes(means, squares / tokens_seen - means[:, :, None] * means[:, None])
    return hashlib.sha256(cells.axes.numpy().tobytes() + cells.centres.numpy().tobytes()).hexdigest()
