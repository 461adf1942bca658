"""The ablations' fit in the dual is the least squares that checkpoints are fitted by."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.ablations import PARTS, ROWS, _columns, dual_fit
from model.training.data import balanced_weights, importance
from model.training.linear import LeastSquares


@pytest.mark.parametrize("penalty", [0.01, 1.0, 10.0])
def test_the_dual_gives_the_scores_of_the_primal(penalty: float) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 150)
    source = rng.integers(0, 4, 150).astype(str)
    frame = pd.DataFrame({"label": labels, "source": source, "generator": ""})
    values = rng.normal(size=(150, 220)) * rng.uniform(0.5, 2, 220) + labels[:, None] * rng.normal(size=220) * 0.2
    rows = np.flatnonzero(rng.random(150) < 0.7)
    mine = frame.iloc[rows]
    own = LeastSquares(values[rows].astype(np.float32), labels[rows], importance(mine)).fit(penalty).logits(values)
    weights = balanced_weights(mine)  # sum to one; labels weigh the same
    centre = weights @ values[rows]
    scaled = (values - centre) / np.sqrt(weights @ (values[rows] - centre) ** 2)
    found = dual_fit(scaled @ scaled.T, frame, labels, rows, penalty)
    assert np.corrcoef(own, found)[0, 1] > 0.99999
    assert np.ptp(own / found - np.median(own / found)) < 0.05  # the same but for scale


def test_columns_are_those_of_the_blocks_and_parts_asked_for() -> None:
    taps = [3, 5]
    values = np.zeros((2, 2, sum(PARTS.values())), np.float16)
    values[:, 1, 768:1536] = 7
    found = _columns(values, taps, (5,), ("means", "squares"))
    assert found.shape == (2, 1536) and (found[:, :768] == 0).all() and (found[:, 768:] == 7).all()
    assert _columns(values, taps, (3, 5), ("principal",)).shape == (2, 2 * 2080)
    assert {part for groups in ROWS.values() for _, parts in groups for part in parts} == set(PARTS)
