"""Figures at a threshold that moves: equal to slow independent readings, with intervals that keep their promise."""

from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics as oracle

from model import metrics
from model.metrics._rate import Rate, combined, ratio
from tests.unit.test_metrics import figure, labelled_scores, predictions, sample

thresholds = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
prevalences = st.sampled_from([0.001, 0.2, 0.5, 0.9])


def counts(y, p, threshold):
    return [int(n) for n in oracle.confusion_matrix(y, p >= threshold, labels=[0, 1]).ravel()]


# --- values ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(labelled_scores(both=False, min_size=1), thresholds)
def test_rates_equal_scikit_learn_or_are_undefined_with_a_reason(data, threshold):
    y, p = data
    tn, fp, fn, tp = counts(y, p, threshold)
    rates = metrics.Scored(y, p).rates(threshold)
    expected = {
        "accuracy": (tn + tp, len(y)),
        "recall": (tp, tp + fn),
        "fpr": (fp, fp + tn),
        "specificity": (tn, fp + tn),
        "precision": (tp, tp + fp),
    }
    for name, (hits, base) in expected.items():
        assert rates[name].value == (pytest.approx(hits / base) if base else None), name
        assert bool(rates[name].reason) == (base == 0)
    if tp + fn:
        assert rates["f1"].value == pytest.approx(oracle.f1_score(y, p >= threshold, zero_division=0))
    else:
        assert rates["f1"].value is None
    if tp + fn and fp + tn:
        assert rates["balanced_accuracy"].value == pytest.approx(oracle.balanced_accuracy_score(y, p >= threshold))
    else:
        assert rates["balanced_accuracy"].value is None
    for rate in rates.values():
        if rate.value is not None:
            _, low, high = figure(rate)
            assert -1e-12 <= low <= rate.value + 1e-12 <= high + 2e-12 <= 1 + 3e-12


@settings(deadline=None, max_examples=80)
@given(labelled_scores(), thresholds, prevalences)
def test_predictive_values_are_precision_in_a_weighted_set(data, threshold, prevalence):
    y, p = data
    weights = np.where(y == 1, prevalence / (y == 1).sum(), (1 - prevalence) / (y == 0).sum())
    values = metrics.Scored(y, p).predictive_values(threshold, prevalence)
    flagged = p >= threshold
    if flagged.any():
        expected = oracle.precision_score(y, flagged, sample_weight=weights, zero_division=0)
        assert values["ppv"].value == pytest.approx(expected)
    else:
        assert (values["ppv"].value, values["ppv"].reason) == (None, "no image was flagged")
    if not flagged.all():
        expected = oracle.precision_score(1 - y, ~flagged, sample_weight=weights, zero_division=0)
        assert values["npv"].value == pytest.approx(expected)
    else:
        assert (values["npv"].value, values["npv"].reason) == (None, "every image was flagged")
    for rate in values.values():
        if rate.value is not None:
            assert 0 <= rate.low <= rate.value + 1e-12 <= rate.high + 2e-12 <= 1 + 3e-12


@settings(deadline=None, max_examples=60)
@given(labelled_scores(), thresholds)
def test_likelihood_ratios_equal_scikit_learn(data, threshold):
    y, p = data
    flagged = p >= threshold
    tn, fp, fn, tp = counts(y, p, threshold)
    ratios = metrics.Scored(y, p).likelihood_ratios(threshold)
    if fp and tn:
        positive, negative = oracle.class_likelihood_ratios(y, flagged)
        assert ratios["flagged"].value == pytest.approx(positive)
        assert ratios["not_flagged"].value == pytest.approx(negative)
    elif not fp:
        assert ratios["flagged"].value is None
        assert "infinite" in ratios["flagged"].reason if tp else "both rates are 0" in ratios["flagged"].reason


@settings(deadline=None, max_examples=60)
@given(labelled_scores(), prevalences, st.sampled_from([(1, 1), (0, 1), (3, 0), (1, 50)]))
def test_the_lowest_cost_is_that_of_the_best_threshold(data, prevalence, pair):
    y, p = data
    costs = metrics.Costs(*pair, prevalence)
    lowest, at = np.inf, None
    for threshold in [np.inf, *sorted(set(p), reverse=True)]:
        tn, fp, fn, tp = counts(y, p, threshold)
        cost = pair[0] * (1 - prevalence) * fp / (fp + tn) + pair[1] * prevalence * fn / (fn + tp)
        if cost < lowest - 1e-12:
            lowest, at = cost, threshold
    scored = metrics.Scored(y, p, resamples=20)
    found = scored.cost(0.5, costs)
    assert found["lowest"]["value"] == pytest.approx(lowest)
    if at == np.inf:
        assert found["lowest"]["threshold"] is None
    else:
        assert scored.cost(found["lowest"]["threshold"], costs)["at_threshold"]["value"] == pytest.approx(lowest)
    assert metrics.cost_frame(y, p, costs)["cost"].min() == pytest.approx(lowest)
    assert found["at_threshold"]["value"] >= lowest - 1e-12


@settings(deadline=None, max_examples=30)
@given(labelled_scores())
def test_the_cost_curve_is_the_lower_envelope_of_all_lines(data):
    y, p = data
    frame = metrics.roc_frame(y, p)
    curve = metrics.cost_curve_frame(y, p, points=11)
    for row in curve.itertuples():
        lines = (1 - frame["tpr"]) * row.probability_cost + frame["fpr"] * (1 - row.probability_cost)
        assert row.lowest == pytest.approx(lines.min())
        assert row.lowest <= row.trivial + 1e-12
        tn, fp, fn, tp = counts(y, p, row.threshold)
        reached = fn / (fn + tp) * row.probability_cost + fp / (fp + tn) * (1 - row.probability_cost)
        assert reached == pytest.approx(row.lowest)


@settings(deadline=None, max_examples=40)
@given(labelled_scores())
def test_the_detection_error_tradeoff_equals_scikit_learn(data):
    y, p = data
    frame = metrics.det_frame(y, p)
    fpr, fnr, cuts = oracle.det_curve(y, p, drop_intermediate=False)
    rows = frame.set_index("threshold")
    finite = np.isfinite(cuts)
    np.testing.assert_allclose(rows.loc[cuts[finite], ["fpr", "fnr"]], np.column_stack([fpr, fnr])[finite])
    inside = frame[(frame["fpr"] > 0) & (frame["fpr"] < 1)]
    np.testing.assert_allclose(norm.cdf(inside["fpr_deviate"]), inside["fpr"])


def test_images_without_a_score_are_never_covered():
    y, p = sample()
    frame = metrics.risk_coverage_frame(y, p, unscored=100)
    assert frame["coverage"].iloc[-1] == 0.75
    assert frame["risk"].tolist() == metrics.risk_coverage_frame(y, p)["risk"].tolist()


# --- intervals ------------------------------------------------------------------------------------


def binomial(hits, size):
    return metrics.wilson(int(hits), size)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 49), st.integers(1, 29))
def test_the_interval_of_a_ratio_turns_over_with_it(a, b):
    one, other = binomial(a, 50), binomial(b, 30)
    up, down = figure(ratio(one, other)), figure(ratio(other, one))
    assert up[0] * down[0] == pytest.approx(1)
    assert (up[1] * down[2], up[2] * down[1]) == (pytest.approx(1), pytest.approx(1))


def test_recovered_intervals_cover_the_truth_about_as_often_as_promised():
    rng = np.random.default_rng(0)
    truth = {"ppv": 0.05 * 0.8 / (0.05 * 0.8 + 0.95 * 0.1), "flagged": 8.0, "balanced_accuracy": 0.85, "cost": 0.295}
    truth["f1"] = 2 * 0.8 / (0.8 + 1 + 2 * 0.1)
    hits = dict.fromkeys(truth, 0)
    y = np.repeat([0, 1], [200, 100])
    for _ in range(300):
        p = np.concatenate([rng.random(200) < 0.1, rng.random(100) < 0.8]).astype(float)
        scored = metrics.Scored(y, p)
        found = {name: rate.to_dict() for name, rate in scored.rates(0.5).items()}
        found |= {name: rate.to_dict() for name, rate in scored.predictive_values(0.5, 0.05).items()}
        found |= {name: rate.to_dict() for name, rate in scored.likelihood_ratios(0.5).items()}
        errors = scored.rates(0.5)
        cost = combined([(0.95, errors["fpr"]), (1.0, Rate(1 - errors["recall"].value, 1 - errors["recall"].high,
                                                           1 - errors["recall"].low, ""))])  # fmt: skip
        found["cost"] = cost.to_dict()
        for name, value in truth.items():
            hits[name] += found[name]["low"] <= value <= found[name]["high"]
    assert all(0.91 <= count / 300 <= 0.99 for count in hits.values()), hits


def test_the_interval_of_the_lowest_cost_is_that_of_a_plain_bootstrap():
    y, p = sample(300, seed=5)
    costs = metrics.Costs(1, 3, 0.3)
    found = metrics.Scored(y, p).cost(0.5, costs)["lowest"]
    rng = np.random.default_rng(9)
    real, fake = p[y == 0], p[y == 1]
    draws = []
    for _ in range(400):
        drawn = np.concatenate([rng.choice(real, len(real)), rng.choice(fake, len(fake))])
        labels = np.repeat([0, 1], [len(real), len(fake)])
        draws.append(metrics.cost_frame(labels, drawn, costs)["cost"].min())
    assert found["low"] == pytest.approx(np.percentile(draws, 2.5), abs=0.012)
    assert found["high"] == pytest.approx(max(np.percentile(draws, 97.5), found["value"]), abs=0.012)


def test_an_infinite_ratio_has_a_lower_limit_and_a_sure_prediction_an_interval():
    scored = metrics.Scored([0] * 50 + [1] * 50, [0.1] * 50 + [0.9] * 50)
    flagged = scored.likelihood_ratios(0.5)["flagged"]
    assert (flagged.value, flagged.high) == (None, None)
    assert flagged.low == pytest.approx(metrics.wilson(50, 50).low / metrics.wilson(0, 50).high, rel=0.1)
    ppv = scored.predictive_values(0.5, 0.01)["ppv"]
    assert ppv.value == 1
    assert 0.05 < ppv.low < 0.5  # fifty photographs say little about one in a hundred


# --- what is undefined, and bad input -------------------------------------------------------------


@pytest.mark.parametrize("y", [[], [0], [1, 1], [0, 0, 0]])
def test_a_missing_class_leaves_undefined_what_needs_it(y):
    scored = metrics.Scored(y, [0.4] * len(y), columns={"kind": ["a"] * len(y)})
    found = scored.at(0.5)
    json.dumps(found, allow_nan=False)
    for entry in (found["ppv"], found["npv"], found["cost"]["lowest"], found["likelihood_ratio"]["flagged"]):
        assert entry["value"] is None
        assert entry["reason"]
    found = scored.at(0.5, metrics.Costs(1, 1, 0.5))
    assert found["ppv"]["value"] is found["cost"]["at_threshold"]["value"] is None
    assert len(scored.group_frame(0.5, "kind")) == bool(y)


def test_three_images_have_figures_and_wide_intervals():
    scored = metrics.Scored([0, 0, 1], [0.1, 0.2, 0.9])
    rate = scored.rates(0.5)["recall"]
    assert rate.value == 1
    assert rate.low < 0.25
    assert "single image" in scored.cost(0.5, metrics.Costs(1, 1, 0.5))["lowest"]["reason"]


def test_impossible_costs_and_prevalences_are_refused():
    for prevalence in (0, 1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="prevalence"):
            metrics.Costs(1, 1, prevalence)
        with pytest.raises(ValueError, match="prevalence"):
            metrics.Scored([0, 1], [0, 1]).predictive_values(0.5, prevalence)
    for pair in ((-1, 1), (0, 0), (float("inf"), 1)):
        with pytest.raises(ValueError, match="Costs"):
            metrics.Costs(*pair, 0.5)
    with pytest.raises(ValueError, match="scores are NaN"):
        metrics.Scored([0, 1], [0.1, np.nan])
    with pytest.raises(ValueError, match=r"shape \(2,\), but is \(1,\)"):
        metrics.Scored([0, 1], [0.1, 0.2], clusters=[0])


# --- the whole ------------------------------------------------------------------------------------


def test_the_screen_and_the_file_show_the_same_figures():
    frame = predictions().assign(source=lambda data: np.where(data.index % 2, "web", "studio"))
    frame.loc[3, ["verdict", "p_fake"]] = ["not_applicable", np.nan]
    scored = metrics.Scored.from_results(frame, group_by=["group", "source"], resamples=50)
    assert (len(scored), scored.unscored) == (399, 1)
    assert scored.images["p_fake"].tolist() == scored.p.tolist()
    for threshold in (0.35, 0.6):
        full = metrics.evaluate(
            frame, threshold=threshold, group_by=["group", "source"], prevalence=0.1, cost_fn=5, resamples=50
        )
        here = scored.at(threshold, metrics.Costs(1, 5, 0.1))
        assert {name: full[name] for name in here} == here
        for column in ("group", "source"):
            groups, over = scored.groups(threshold, column)
            for name, entry in groups.items():
                assert {key: full["by_column"][column]["groups"][name][key] for key in entry} == entry
            assert {key: full["by_column"][column]["over_groups"][key] for key in over} == over
    assert full["groups"] == full["by_column"]["group"]["groups"]


def test_groups_of_any_column_have_their_own_rates():
    frame = predictions().assign(camera=lambda data: np.where(data.index % 3, "phone", "compact"))
    scored = metrics.Scored.from_results(frame, group_by="camera")
    table = scored.group_frame(0.6, "camera").set_index("group")
    for name, own in frame.groupby("camera"):
        y, flagged = own["label"].to_numpy(int), own["p_fake"].to_numpy() >= 0.6
        assert table.loc[name, "recall"] == pytest.approx(oracle.recall_score(y, flagged))
        assert table.loc[name, "fpr"] == pytest.approx(1 - oracle.recall_score(y, flagged, pos_label=0))
        assert table.loc[name, "accuracy"] == pytest.approx(oracle.accuracy_score(y, flagged))
    _, over = scored.groups(0.6, "camera")
    assert over["recall"]["min"]["value"] == table["recall"].min()
    assert over["fpr"]["max"]["group"] == table["fpr"].idxmax()
    assert over["fpr"]["gap"]["value"] == pytest.approx(table["fpr"].max() - table["fpr"].min())
    assert over["fpr"]["gap"]["low"] < over["fpr"]["gap"]["value"] < over["fpr"]["gap"]["high"]


def test_verdicts_have_likelihood_ratios():
    frame = predictions()
    found = metrics.evaluate(frame, resamples=5)["likelihood_ratios"]
    shares = pd.crosstab(frame["verdict"], frame["label"], normalize="columns")
    for verdict in ("fake", "inconclusive", "real"):
        assert found[verdict]["value"] == pytest.approx(shares.loc[verdict, 1] / shares.loc[verdict, 0])
        assert found[verdict]["low"] < found[verdict]["value"] < found[verdict]["high"]


def test_more_groups_than_can_be_ranked_still_have_rates():
    frame = predictions().assign(group=lambda data: [f"person {index}" for index in data.index])
    found = metrics.evaluate(frame, resamples=5)
    entry = next(entry for entry in found["groups"].values() if entry["label"] == "fake")
    assert entry["recall"]["value"] in (0, 1)
    assert entry["roc_auc"]["reason"] == "more than 200 groups"


def test_a_moved_threshold_takes_less_than_a_fifth_of_a_second_with_100_000_images():
    rng = np.random.default_rng(0)
    n = 100_000
    y = (np.arange(n) < n / 2).astype(int)
    p = np.clip(rng.normal(0.35 + 0.3 * y, 0.2), 0, 1)
    columns = {"group": rng.integers(0, 50, n).astype(str)}
    for clusters in (None, rng.integers(0, 20_000, n)):
        scored = metrics.Scored(y, p, columns=columns, clusters=clusters)
        scored.at(0.5)  # the one bootstrap
        start = time.process_time()
        for threshold in (0.3, 0.4, 0.5, 0.6, 0.7):
            scored.at(threshold, metrics.Costs(1, 10, 0.01))
            scored.groups(threshold, "group")
        assert (time.process_time() - start) / 5 < 0.2
