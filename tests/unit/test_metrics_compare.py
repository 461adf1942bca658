"""Two runs on the same images: tests held equal to scipy, images matched and nothing lost unsaid."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2_contingency
from sklearn import metrics as oracle

from model import metrics
from tests.unit.test_metrics import figure, labelled_scores, predictions, sample


def run(frame, seed=0, noise=0.1):
    """The same images judged by another detector."""
    p = np.clip(frame["p_fake"] + np.random.default_rng(seed).normal(0, noise, len(frame)), 0, 1)
    return frame.assign(p_fake=p, verdict=np.where(p >= 0.6, "fake", "real"))


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_scipy(only_a, only_b):
    found = metrics.mcnemar(only_a, only_b)
    count = only_a + only_b
    if not count:
        assert (found["p_value"], found["method"]) == (None, "none")
        assert found["reason"]
        return
    exact = binomtest(only_a, count).pvalue
    if count < 25:
        assert found["method"] == "exact binomial"
        assert found["p_value"] == pytest.approx(exact)
    else:
        # A two-cell goodness of fit with Yates' correction, as a 2 x 2 table of the pairs and their mirror image.
        assert "continuity" in found["method"]
        assert found["p_value"] == pytest.approx(exact, abs=0.02)
        table = [[only_a, only_b], [only_b, only_a]]
        if only_a != only_b:
            whole = chi2_contingency(table, correction=False)
            assert found["statistic"] == pytest.approx((np.sqrt(whole.statistic * count / 2) - 1) ** 2 / count)
    assert 0 < found["mid_p"] <= 1
    assert found["mid_p"] <= exact + 1e-12
    assert metrics.mcnemar(only_b, only_a)["p_value"] == found["p_value"]


def test_counts_below_zero_are_refused():
    with pytest.raises(ValueError, match="not negative"):
        metrics.mcnemar(-1, 3)


@settings(deadline=None, max_examples=40)
@given(labelled_scores(), st.integers(0, 1000))
def test_differences_equal_those_of_scikit_learn(data, seed):
    y, p = data
    other = np.random.default_rng(seed).permutation(p)
    found = metrics.paired_differences(y, p, other, resamples=5, threshold_b=0.4)
    expected = {
        "roc_auc": oracle.roc_auc_score(y, p) - oracle.roc_auc_score(y, other),
        "average_precision": oracle.average_precision_score(y, p) - oracle.average_precision_score(y, other),
        "brier": oracle.brier_score_loss(y, p) - oracle.brier_score_loss(y, other),
        "accuracy": oracle.accuracy_score(y, p >= 0.5) - oracle.accuracy_score(y, other >= 0.4),
        "recall": oracle.recall_score(y, p >= 0.5) - oracle.recall_score(y, other >= 0.4),
        "balanced_accuracy": oracle.balanced_accuracy_score(y, p >= 0.5)
        - oracle.balanced_accuracy_score(y, other >= 0.4),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value), name


def test_the_paired_interval_is_that_of_the_paired_standard_error():
    rng = np.random.default_rng(2)
    y, p = sample(800, seed=2)
    other = np.clip(p + rng.normal(0, 0.1, 800), 0, 1)
    value, low, high = figure(metrics.paired_differences(y, p, other)["accuracy"])
    gain = ((p >= 0.5) == y).astype(float) - ((other >= 0.5) == y)
    error = np.sqrt(sum(gain[y == label].var() * (y == label).sum() for label in (0, 1))) / 800
    assert value == pytest.approx(gain.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.15)
    unpaired = figure(metrics.roc_auc(y, p))
    paired = figure(metrics.paired_differences(y, p, other)["roc_auc"])
    assert paired[2] - paired[1] < unpaired[2] - unpaired[1]  # the same images: what they share cancels


def test_a_run_does_not_differ_from_itself():
    y, p = sample(100)
    for rate in metrics.paired_differences(y, p, p, resamples=30).values():
        assert (rate.value, rate.low, rate.high) == (0, 0, 0)


@pytest.mark.parametrize(("y", "reason"), [([], "no images"), ([1, 1], "no real images"), ([0, 0], "no fake images")])
def test_differences_that_need_a_missing_class_are_undefined(y, reason):
    found = metrics.paired_differences(y, [0.2] * len(y), [0.3] * len(y), resamples=5)
    assert (found["roc_auc"].value, found["roc_auc"].reason) == (None, reason)
    assert (found["accuracy"].value is None) == (not y)


def test_the_images_on_which_two_runs_disagree_are_listed_first():
    a = predictions(300)
    b = run(a)
    found = metrics.compare(a, b, resamples=20)
    images, figures = found.images, found.figures
    json.dumps(figures, allow_nan=False)
    flagged_a, flagged_b = a["p_fake"] >= 0.6, b["p_fake"] >= 0.6
    expected = set(a.loc[flagged_a != flagged_b, "path"])
    assert figures["agreement"]["disagree"] == len(expected) > 0
    assert set(images.loc[images["disagree"], "path"]) == expected
    top = images.iloc[: len(expected)]
    assert top["disagree"].all()
    assert ((top["p_a"] - top["p_b"]).abs().diff().dropna() <= 0).all()
    right_a, right_b = flagged_a == a["label"].astype(bool), flagged_b == a["label"].astype(bool)
    assert figures["mcnemar"]["only_a"] == (right_a & ~right_b).sum()
    assert figures["agreement"]["neither"] == (~right_a & ~right_b).sum()
    assert figures["differences"]["roc_auc"]["value"] == pytest.approx(
        oracle.roc_auc_score(a["label"].astype(int), a["p_fake"])
        - oracle.roc_auc_score(a["label"].astype(int), b["p_fake"])
    )
    for row in images.itertuples():
        assert a.loc[row.row_a, "path"] == row.path
        assert b.loc[row.row_b, "p_fake"] == row.p_b


def test_renamed_files_are_matched_by_content_and_copies_in_order():
    hashes = [f"{index // 2:064x}" for index in range(100)]  # every file twice
    a = predictions(100).assign(sha256=hashes)
    b = run(a).iloc[::-1].reset_index(drop=True)
    b = b.assign(path=[f"other/{index}" for index in range(100)])
    found = metrics.compare(a, b, resamples=5)
    assert (found.figures["matched_by"], found.figures["n"] + found.figures["left_out"]["labels_differ"]["count"]) == (
        "sha256",
        100,
    )
    assert (found.images["path"].str.startswith("other/")).sum() == 0
    assert found.images["path_b"].str.startswith("other/").all()
    without = metrics.compare(a.drop(columns="sha256"), run(a), resamples=5)
    assert (without.figures["matched_by"], without.figures["n"]) == ("path", 100)


def test_a_file_that_could_not_be_read_does_not_keep_others_from_being_matched_by_content():
    a = predictions(100).assign(sha256=[f"{index:064x}" for index in range(100)])
    a.loc[7, ["verdict", "p_fake", "sha256"]] = ["error", np.nan, ""]
    b = run(a).assign(path=[f"other/{index}" for index in range(100)])
    b.loc[7, "path"] = a.loc[7, "path"]
    found = metrics.compare(a, b, resamples=5).figures
    assert (found["matched_by"], found["n"]) == ("sha256", 99)
    assert found["left_out"]["unscored"] == {"count": 1, "names": [a.loc[7, "path"]]}
    a.loc[8, "sha256"] = None  # of an image that was scored
    assert metrics.compare(a, b, resamples=5).figures["matched_by"] == "path"


def test_what_is_not_in_both_is_said():
    a, b = predictions(100), run(predictions(100))
    b.loc[20, ["verdict", "p_fake"]] = ["not_applicable", np.nan]
    b.loc[30, "label"] = 1 - int(b.loc[30, "label"])
    left = metrics.compare(a.drop(index=[0, 1]), b.drop(index=[50]), resamples=5).figures["left_out"]
    assert left["only_in_a"] == {"count": 1, "names": ["0050.jpg"]}
    assert left["only_in_b"] == {"count": 2, "names": ["0000.jpg", "0001.jpg"]}
    assert left["unscored"] == {"count": 1, "names": ["0020.jpg"]}
    assert left["labels_differ"] == {"count": 1, "names": ["0030.jpg"]}


def test_runs_without_a_common_image_compare_to_nothing():
    a = predictions(20)
    found = metrics.compare(a, a.assign(path=[f"x{index}" for index in range(20)]), resamples=5)
    json.dumps(found.figures, allow_nan=False)
    assert found.images.empty
    assert found.figures["mcnemar"]["p_value"] is None
    assert found.figures["differences"]["accuracy"]["value"] is None
    assert found.figures["left_out"]["only_in_a"]["count"] == found.figures["left_out"]["only_in_b"]["count"] == 20
    assert len(found.figures["left_out"]["only_in_a"]["names"]) == 20


def test_thresholds_of_their_own_and_clusters_are_used():
    a = predictions(200).assign(identity=[f"p{index % 40}" for index in range(200)])
    found = metrics.compare(a, run(a), threshold_b=0.3, resamples=20)
    assert (found.figures["threshold_a"], found.figures["threshold_b"]) == (0.6, 0.3)
    assert found.figures["protocol"]["clusters"] == "identity"
    assert found.images["flagged_b"].sum() == (found.images["p_b"] >= 0.3).sum()
    assert isinstance(found.images, pd.DataFrame)
