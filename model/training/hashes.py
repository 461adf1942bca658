"""Short hashes of the training pictures, which travel in the checkpoint: see `model.checkpoint.training_hashes`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from model.audit import file_facts
from model.checkpoint import HASH_BYTES, Hashes, short_hash
from model.sources import Source


def hashes_of(paths: Iterable[str]) -> tuple[Hashes, Hashes]:
    """First bytes of SHA-256, and short perceptual hashes, of picture files; two arrays of shape (N, 8), uint8.

    Sorted by the first, so that they say nothing of the order of a manifest; files that cannot be opened are left out.
    """
    sources = [Source(path, Path(path)) for path in paths]
    facts = file_facts(sources, [0] * len(sources)).sort_values("sha256")
    digests = [list(bytes.fromhex(digest)[:HASH_BYTES]) for digest in facts["sha256"]]
    sha256 = np.array(digests, dtype=np.uint8).reshape(-1, HASH_BYTES)
    return sha256, short_hash(np.array(facts["hash"].tolist(), dtype=np.uint8).reshape(-1, 32))
