"""Metrics: held equal to scikit-learn and scipy, honest about what is undefined, independent of row order."""

from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as oracle

from model import metrics

FIGURES = ("roc_auc", "average_precision", "eer", "tpr_at_fpr", "ece", "brier", "aurc", "accuracy_at_coverage")
BOTH_CLASSES = ("roc_auc", "average_precision", "eer", "tpr_at_fpr")


def sample(n=300, seed=0, decimals=None, share=0.5):
    rng = np.random.default_rng(seed)
    y = (np.arange(n) < n * share).astype(int)
    p = np.clip(rng.normal(0.35 + 0.3 * y, 0.2), 0, 1)
    order = rng.permutation(n)
    return y[order], (p if decimals is None else p.round(decimals))[order]


CASES = {
    "smooth": sample(),
    "ties": sample(decimals=1),
    "imbalanced": sample(share=0.07),
    "tiny": (np.array([0, 1, 1]), np.array([0.2, 0.2, 0.9])),
    "two": (np.array([1, 0]), np.array([0.3, 0.6])),
    "constant": (np.array([0, 1, 0, 1, 1]), np.full(5, 0.5)),
    "perfect": (np.array([0, 0, 1, 1]), np.array([0.0, 0.1, 0.9, 1.0])),
    "reversed": (np.array([1, 1, 0, 0]), np.array([0.0, 0.1, 0.9, 1.0])),
}
cases = pytest.mark.parametrize(("y", "p"), CASES.values(), ids=CASES.keys())


@st.composite
def labelled_scores(draw, both=True, min_size=2):
    grid = draw(st.sampled_from([4, 20, 1000]))  # coarse grids make ties
    y = draw(st.lists(st.integers(0, 1), min_size=min_size, max_size=40))
    if both:
        y += [0, 1]
    p = draw(st.lists(st.integers(0, grid), min_size=len(y), max_size=len(y)))
    return np.array(y, dtype=int), np.array(p) / grid


def value(function, y, p, **options):
    return figure(function(y, p, resamples=2, **options))[0]


def figure(rate) -> tuple[float, float, float]:
    """Value and interval, for a rate that must have both (a single image of a class has no interval)."""
    assert rate.value is not None
    return rate.value, np.nan if rate.low is None else rate.low, np.nan if rate.high is None else rate.high


# --- against other implementations ----------------------------------------------------------------


@cases
def test_ranking_figures_equal_scikit_learn(y, p):
    assert value(metrics.roc_auc, y, p) == pytest.approx(oracle.roc_auc_score(y, p))
    assert value(metrics.average_precision, y, p) == pytest.approx(oracle.average_precision_score(y, p))
    assert value(metrics.brier, y, p) == pytest.approx(oracle.brier_score_loss(y, p))


@cases
@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 1.0])
def test_confusion_and_rates_equal_scikit_learn(y, p, threshold):
    flagged = (p >= threshold).astype(int)
    assert metrics.confusion_at(y, p, threshold).tolist() == oracle.confusion_matrix(y, flagged, labels=[0, 1]).tolist()
    rates = metrics.rates_at(y, p, threshold)
    assert rates["accuracy"].value == pytest.approx(oracle.accuracy_score(y, flagged))
    assert rates["recall"].value == pytest.approx(oracle.recall_score(y, flagged))
    assert rates["specificity"].value == pytest.approx(oracle.recall_score(y, flagged, pos_label=0))
    assert rates["fpr"].value == pytest.approx(1 - figure(rates["specificity"])[0])
    if flagged.any():
        assert rates["precision"].value == pytest.approx(oracle.precision_score(y, flagged))
    else:
        assert (rates["precision"].value, rates["precision"].reason) == (None, "no image was flagged")


@cases
def test_roc_curve_equals_scikit_learn(y, p):
    fpr, tpr, thresholds = oracle.roc_curve(y, p, drop_intermediate=False)
    frame = metrics.roc_frame(y, p)
    np.testing.assert_allclose(frame[["fpr", "tpr", "threshold"]], np.column_stack([fpr, tpr, thresholds]))


@cases
def test_precision_recall_curve_equals_scikit_learn(y, p):
    precision, recall, thresholds = oracle.precision_recall_curve(y, p)
    frame = metrics.pr_frame(y, p).iloc[::-1]
    expected = np.column_stack([precision[:-1], recall[:-1], thresholds])  # its last point is invented
    np.testing.assert_allclose(frame[["precision", "recall", "threshold"]], expected)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 200), st.integers(1, 200))
def test_wilson_equals_scipy(successes, more):
    trials = successes + more - 1
    if trials == 0:
        assert metrics.wilson(0, 0).value is None
        return
    expected = binomtest(successes, trials).proportion_ci(0.95, "wilson")
    share, low, high = figure(metrics.wilson(successes, trials))
    assert low == pytest.approx(expected.low, abs=1e-12)
    assert high == pytest.approx(expected.high, abs=1e-12)
    assert 0 <= low <= share <= high <= 1


@settings(deadline=None, max_examples=60)
@given(labelled_scores())
def test_ranking_figures_equal_scikit_learn_on_anything(data):
    y, p = data
    assert value(metrics.roc_auc, y, p) == pytest.approx(oracle.roc_auc_score(y, p))
    assert value(metrics.average_precision, y, p) == pytest.approx(oracle.average_precision_score(y, p))


# --- definitions, by the slowest possible reading -------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(labelled_scores(), st.sampled_from([0.005, 0.01, 0.1, 0.25, 0.5]))
def test_tpr_at_fpr_is_the_best_threshold_that_keeps_the_promise(data, target):
    y, p = data
    best, lowest = 0.0, None
    for threshold in sorted(set(p), reverse=True):
        rates = metrics.rates_at(y, p, threshold)
        if figure(rates["fpr"])[0] <= target:
            best, lowest = max(best, figure(rates["recall"])[0]), threshold
    assert value(metrics.tpr_at_fpr, y, p, target=target) == pytest.approx(best)
    assert metrics.threshold_at_fpr(y, p, target=target) == lowest


@settings(deadline=None, max_examples=60)
@given(labelled_scores())
def test_eer_lies_on_the_curve_where_both_errors_are_equal(data):
    y, p = data
    frame = metrics.roc_frame(y, p)
    rate = value(metrics.eer, y, p)
    # Along the ROC polyline, walked by fpr - fnr, which never falls.
    walk = frame["fpr"] - (1 - frame["tpr"])
    assert rate == pytest.approx(np.interp(0, walk, frame["fpr"]))
    assert rate == pytest.approx(1 - np.interp(0, walk, frame["tpr"]))


@settings(deadline=None, max_examples=60)
@given(labelled_scores(both=False), st.sampled_from([0.3, 0.5, 0.9]))
def test_aurc_is_the_mean_error_of_the_most_certain(data, threshold):
    y, p = data
    certainty = [(s - threshold) / (1 - threshold) if s >= threshold else (threshold - s) / threshold for s in p]
    risks = []
    for level in certainty:
        kept = [index for index, own in enumerate(certainty) if own >= level]
        risks.append(np.mean([(p[index] >= threshold) != y[index] for index in kept]))
    assert value(metrics.aurc, y, p, threshold=threshold) == pytest.approx(np.mean(risks))


@settings(deadline=None, max_examples=60)
@given(labelled_scores(both=False), st.sampled_from([3, 15]))
def test_ece_is_that_of_its_reliability_frame(data, bins):
    y, p = data
    frame = metrics.reliability_frame(y, p, bins=bins)
    assert frame["images"].sum() == len(y)
    gap = (frame["images"] * (frame["fake_share"] - frame["mean_score"]).abs()).sum() / len(y)
    assert value(metrics.ece, y, p, bins=bins) == pytest.approx(gap)


def test_bins_have_equal_mass_when_scores_differ():
    y, p = sample(150)
    assert metrics.reliability_frame(y, p, bins=15)["images"].tolist() == [10] * 15


def test_accuracy_at_full_coverage_is_accuracy():
    y, p = sample()
    full = value(metrics.accuracy_at_coverage, y, p, coverage=1.0)
    assert full == pytest.approx(metrics.rates_at(y, p, 0.5)["accuracy"].value)
    frame = metrics.risk_coverage_frame(y, p)
    assert frame["coverage"].iloc[-1] == 1
    assert full == pytest.approx(1 - frame["risk"].iloc[-1])
    assert value(metrics.accuracy_at_coverage, y, p, coverage=0.5) > full


# --- laws -----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(labelled_scores(), st.randoms(use_true_random=False))
def test_order_of_the_images_does_not_matter(data, random):
    y, p = data
    order = list(range(len(y)))
    random.shuffle(order)
    for name in FIGURES:
        function = getattr(metrics, name)
        assert value(function, y[order], p[order]) == pytest.approx(value(function, y, p)), name


@settings(deadline=None, max_examples=40)
@given(labelled_scores())
def test_swapping_the_classes_mirrors_the_ranking(data):
    y, p = data
    assert value(metrics.roc_auc, 1 - y, 1 - p) == pytest.approx(value(metrics.roc_auc, y, p))
    assert value(metrics.eer, 1 - y, 1 - p) == pytest.approx(value(metrics.eer, y, p))
    assert value(metrics.brier, 1 - y, 1 - p) == pytest.approx(value(metrics.brier, y, p))


@settings(deadline=None, max_examples=40)
@given(labelled_scores())
def test_intervals_hold_their_figure_and_stay_in_range(data):
    y, p = data
    for name in FIGURES:
        rate = getattr(metrics, name)(y, p, resamples=30)
        assert 0 <= rate.value <= 1
        if rate.low is None:
            assert "single image" in rate.reason
        else:
            assert 0 <= rate.low <= rate.value <= rate.high <= 1 + 1e-12


@settings(deadline=None, max_examples=60)
@given(labelled_scores(both=False, min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_never_flags_more(data, one, other):
    low, high = sorted((one, other))
    y, p = data
    assert (metrics.confusion_at(y, p, high)[:, 1] <= metrics.confusion_at(y, p, low)[:, 1]).all()


# --- intervals ------------------------------------------------------------------------------------


def test_the_bootstrap_agrees_with_the_analytic_error_of_the_auc():
    y, p = sample(800, seed=3)
    _, low, high = figure(metrics.roc_auc(y, p))
    real, fake = p[y == 0], p[y == 1]
    wins = (fake[:, None] > real).astype(float) + 0.5 * (fake[:, None] == real)
    error = np.sqrt(wins.mean(axis=1).var(ddof=1) / len(fake) + wins.mean(axis=0).var(ddof=1) / len(real))  # DeLong
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)


def test_intervals_cover_the_truth_about_as_often_as_promised():
    # Scores uniform on [0, 1] for real and the larger of two uniforms for fake: AUC is 2/3.
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(100):
        p = np.concatenate([rng.random(120), rng.random((120, 2)).max(axis=1)])
        _, low, high = figure(metrics.roc_auc(np.repeat([0, 1], 120), p, resamples=200, seed=seed))
        hits += low <= 2 / 3 <= high
    assert 88 <= hits <= 100


def test_the_seed_decides_the_interval_and_never_the_figure():
    y, p = sample()
    one, same, other = (metrics.eer(y, p, resamples=100, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.value == other.value
    assert (one.low, one.high) != (other.low, other.high)


def test_chunks_do_not_change_the_figure(monkeypatch):
    y, p = sample()
    whole = metrics.roc_auc(y, p, resamples=300)
    monkeypatch.setattr("model.metrics._statistics._CELLS", 1000)
    parts = metrics.roc_auc(y, p, resamples=300)
    assert parts.value == whole.value
    assert parts.low == pytest.approx(whole.low, abs=0.02)


# --- what is undefined ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOTH_CLASSES)
@pytest.mark.parametrize(
    ("y", "reason"), [([0, 0, 0], "no fake images"), ([1, 1, 1], "no real images"), ([], "no images")]
)
def test_ranking_one_class_is_undefined_with_a_reason(name, y, reason):
    rate = getattr(metrics, name)(y, [0.5] * len(y))
    assert rate.to_dict() == {"value": None, "low": None, "high": None, "reason": reason}


@pytest.mark.parametrize("name", sorted(set(FIGURES) - set(BOTH_CLASSES)))
def test_other_figures_need_any_image(name):
    assert getattr(metrics, name)([1, 1, 1], [0.4, 0.5, 0.6]).value is not None
    assert getattr(metrics, name)([], []).reason == "no images"


def test_a_single_image_of_a_class_has_figures_without_interval():
    rate = metrics.roc_auc([0, 1, 1], [0.1, 0.2, 0.3])
    assert (rate.value, rate.low, rate.high) == (1.0, None, None)
    assert "single image" in rate.reason


def test_empty_curves_are_empty_frames():
    assert metrics.roc_frame([1, 1], [0.1, 0.2]).empty
    assert metrics.pr_frame([0, 0], [0.1, 0.2]).empty
    for function in (metrics.roc_frame, metrics.pr_frame, metrics.reliability_frame, metrics.risk_coverage_frame):
        assert function([], []).empty
    assert metrics.confusion_at([], [], 0.5).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        ([0, 1], [0.1, np.nan], "1 of 2 scores are NaN"),
        ([0, 1], [0.1, 1.5], r"p holds 1\.5"),
        ([0, 1], [-0.1, 0.5], r"p holds -0\.1"),
        ([0, 2], [0.1, 0.5], r"y holds \[2\]"),
        ([0, 1], [0.1], r"\(2,\) and \(1,\)"),
        ([[0, 1]], [[0.1, 0.2]], r"\(1, 2\)"),
        (["real", "fake"], [0.1, 0.2], "y holds"),
    ],
)
def test_bad_input_is_quoted(y, p, message):
    for function in (metrics.roc_auc, metrics.ece, metrics.roc_frame, metrics.reliability_frame):
        with pytest.raises(ValueError, match=message):
            function(y, p)


def test_thin_keeps_the_ends():
    frame = metrics.roc_frame(*sample(5000))
    small = metrics.thin(frame, 100)
    assert len(small) == 100
    assert small.iloc[[0, -1]].values.tolist() == frame.iloc[[0, -1]].values.tolist()
    assert metrics.thin(small, 100) is small
    with pytest.raises(ValueError, match="not 1"):
        metrics.thin(frame, 1)


# --- evaluate -------------------------------------------------------------------------------------


def predictions(n=400, seed=0):
    y, p = sample(n, seed)
    verdict = np.where(p >= 0.6, "fake", np.where(p <= 0.3, "real", "inconclusive"))
    group = np.where(y == 1, np.where(np.arange(n) % 3 == 0, "gan", "diffusion"), np.where(p > 0.3, "phone", "studio"))
    return pd.DataFrame(
        {
            "path": [f"{index:04}.jpg" for index in range(n)],
            "face": pd.array([0] * n, dtype="Int64"),
            "p_fake": p,
            "verdict": pd.array(verdict, dtype="string"),
            "threshold_real": 0.3,
            "threshold_fake": 0.6,
            "checkpoint": "c",
            "label": pd.array(y, dtype="Int64"),
            "error": pd.array([pd.NA] * n, dtype="string"),
            "group": group,
        }
    )


def rates_in(node, path=""):
    if isinstance(node, dict) and {"value", "low", "high"} <= set(node):
        yield path, node
    elif isinstance(node, dict):
        for key, child in node.items():
            yield from rates_in(child, f"{path}/{key}")


def test_evaluate_gives_every_figure_of_the_format_as_json():
    found = metrics.evaluate(predictions(), resamples=50)
    counts = {"n", "n_real", "n_fake", "abstained", "errors", "threshold", "confusion_matrix"}
    rates = {"accuracy", "balanced_accuracy", "precision", "recall", "f1", "specificity"}
    scores = {"roc_auc", "average_precision", "eer", "tpr_at_fpr", "ece", "brier", "aurc"}
    assert counts | rates | scores | {"groups", "audit", "protocol"} <= set(found)
    assert set(found["tpr_at_fpr"]) == {"0.01", "0.005"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    everything = dict(rates_in(found))
    assert len(everything) > 40
    for path, rate in everything.items():
        assert rate["low"] <= rate["value"] <= rate["high"], path


def test_evaluate_agrees_with_the_array_functions_and_scikit_learn():
    frame = predictions()
    y, p = frame["label"].to_numpy(int), frame["p_fake"].to_numpy()
    found = metrics.evaluate(frame, resamples=100, seed=7)
    assert found["threshold"] == 0.6
    assert found["confusion_matrix"] == oracle.confusion_matrix(y, p >= 0.6).tolist()
    assert found["f1"]["value"] == pytest.approx(oracle.f1_score(y, p >= 0.6))
    assert found["balanced_accuracy"]["value"] == pytest.approx(oracle.balanced_accuracy_score(y, p >= 0.6))
    assert found["roc_auc"] == metrics.roc_auc(y, p, resamples=100, seed=7).to_dict()
    assert found["protocol"]["seed"] == 7
    for target in ("0.01", "0.005"):
        point = metrics.rates_at(y, p, found["tpr_at_fpr"][target]["threshold"])
        assert figure(point["fpr"])[0] <= float(target)
        assert point["recall"].value == found["tpr_at_fpr"][target]["value"]


def test_groups_of_fakes_are_ranked_against_all_reals():
    frame = predictions()
    found = metrics.evaluate(frame, resamples=200)
    y, p, group = frame["label"].to_numpy(int), frame["p_fake"].to_numpy(), frame["group"].to_numpy()
    for name in ("gan", "diffusion"):
        entry = found["groups"][name]
        against = (y == 0) | (group == name)
        alone = metrics.roc_auc(y[against], p[against], resamples=200)
        assert entry["label"] == "fake"
        assert entry["n"] == (group == name).sum()
        assert entry["roc_auc"]["value"] == pytest.approx(alone.value)
        assert entry["roc_auc"]["low"] == pytest.approx(alone.low, abs=0.03)
        assert entry["recall"]["value"] == pytest.approx((p[group == name] >= 0.6).mean())
        expected = value(metrics.tpr_at_fpr, y[against], p[against], target=0.01)
        assert entry["tpr_at_fpr"]["0.01"]["value"] == pytest.approx(expected)
        assert "fpr" not in entry
    for name in ("phone", "studio"):
        assert found["groups"][name]["fpr"]["value"] == pytest.approx((p[(group == name)] >= 0.6).mean())
        assert "roc_auc" not in found["groups"][name]
    over = found["over_groups"]
    recalls = {name: found["groups"][name]["recall"]["value"] for name in ("gan", "diffusion")}
    assert over["recall"]["min"]["group"] == min(recalls, key=lambda name: recalls[name])
    assert over["recall"]["mean"]["value"] == pytest.approx(np.mean(list(recalls.values())))
    assert over["fpr"]["max"]["group"] == "phone"


def test_images_without_a_score_are_counted_and_in_no_rate():
    frame = predictions(100)
    whole = metrics.evaluate(frame.iloc[5:], resamples=20)
    frame.loc[0:1, ["verdict", "p_fake"]] = ["not_applicable", np.nan]
    frame.loc[2, ["verdict", "p_fake", "error"]] = ["not_applicable", np.nan, "truncated"]
    frame.loc[3, ["verdict", "p_fake"]] = ["not_applicable", 0.99]  # a score that the detector disowns
    frame.loc[4, ["verdict", "p_fake"]] = ["fake", np.nan]
    found = metrics.evaluate(frame, resamples=20)
    assert (found["images"], found["n"]) == (100, 95)
    assert (found["not_applicable"], found["errors"], found["unscored"]) == (3, 1, 1)
    assert found["abstained"] == found["inconclusive"] + 3
    for name in ("confusion_matrix", "roc_auc", "accuracy", "ece"):
        assert found[name] == whole[name]
    assert sum(sum(row.values()) for row in found["outcomes"].values()) == 100
    assert found["outcomes"]["fake"]["error"] + found["outcomes"]["real"]["error"] == 1


def test_outcomes_and_decided_rates_follow_the_verdicts():
    frame = predictions()
    found = metrics.evaluate(frame, resamples=20)
    table = pd.crosstab(frame["label"].astype(int), frame["verdict"].astype(str))
    for label, name in enumerate(("real", "fake")):
        for kind in ("real", "fake", "inconclusive"):
            assert found["outcomes"][name][kind] == table.loc[label, kind]
    decided = frame[frame["verdict"] != "inconclusive"]
    right = (decided["verdict"] == "fake") == (decided["label"] == 1)
    assert found["decided"]["n"] == len(decided)
    assert found["decided"]["accuracy"]["value"] == pytest.approx(right.mean())
    assert found["coverage"]["value"] == pytest.approx(len(decided) / len(frame))


def test_an_image_counts_once_with_its_most_fake_usable_face():
    faces = pd.DataFrame(
        {
            "path": ["b", "b", "b", "a", "c", "c"],
            "face": [0, 1, 2, 0, 0, 1],
            "p_fake": [0.2, 0.7, 0.9, 0.1, np.nan, 0.3],
            "verdict": ["real", "fake", "not_applicable", "real", "not_applicable", "inconclusive"],
            "label": [1, 1, 1, 0, 0, 0],
        }
    )
    images = metrics.image_level(faces)
    assert images["path"].tolist() == ["b", "a", "c"]
    assert images["face"].tolist() == [1, 0, 1]
    assert metrics.evaluate(faces, resamples=5)["n"] == 3
    pd.testing.assert_frame_equal(metrics.image_level(images), images)


def test_words_are_accepted_as_labels():
    frame = predictions(60)
    words = frame.assign(label=["fake" if label else "real" for label in frame["label"]])
    assert metrics.evaluate(words, resamples=5) == metrics.evaluate(frame, resamples=5)


def test_threshold_is_the_one_of_the_results_unless_stated():
    frame = predictions(60)
    assert metrics.evaluate(frame, threshold=0.25, resamples=5)["threshold"] == 0.25
    without = frame.drop(columns="threshold_fake")
    assert metrics.evaluate(without, resamples=5)["protocol"]["threshold_origin"] == "default"
    frame.loc[0, "threshold_fake"] = 0.9
    with pytest.raises(ValueError, match="2 different thresholds"):
        metrics.evaluate(frame)
    with pytest.raises(ValueError, match=r"not 1\.5"):
        metrics.evaluate(frame, threshold=1.5)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_is_evaluated_as_far_as_it_goes(label):
    frame = predictions()
    found = metrics.evaluate(frame[frame["label"] == label], resamples=20)
    json.dumps(found, allow_nan=False)
    missing = ("no fake images", "no real images")[label]
    for name in ("roc_auc", "average_precision", "eer", "balanced_accuracy"):
        assert found[name]["value"] is None
        assert found[name]["reason"] == missing
    assert (found["fpr"]["value"] is None) == (label == 1)
    assert (found["f1"]["value"] is None) == (label == 0)
    assert found["brier"]["value"] is not None


def test_a_set_without_any_score_has_no_figure_at_all():
    frame = predictions(10).assign(verdict="not_applicable", p_fake=np.nan)
    found = metrics.evaluate(frame)
    json.dumps(found, allow_nan=False)
    assert found["n"] == 0
    assert {path for path, rate in rates_in(found) if rate["value"] is not None} == {"/coverage"}
    assert found["groups"]["gan"]["not_applicable"] == found["groups"]["gan"]["images"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="label"), "lack the columns label"),
        (lambda frame: frame.assign(label=pd.NA), "10 images have no known label, the first is 0000"),
        (lambda frame: frame.assign(verdict="perhaps"), "verdict 'perhaps' is not known"),
        (lambda frame: frame.assign(p_fake=7.0), r"p holds 7\.0"),
    ],
)
def test_results_that_cannot_be_evaluated_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        metrics.evaluate(change(predictions(10)))


def test_grouping_by_another_column_and_by_none():
    frame = predictions(60).assign(skin=lambda data: np.where(data.index % 2, "dark", "light"))
    found = metrics.evaluate(frame, group_by="skin", resamples=20)
    assert {name: entry["label"] for name, entry in found["groups"].items()} == {"dark": "both", "light": "both"}
    assert {"recall", "fpr", "roc_auc"} <= set(found["groups"]["dark"])
    with pytest.raises(ValueError, match="no column 'age'"):
        metrics.evaluate(frame, group_by="age")
    assert metrics.evaluate(frame.drop(columns="group"), resamples=5)["groups"] == {}
    assert metrics.evaluate(frame.assign(group=""), resamples=5)["groups"] == {}


def test_too_few_reals_for_a_target_is_noted():
    found = metrics.evaluate(predictions(100), resamples=20)["tpr_at_fpr"]["0.005"]
    assert found["note"].startswith("50 real images are too few")


def test_two_thousand_images_take_less_than_three_seconds():
    frame = predictions(2000)
    start = time.process_time()
    metrics.evaluate(frame)
    assert time.process_time() - start < 3
