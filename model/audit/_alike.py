"""Which of very many pictures look nearly the same, without comparing every one with every other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from model.audit._duplicates import NEAR_BITS, NEAR_CORRELATION
from model.audit._facts import perceptual_hash, small_copy, unit_copies

COMPARISONS = 2_000_000_000  # of hashes, at most; 100,000 photographs of faces need some dozen millions
CONFIRMATIONS = 10_000_000  # of small copies, at most; the search ends there
_BANDS, _WIDTH = 16, 16  # bits: of NEAR_BITS differing ones, some band has at most one
_CHUNK = 1 << 20  # pairs at a time; bounds memory
# Neighbouring frequencies go together. Mixed, every band says about as much as any other.
_MIXED = np.random.default_rng(0).permutation(_BANDS * _WIDTH)


def fingerprint(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """What `near_groups` compares of a picture: its `perceptual_hash` (32,) and a small copy (256,), both uint8."""
    grey = image.convert("L")
    return perceptual_hash(grey), small_copy(grey)


def near_groups(hashes: np.ndarray, small: np.ndarray) -> np.ndarray:
    """Groups of pictures that look nearly the same.

    The test is that of `near_pairs`. Who is tested against whom is found by bands of the hash: hashes that differ in
    `NEAR_BITS` at most are equal in one of 16 bands of 16 bits, or differ there in a single bit.

    Parameters
    ----------
    hashes : ndarray of shape (N, 32), uint8
    small : ndarray of shape (N, 256), uint8
        From `fingerprint`.

    Returns
    -------
    ndarray of shape (N,), int64
        For each picture the number of the first one of its group, its own if it is alone. Every picture passes the
        test against the first one of its group. A group may come out as two where pictures change step by step, as in a
        film, or where more `COMPARISONS` or `CONFIRMATIONS` would be needed.
    """
    leader = np.arange(len(hashes))
    if len(hashes) < 2:
        return leader
    prints = _Prints(hashes, small)
    linked = np.concatenate(list(_links(prints)), axis=1)
    graph = csr_array((np.ones(linked.shape[1], dtype=bool), tuple(linked)), shape=(len(hashes), len(hashes)))
    left = np.unique(linked)
    while left.size:
        _, part = connected_components(graph[left][:, left], directed=False)
        _, heads = np.unique(part, return_index=True)
        first = left[heads[part]]
        joins = (first == left) | prints.near(first, left)
        leader[left[joins]] = first[joins]
        left = left[~joins]
    return leader


class _Prints:
    """Fingerprints, laid out to be compared in great numbers."""

    def __init__(self, hashes: np.ndarray, small: np.ndarray) -> None:
        self.words = np.ascontiguousarray(np.ascontiguousarray(hashes).view(np.uint64).T)  # (4, N)
        mixed = np.packbits(np.unpackbits(hashes, axis=1)[:, _MIXED], axis=1)
        self.bands = np.ascontiguousarray(np.ascontiguousarray(mixed).view(np.uint16).T)  # (16, N)
        self._small = small
        self.confirmations = 0

    def near(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Whether each of `a` and its fellow in `b` look nearly the same; indices of shape (M,)."""
        found = np.flatnonzero(np.bitwise_count(self.words[0, a] ^ self.words[0, b]) <= NEAR_BITS)
        bits = np.bitwise_count(self.words[:, a[found]] ^ self.words[:, b[found]]).sum(axis=0, dtype=np.int64)
        found = found[bits <= NEAR_BITS]
        self.confirmations += len(found)
        out = np.zeros(len(a), dtype=bool)
        for some in np.array_split(found, -(-len(found) // 20_000) or 1):
            one, other = unit_copies(self._small[a[some]]), unit_copies(self._small[b[some]])
            out[some] = np.einsum("ij,ij->i", one, other) >= NEAR_CORRELATION
        return out


def _links(prints: _Prints) -> Iterator[np.ndarray]:
    """Pairs that look nearly the same, in arrays (2, M); a picture that follows another one is not compared further."""
    alive = np.arange(prints.words.shape[1])
    most = max(_WIDTH, COMPARISONS // (_BANDS * (_WIDTH + 1) * len(alive)))  # partners in one place
    yield np.empty((2, 0), dtype=np.int64)
    for band in prints.bands:
        alive = alive[np.argsort(band[alive], kind="stable")]
        _, first, place = np.unique(band[alive], return_index=True, return_inverse=True)
        heads = alive[first[place]]
        follows = (heads != alive) & prints.near(heads, alive)
        yield np.stack([heads[follows], alive[follows]])
        alive = alive[~follows]
        codes = band[alive].astype(np.int64)
        ends = np.searchsorted(codes, np.arange(1 << _WIDTH), side="right")
        starts = np.concatenate([[0], ends[:-1]])
        for begin, end in _ranges(codes, starts, ends):
            for a, b in _spread(begin, np.minimum(end, begin + most)):
                near = prints.near(alive[a], alive[b])
                yield np.stack([alive[a[near]], alive[b[near]]])
                if prints.confirmations > CONFIRMATIONS:
                    return
        alive = np.sort(alive)


def _ranges(codes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Where the partners of each picture begin and end: those after it in its own place, then a single bit away."""
    yield np.arange(1, len(codes) + 1), ends[codes]
    for bit in range(_WIDTH):
        other = codes | 1 << bit
        lower = other != codes  # from the side where the bit is off, so that each pair comes once
        yield np.where(lower, starts[other], 0), np.where(lower, ends[other], 0)


def _spread(begin: np.ndarray, end: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every pair of an item and a number in its range, in chunks of about `_CHUNK`."""
    counts = np.maximum(end - begin, 0)
    total = np.cumsum(counts)
    for start, stop in _cuts(total):
        many = counts[start:stop]
        before = total[start:stop] - many
        offset = np.repeat(begin[start:stop] - before, many)
        yield np.repeat(np.arange(start, stop), many), np.arange(before[0], total[stop - 1]) + offset


def _cuts(total: np.ndarray) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(total):
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + _CHUNK, side="right")))
        yield start, stop
        start = stop
