"""Mean cells of a frozen network, computed once and kept.

For a network that ends in *mean over cells, then linear*, the mean cell is all that the head ever sees: caching it
makes fitting the head, and refitting it for every leave-one-out fold, a matter of seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from model.backbones import LinearHeadNet
from model.faces import Framing
from model.files import write_whole
from model.imaging import decode
from model.normalise import Normaliser
from model.tiers import TIERS
from model.training.precision import autocast
from model.training.progress import Log
from model.training.views import fixed_view, random_view

BATCH = 16
SHARD = 32 * BATCH


class CropLoader:
    """Turns (row, view) jobs into normalised crops.

    A view is a tier's name (`clean`, `web`, `hard`) or the number of a random delivery; the same seed, row of the
    manifest and number always give the same crop.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        boxes: Sequence[tuple[float, float, float, float]],
        framing: Framing,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
    ) -> None:
        self.paths = frame["path"].tolist()
        self.pictures = list(zip(frame["sha256"], frame["key"], strict=True))  # what a view depends on
        self.boxes = boxes
        self.framing = framing
        self.seed = seed
        self.normalise = Normaliser(mean, std)

    def crop(self, row: int, view: str | int) -> Tensor:
        """One crop (3, S, S)."""
        return torch.from_numpy(self.normalise(self.picture(row, view)))

    def picture(self, row: int, view: str | int) -> Image.Image:
        """One crop as a picture, before it is normalised."""
        image = decode(Path(self.paths[row]).read_bytes()).pixels
        if isinstance(view, str):
            return fixed_view(image, self.boxes[row], self.framing, view)
        return random_view(image, self.boxes[row], self.framing, self._rng(row, view))

    def _rng(self, row: int, view: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.pictures[row][1], view])

    def batch(self, jobs: Sequence[tuple[int, str | int]]) -> Tensor:
        """Crops of several jobs (B, 3, S, S)."""
        return torch.stack([self.crop(row, view) for row, view in jobs])


def mean_cells(
    network: LinearHeadNet,
    loader: CropLoader,
    rows: np.ndarray,
    view: str | int,
    folder: Path,
    log: Log,
    *,
    key: str,
) -> np.ndarray:
    """Mean cell of each row's view; shards already in `folder` are not computed again.

    Parameters
    ----------
    rows : ndarray of shape (N,), int
    view : str or int
        See `CropLoader`.
    key : str
        Identifies the frozen weights and the framing; with the pictures' contents it names the shards.

    Returns
    -------
    ndarray of shape (N, C), float32
    """
    if isinstance(view, str) and view not in TIERS:
        raise ValueError(f"unknown view {view!r}; known are {', '.join(TIERS)} and numbers")
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    with ThreadPoolExecutor(1) as pool, torch.inference_mode(), autocast(torch.device("cpu")):
        for first in log.track(range(0, len(rows), SHARD), f"features of view {view}"):
            chosen = rows[first : first + SHARD]
            name = hashlib.sha256(
                json.dumps([key, loader.seed, str(view), [loader.pictures[row] for row in chosen]]).encode()
            ).hexdigest()[:24]
            path = folder / f"{name}.npy"
            if not path.exists():
                jobs = [(int(row), view) for row in chosen]
                batches = [jobs[start : start + BATCH] for start in range(0, len(jobs), BATCH)]
                loaded = pool.map(loader.batch, batches)
                cells = [network.mean_cells(images.to(memory_format=torch.channels_last)) for images in loaded]
                found = torch.cat(cells).numpy().astype(np.float32)
                write_whole(path, partial(np.save, arr=found))
            parts.append(np.load(path))
    return np.concatenate(parts)
