"""What is thinned for drawing keeps its shape, and the threshold of equal errors is the best there is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from model import metrics


def scores(seed: int, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, count)
    return y, 1 / (1 + np.exp(-rng.normal(4 * y - 2, 1.5)))


def test_a_thinned_curve_is_never_far_from_the_whole() -> None:
    frame = metrics.roc_frame(*scores(0))
    thinned = metrics.thin_along(frame, "fpr", "tpr", 300)
    assert len(thinned) <= 300
    assert thinned.iloc[[0, -1]][["fpr", "tpr"]].to_numpy().tolist() == [[0, 0], [1, 1]]
    places = [part[["fpr", "tpr"]].to_numpy() for part in (frame, thinned)]
    assert cdist(*places, "cityblock").min(axis=1).max() < 1.01 * 2 / 299  # the whole way is 2 long


def test_rows_that_cannot_be_drawn_are_left_out() -> None:
    frame = metrics.det_frame([0, 1, 0, 1], [0.1, 0.4, 0.5, 0.9])
    thinned = metrics.thin_along(frame, "fpr_deviate", "fnr_deviate", 2)
    assert np.isfinite(thinned[["fpr_deviate", "fnr_deviate"]]).all(axis=None)


def test_short_and_empty_curves_stay_as_they_are() -> None:
    empty = metrics.roc_frame([1, 1], [0.1, 0.2])
    assert metrics.thin_along(empty, "fpr", "tpr").empty
    flat = pd.DataFrame({"x": np.zeros(50), "y": np.zeros(50)})
    assert 1 <= len(metrics.thin_along(flat, "x", "y", 5)) <= 5
    with pytest.raises(metrics.MetricsError, match="At least 2"):
        metrics.thin_along(flat, "x", "y", 1)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), max_size=40))
def test_no_other_threshold_brings_the_errors_closer(pairs: list[tuple[int, int]]) -> None:
    y, p = np.array([label for label, _ in pairs], dtype=int), np.array([score / 20 for _, score in pairs])
    found = metrics.threshold_at_eer(y, p)
    if not 0 < y.sum() < len(y):
        assert found is None
        return
    assert found is not None

    def gap(threshold: float) -> float:
        flagged = p >= threshold
        return abs(flagged[y == 0].mean() - (~flagged)[y == 1].mean())

    assert gap(found) == pytest.approx(min(gap(value) for value in np.unique(p)))
