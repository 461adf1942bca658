"""What a run keeps to tell nearly the same pictures: a perceptual hash and a tiny copy of each. No Streamlit here.

They are taken of the small picture that the run makes anyway, and lie in its folder until it is deleted:

    fingerprints.parquet     position, hash (32 bytes), small (16 x 16 grey pixels)
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from dashboard.store import write_atomically

FILE = "fingerprints.parquet"
HASH_BYTES, SMALL_BYTES = 32, 256


@dataclass
class Fingerprints:
    """Those of a run, by position of the image.

    Attributes
    ----------
    known : ndarray of shape (N,), bool
        An image that could not be read has none.
    hashes, small : ndarray of shape (N, 32) and (N, 256), uint8
        As of `model.audit.fingerprint`.
    """

    known: np.ndarray
    hashes: np.ndarray
    small: np.ndarray

    @classmethod
    def none(cls, count: int) -> Fingerprints:
        """Of so many images, nothing known yet."""
        return cls(
            np.zeros(count, dtype=bool),
            np.zeros((count, HASH_BYTES), dtype=np.uint8),
            np.zeros((count, SMALL_BYTES), dtype=np.uint8),
        )

    @classmethod
    def load(cls, folder: Path, count: int) -> Fingerprints:
        """Those in the folder of a run of so many images; none if it was made before they were kept, or damaged."""
        found = cls.none(count)
        try:
            frame = pd.read_parquet(folder / FILE)
            places = frame["position"].to_numpy()
            hashes = np.frombuffer(b"".join(frame["hash"]), dtype=np.uint8).reshape(-1, HASH_BYTES)
            small = np.frombuffer(b"".join(frame["small"]), dtype=np.uint8).reshape(-1, SMALL_BYTES)
            found.hashes[places], found.small[places], found.known[places] = hashes, small, True
        except (OSError, ValueError, KeyError, TypeError, IndexError, pa.ArrowException):
            return cls.none(count)
        return found

    def note(self, position: int, picture: Image.Image) -> None:
        """Take the fingerprint of an image from a small picture of it."""
        from model.audit import fingerprint  # scikit-learn and scipy: slow to import, needed only here

        self.hashes[position], self.small[position] = fingerprint(picture)
        self.known[position] = True

    def save(self, folder: Path) -> None:
        """Write what is known.

        Raises
        ------
        OSError
            If that is not possible.
        """
        places = np.flatnonzero(self.known)
        frame = pd.DataFrame(
            {
                "position": places,
                "hash": [row.tobytes() for row in self.hashes[places]],
                "small": [row.tobytes() for row in self.small[places]],
            }
        )
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        write_atomically(folder / FILE, buffer.getvalue())
