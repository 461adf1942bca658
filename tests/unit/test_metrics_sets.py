"""Means over sets that share images: the figure is the mean, and the interval knows what is shared."""

from __future__ import annotations

import numpy as np
import pytest

from model import metrics

NAMES = ("roc_auc", "tpr_at_fpr 0.01")


def drawn(
    rng: np.random.Generator, *, sets: int = 6, shared: int = 150, fakes: int = 150
) -> tuple[np.ndarray, np.ndarray]:
    """Sets that have the same photographs, each with fakes of its own: labels (N,), scores (S, N)."""
    labels = np.repeat([0, 1], [shared, sets * fakes])
    scores = np.full((sets, len(labels)), np.nan)
    for own in range(sets):
        scores[own, :shared] = rng.normal(0, 1, shared) if own == 0 else scores[0, :shared]
        scores[own, shared + own * fakes : shared + (own + 1) * fakes] = rng.normal(1.5, 1, fakes)
    return labels, 1 / (1 + np.exp(-scores))


def test_the_value_is_the_mean_of_the_sets_figures() -> None:
    labels, scores = drawn(np.random.default_rng(0))
    found = metrics.means_over_sets(labels, scores, resamples=50)
    for name, figure in zip(NAMES, (metrics.roc_auc, metrics.tpr_at_fpr), strict=True):
        own = [figure(labels[~np.isnan(row)], row[~np.isnan(row)], resamples=2).value for row in scores]
        assert found[name].value == pytest.approx(np.mean(own))
        assert found[name].low is not None
        assert found[name].low <= found[name].value <= found[name].high


def test_one_set_has_its_own_interval() -> None:
    labels, scores = drawn(np.random.default_rng(1), sets=1)
    found = metrics.means_over_sets(labels, scores)["roc_auc"]
    own = metrics.roc_auc(labels, scores[0])
    assert (found.value, found.low, found.high) == pytest.approx((own.value, own.low, own.high), abs=0.004)


def test_shared_photographs_widen_the_interval_and_separate_ones_do_not() -> None:
    labels, scores = drawn(np.random.default_rng(2))
    alone = [metrics.roc_auc(labels[~np.isnan(row)], row[~np.isnan(row)]).to_dict() for row in scores]
    apart = metrics.mean_of(alone)

    def width(rate: metrics.Rate) -> float:
        assert rate.low is not None
        assert rate.high is not None
        return rate.high - rate.low

    assert width(metrics.means_over_sets(labels, scores)["roc_auc"]) > 1.3 * width(apart)
    # The same scores, every set with a copy of the photographs of its own.
    blocks = [(labels[~np.isnan(row)], row[~np.isnan(row)]) for row in scores]
    spread = np.full((len(blocks), sum(len(own) for own, _ in blocks)), np.nan)
    first = 0
    for row, (_, values) in zip(spread, blocks, strict=True):
        row[first : first + len(values)] = values
        first += len(values)
    separate = metrics.means_over_sets(np.concatenate([own for own, _ in blocks]), spread)["roc_auc"]
    assert width(separate) == pytest.approx(width(apart), rel=0.12)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    truth = 0.8555778  # chance that a normal value of mean 1.5 is above one of mean 0, both of deviation 1
    hits = 0
    for _ in range(60):
        found = metrics.means_over_sets(*drawn(rng, shared=60, fakes=60), resamples=200)["roc_auc"]
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
    assert hits >= 52  # 55; as if sets shared nothing: 45


def test_what_cannot_be_told_has_a_reason() -> None:
    nan = float("nan")
    lacking = metrics.means_over_sets([0, 0, 1], [[0.1, 0.2, 0.9], [0.1, 0.2, nan]])
    assert all(lacking[name].value is None and lacking[name].reason for name in NAMES)
    single = metrics.means_over_sets([0, 0, 1], [[0.1, 0.2, 0.9]])["roc_auc"]
    assert (single.value, single.low) == (1, None)
    assert "single image" in single.reason
    assert metrics.means_over_sets([], np.zeros((0, 0)))["roc_auc"].reason == "no sets"
