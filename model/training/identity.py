"""What a training was begun with, as digests: what it left behind is taken up by the same training alone."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from model.checkpoint import read_info
from model.faces import Framing
from model.training.config import TrainConfig, is_checkpoint

_DECIDES_LABELS = ["sha256", "key", "label", "split", "source", "generator"]  # columns of the table of pictures


def digest(*parts: object) -> str:
    """SHA-256 over how some values are written, hexadecimal; floats differ in their last bit."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def of_start(config: TrainConfig) -> str:
    """Of the network that training starts from, and of what is done to a picture before it sees it."""
    init = read_info(Path(config.init)).sha256 if is_checkpoint(config.init) else config.init
    framing = sorted(asdict(Framing(**config.framing)).items())
    options = sorted(config.options.items())
    return digest(config.architecture, options, init, config.mean, config.std, framing, config.seed)


def of_pictures(frame: pd.DataFrame) -> str:
    """Of the content of every picture of a table, in order, and of all that decides how it is used."""
    return digest(frame[_DECIDES_LABELS].to_csv(index=False))


def of_arrays(*arrays: np.ndarray) -> str:
    """Of the bytes of some arrays."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()
