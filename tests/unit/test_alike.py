"""Groups of nearly the same pictures: as strict as the audit's pairs, and quick among very many."""

from __future__ import annotations

import io
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from model import audit
from model.audit import _alike
from model.audit._facts import unit_copies


def photograph(seed: int, side: int = 160) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


def saved_again(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def stacked(pictures: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    hashes, small = zip(*(audit.fingerprint(image) for image in pictures), strict=True)
    return np.stack(hashes), np.stack(small)


def grown(seed: int, count: int, wrong: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fingerprints of families: of each family the hashes differ from its first by a share of bits."""
    rng = np.random.default_rng(seed)
    family = rng.integers(0, count // 3, count)
    bits = rng.integers(0, 2, (count // 3, 256))[family] ^ (rng.random((count, 256)) < wrong)
    small = rng.integers(0, 256, (count // 3, 256), dtype=np.uint8)[family]
    return np.packbits(bits.astype(np.uint8), axis=1), small, family


def test_copies_go_with_their_original_and_others_stay_alone() -> None:
    original = photograph(1)
    pictures = [
        photograph(0),
        original,
        photograph(2),
        saved_again(original, 60),
        original.resize((96, 96)),
        photograph(3),
        original.convert("L"),
    ]
    assert audit.near_groups(*stacked(pictures)).tolist() == [0, 1, 2, 1, 1, 5, 1]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_pictures_are_no_problem(count: int) -> None:
    plain = [Image.new("RGB", (64, 64), "white")] * count  # without any structure nothing can be compared
    hashes, small = stacked(plain) if count else (np.zeros((0, 32), np.uint8), np.zeros((0, 256), np.uint8))
    assert audit.near_groups(hashes, small).tolist() == list(range(count))


@pytest.mark.parametrize("wrong", [0.0, 0.02, 0.05, 0.1])
def test_groups_say_the_same_as_all_pairs(wrong: float) -> None:
    hashes, small, _ = grown(0, 300, wrong)
    leader = audit.near_groups(hashes, small)
    facts = pd.DataFrame({"name": range(300), "label": 0, "hash": list(hashes), "small": list(unit_copies(small))})
    pairs = {(row.name_a, row.name_b) for row in audit.near_pairs(facts).itertuples()}
    members = [(int(first), place) for place, first in enumerate(leader) if first != place]
    assert set(members) <= pairs  # every member passes the test against the first of its group
    heads = set(leader.tolist())
    assert not [pair for pair in pairs if heads.issuperset(pair)]  # and no two groups could be one
    assert np.array_equal(leader[leader], leader)


def test_likeness_of_the_hash_alone_is_not_enough() -> None:
    rng = np.random.default_rng(0)
    hashes = np.repeat(rng.integers(0, 256, (1, 32), dtype=np.uint8), 50, axis=0)
    small = rng.integers(0, 256, (50, 256), dtype=np.uint8)
    assert audit.near_groups(hashes, small).tolist() == list(range(50))


def test_the_search_ends_where_it_would_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_alike, "CONFIRMATIONS", 1000)
    monkeypatch.setattr(_alike, "_CHUNK", 2000)
    made: list[_alike._Prints] = []
    prints = _alike._Prints
    monkeypatch.setattr(_alike, "_Prints", lambda *given: made.append(prints(*given)) or made[-1])
    rng = np.random.default_rng(0)
    hashes = np.repeat(rng.integers(0, 256, (1, 32), dtype=np.uint8), 3000, axis=0)
    small = rng.integers(0, 256, (3000, 256), dtype=np.uint8)
    small[1] = small[0]
    assert audit.near_groups(hashes, small)[1] == 0
    assert 1000 < made[0].confirmations < 100_000  # of some 4,500,000 pairs


def test_a_hundred_thousand_take_seconds() -> None:
    hashes, small, _ = grown(1, 100_000, 0.03)
    start = time.process_time()
    leader = audit.near_groups(hashes, small)
    assert time.process_time() - start < 60  # some seconds, on a machine with nothing else to do
    assert len(np.unique(leader)) < 34_000
