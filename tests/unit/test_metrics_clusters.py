"""Images that come in clusters: whole clusters are drawn, and intervals are as wide as that makes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import metrics
from model.metrics._scores import all_scores
from model.metrics._statistics import Draws
from tests.unit.test_metrics import figure, predictions, sample


def width(rate):
    _, low, high = figure(rate)
    return high - low


def videos(rng, count=60, frames=8):
    """Frames that share what is particular to their video."""
    label = np.repeat(np.arange(count) % 2, frames)
    of_video = np.repeat(rng.normal(0, 0.15, count), frames)
    p = np.clip(0.4 + 0.2 * label + of_video + rng.normal(0, 0.03, count * frames), 0, 1)
    return label, p, np.repeat(np.arange(count), frames)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=1, max_size=40), st.integers(0, 99))
def test_clusters_are_drawn_whole_and_no_class_gets_lost(rows, seed):
    labels = np.array([label for label, _ in rows])
    clusters = np.array([cluster for _, cluster in rows])
    weights = Draws(labels, clusters).weights(np.random.default_rng(seed), 20)
    for cluster in set(clusters.tolist()):
        own = weights[:, clusters == cluster]
        assert (own == own[:, :1]).all()
    for label in set(labels.tolist()):
        assert (weights[:, labels == label].sum(axis=1) > 0).all()


def test_clusters_of_one_image_change_nothing():
    y, p = sample(200)
    alone = all_scores(y, p, clusters=np.arange(200), resamples=300)
    plain = all_scores(y, p, resamples=300)
    for name, rate in alone.items():
        assert rate.value == plain[name].value
        assert rate.low == pytest.approx(plain[name].low, abs=0.03)
    one, other = metrics.Scored(y, p, clusters=np.arange(200)).rates(0.5), metrics.Scored(y, p).rates(0.5)
    for name, rate in one.items():
        assert rate.value == pytest.approx(other[name].value)
        assert rate.low == pytest.approx(other[name].low, abs=0.01)


def test_copies_of_images_are_no_new_evidence():
    y, p = sample(120)
    nine = {"y": np.repeat(y, 9), "p": np.repeat(p, 9), "clusters": np.repeat(np.arange(120), 9)}
    once = all_scores(y, p, resamples=400)
    copied = all_scores(nine["y"], nine["p"], clusters=nine["clusters"], resamples=400)
    for name in ("roc_auc", "brier", "eer", "average_precision"):
        assert copied[name].value == pytest.approx(once[name].value)
        assert width(copied[name]) == pytest.approx(width(once[name]), rel=0.2)
    rates, single = metrics.Scored(**nine).rates(0.5), metrics.Scored(y, p).rates(0.5)
    for name in ("accuracy", "recall", "fpr", "precision"):
        assert width(rates[name]) == pytest.approx(width(single[name]), rel=0.2)
    lowest = metrics.Scored(**nine, resamples=400).cost(0.5, metrics.Costs(1, 1, 0.5))["lowest"]
    plain = metrics.Scored(y, p, resamples=400).cost(0.5, metrics.Costs(1, 1, 0.5))["lowest"]
    assert lowest["high"] - lowest["low"] == pytest.approx(plain["high"] - plain["low"], rel=0.25)


def test_intervals_of_clusters_cover_where_those_of_images_do_not():
    # A share of 5 % whose clusters are mostly all or nothing.
    rng = np.random.default_rng(0)
    covered = {"clusters": 0, "images": 0}
    for _ in range(300):
        sizes = rng.integers(1, 24, 30)
        hits = rng.binomial(sizes, rng.beta(0.05, 0.95, 30))
        for name, rate in (
            ("clusters", metrics.wilson_clustered(hits, sizes)),
            ("images", metrics.wilson(int(hits.sum()), int(sizes.sum()))),
        ):
            covered[name] += rate.low <= 0.05 <= rate.high
    assert covered["clusters"] >= 276
    assert covered["images"] < 200


def test_the_bootstrap_of_clusters_covers_where_that_of_images_does_not():
    truth = np.mean([metrics.roc_auc(*videos(np.random.default_rng(9), 4000, 2)[:2], resamples=2).value])
    covered = {"clusters": 0, "images": 0}
    for seed in range(40):
        y, p, clusters = videos(np.random.default_rng(seed))
        for name, codes in (("clusters", clusters), ("images", None)):
            _, low, high = figure(all_scores(y, p, clusters=codes, resamples=150)["roc_auc"])
            covered[name] += low <= truth <= high
    assert covered["clusters"] >= 34
    assert covered["images"] < covered["clusters"]


def test_a_share_of_zero_keeps_an_honest_upper_limit():
    rate = metrics.wilson_clustered(np.zeros(40), np.full(40, 25))
    assert (rate.value, rate.low) == (0, 0)
    assert rate.high == pytest.approx(metrics.wilson(0, 40).high, rel=0.1)
    assert metrics.wilson_clustered([], []).reason == "no images"
    assert "single cluster" in metrics.wilson_clustered([3], [5]).reason


def test_a_column_of_persons_is_found_and_named_and_few_values_are_not():
    frame = predictions(400)
    assert metrics.evaluate(frame, resamples=5)["protocol"]["clusters"] is None  # two groups of each class
    kinds = frame.assign(group=[f"g{index % 50}" for index in range(400)])
    assert metrics.evaluate(kinds, resamples=5)["protocol"]["clusters"] is None  # kinds of images, not persons
    people = frame.assign(identity=[f"p{index % 50}" for index in range(400)])
    found = metrics.evaluate(people, resamples=5)["protocol"]
    assert found["clusters"] == {"column": "identity", "count": 50, "chosen": "by its name"}
    assert "whole clusters" in found["interval_others"]
    named = metrics.evaluate(frame, cluster_by="group", resamples=5)["protocol"]
    assert named["clusters"] == {"column": "group", "count": 4, "chosen": "by the user"}
    assert "4 clusters are few" in named["independence"]
    with pytest.raises(ValueError, match="no column 'person' to cluster by"):
        metrics.evaluate(frame, cluster_by="person")
    with pytest.raises(ValueError, match="is empty"):
        metrics.evaluate(frame.assign(video=""), cluster_by="video")


def test_bins_of_the_reliability_diagram_are_as_wide_as_their_clusters_make_them():
    y, p = sample(120)
    nine = np.repeat(y, 9), np.repeat(p, 9)
    once, plain = metrics.reliability_frame(y, p, bins=4), metrics.reliability_frame(*nine, bins=4)
    copied = metrics.reliability_frame(*nine, bins=4, clusters=np.repeat(np.arange(120), 9))
    assert copied["fake_share"].tolist() == plain["fake_share"].tolist()
    assert (copied["high"] - copied["low"]).to_numpy() == pytest.approx(
        (once["high"] - once["low"]).to_numpy(), rel=0.2
    )
    assert ((copied["high"] - copied["low"]) > 1.5 * (plain["high"] - plain["low"])).all()
    single = metrics.reliability_frame(*nine, bins=4, clusters=np.zeros(1080, dtype=np.int64))
    assert single["low"].isna().all() and single["low"].dtype == float  # a chart can still be drawn


def test_the_protocol_names_the_intervals_that_know_no_clusters():
    frame = predictions(400).assign(identity=[f"p{index % 50}" for index in range(400)])
    single = "images by themselves: coverage, decided and the shares in likelihood_ratios"
    assert single in metrics.evaluate(frame, resamples=5)["protocol"]["interval_shares"]


def test_an_image_without_a_person_is_a_cluster_by_itself():
    frame = predictions(100).assign(identity=[f"p{index}" if index < 40 else "" for index in range(100)])
    assert metrics.evaluate(frame, resamples=5)["protocol"]["clusters"]["count"] == 100


def test_a_class_of_one_cluster_has_figures_without_interval():
    y, p = sample(60)
    rate = all_scores(y, p, clusters=np.where(y == 1, 99, np.arange(60)), resamples=5)["roc_auc"]
    assert rate.value is not None
    assert (rate.low, rate.reason) == (None, "no interval: a class has too few clusters")


@pytest.mark.parametrize(("mixed", "varies"), [(1, False), (2, True)])
def test_a_class_of_one_pure_and_one_mixed_cluster_has_no_interval_either(mixed, varies):
    """Neither can be drawn instead of the other: every resample holds the same images of the class."""
    y, p = sample(60)
    clusters = np.where(y == 1, 99, np.arange(60))
    clusters[np.flatnonzero(y == 1)[:mixed]] = np.flatnonzero(y == 0)[:mixed]  # share a cluster with a real image
    weights = Draws(y, clusters).weights(np.random.default_rng(0), 20)
    assert (weights[:, y == 1].std(axis=0) > 0).any() == varies
    assert (all_scores(y, p, clusters=clusters, resamples=20)["roc_auc"].low is not None) == varies
    lowest = metrics.Scored(y, p, clusters=clusters).cost(0.5, metrics.Costs(1, 1, 0.5))["lowest"]
    assert (lowest["low"] is not None) == varies


def test_groups_are_resampled_by_cluster_too():
    frame = predictions(120).loc[lambda data: data.index.repeat(6)].reset_index(drop=True)
    frame = frame.assign(identity=[f"p{index // 6}" for index in range(720)], path=[f"{i}" for i in range(720)])
    by_image = metrics.evaluate(frame.drop(columns="identity"), resamples=200)["groups"]["gan"]
    by_person = metrics.evaluate(frame, resamples=200)["groups"]["gan"]
    for key in ("roc_auc", "recall"):
        assert by_person[key]["value"] == pytest.approx(by_image[key]["value"])
        assert by_person[key]["high"] - by_person[key]["low"] > 1.5 * (by_image[key]["high"] - by_image[key]["low"])
