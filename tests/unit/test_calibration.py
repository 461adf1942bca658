import hashlib
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from dashboard import cli
from model.calibration import FAKE, INCONCLUSIVE, REAL, Calibration, Thresholds, verdict
from model.checkpoint import read_info, rewrite
from model.dataset import load_labelled
from model.detector import Detector
from model.metrics import ece, wilson
from model.tiers import TIERS, tier
from model.training.calibrate import (
    CalibrationError,
    balanced_ece,
    fit_calibration,
    fit_thresholds,
    for_unseen,
    probabilities,
    recalibrate,
    unseen_entries,
    unseen_error_table,
)
from tests.support import encode

probability = st.floats(0, 1)
any_logit = st.floats(allow_nan=False)
calibrations = st.builds(Calibration, temperature=st.floats(1e-3, 1e3), bias=st.floats(-50, 50))


@given(any_logit, calibrations)
def test_a_probability_is_finite_and_between_0_and_1_for_any_logit(logit, calibration):
    assert 0 <= calibration.probability(logit) <= 1


@given(any_logit, any_logit, calibrations)
def test_more_evidence_never_lowers_the_probability(one, other, calibration):
    low, high = sorted((one, other))
    assert calibration.probability(low) <= calibration.probability(high) + 1e-15


@given(st.floats(-30, 30))
def test_without_calibration_it_is_the_logistic_function(logit):
    p = Calibration().probability(logit)
    assert p == pytest.approx(1 / (1 + math.exp(-logit)))
    assert p + Calibration().probability(-logit) == pytest.approx(1)


def test_temperature_divides_and_bias_adds():
    assert Calibration(2.0, 1.0).probability(4.0) == pytest.approx(1 / (1 + math.exp(-3)))
    assert Calibration(3.0, 0.0).probability(0.0) == 0.5


@pytest.mark.parametrize(("temperature", "bias"), [(0, 0), (-1, 0), (math.nan, 0), (math.inf, 0), (1, math.nan)])
def test_an_impossible_calibration_is_refused(temperature, bias):
    with pytest.raises(ValueError, match="positive temperature"):
        Calibration(temperature, bias)


@pytest.mark.parametrize(("real", "fake"), [(0.6, 0.4), (-0.1, 0.5), (0.5, 1.1), (math.nan, 0.5), (0.5, math.nan)])
def test_impossible_thresholds_are_refused_with_their_values(real, fake):
    with pytest.raises(ValueError, match="0 <= real <= fake <= 1, got real="):
        Thresholds(real, fake)


ORDER = {REAL: 0, INCONCLUSIVE: 1, FAKE: 2}


@given(probability, probability, probability, probability)
def test_a_higher_probability_never_gives_a_more_real_verdict(real, fake, one, other):
    assume(real <= fake)
    low, high = sorted((one, other))
    band = Thresholds(real, fake)
    assert ORDER[verdict(low, band)] <= ORDER[verdict(high, band)]


@given(probability, probability, probability, probability)
def test_raising_a_threshold_never_makes_a_verdict_more_fake(real, fake, raised, p):
    assume(real <= fake)
    at_fake = verdict(p, Thresholds(real, max(fake, raised)))
    assert ORDER[at_fake] <= ORDER[verdict(p, Thresholds(real, fake))]
    at_real = verdict(p, Thresholds(min(max(real, raised), fake), fake))
    assert ORDER[at_real] <= ORDER[verdict(p, Thresholds(real, fake))]


def test_a_threshold_belongs_to_the_verdict_it_names():
    band = Thresholds(0.25, 0.75)
    assert [verdict(p, band) for p in (0, 0.25, 0.26, 0.74, 0.75, 1)] == [REAL, REAL, *[INCONCLUSIVE] * 2, FAKE, FAKE]
    assert verdict(0.5, Thresholds(0.5, 0.5)) == FAKE


def test_calibration_recovers_temperature_and_bias():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 6, 20000)
    truth = Calibration(2.0, 0.5)
    labels = (rng.random(20000) < probabilities(logits, truth)).astype(int)
    found = fit_calibration(logits, labels)
    assert found.temperature == pytest.approx(2.0, rel=0.1)
    more_fakes = np.log(labels.mean() / (1 - labels.mean()))  # labels weigh the same: this is taken from the bias
    assert found.bias + more_fakes == pytest.approx(0.5, abs=0.1)


def test_logits_that_separate_the_labels_altogether_do_not_become_certainties():
    labels = np.repeat([0, 1], 8)
    p = probabilities(np.where(labels == 1, 3.0, -3.0), fit_calibration(np.where(labels == 1, 3.0, -3.0), labels))
    assert p[labels == 1] == pytest.approx(9 / 10, abs=1e-3)  # Platt's targets: (8 + 1) / (8 + 2) and 1 / (8 + 2)
    assert p[labels == 0] == pytest.approx(1 / 10, abs=1e-3)


def test_thresholds_hold_in_the_worst_condition():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 500)
    scores = {
        name: (np.clip(rng.normal(np.where(labels == 1, 0.8, 0.2), spread), 0, 0.999), labels)
        for name, spread in (("clean", 0.1), ("hard", 0.3))
    }
    thresholds = fit_thresholds(scores, 0.01)
    for p, y in scores.values():
        assert (p[y == 0] >= thresholds.fake).mean() <= 0.01
        assert (p[y == 1] <= thresholds.real).mean() <= 0.01
    assert thresholds.real <= 0.5 <= thresholds.fake
    assert thresholds.fpr == 0.01


several = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@given(st.lists(st.tuples(several, several), min_size=1, max_size=3), st.sampled_from([0.01, 0.07, 0.29, 0.4]))
def test_thresholds_keep_the_limit_that_they_state(conditions, limit):
    scores = {
        str(index): (np.array([*real, *fake]), np.repeat([0, 1], [len(real), len(fake)]))
        for index, (real, fake) in enumerate(conditions)
    }
    found = fit_thresholds(scores, limit)
    worst = max((p[y == 0] >= found.fake).mean() for p, y in scores.values())
    assert found.fpr == (limit if worst <= limit else None)
    assert found.fpr is not None or found.fake == 1  # only photographs at exactly 1 are beyond any threshold
    if found.fake > 0.5 and found.fpr is not None:  # and no lower threshold would keep it
        lower = np.nextafter(found.fake, 0)
        assert max((p[y == 0] >= lower).mean() for p, y in scores.values()) > limit


def test_a_share_of_a_hundred_is_counted_exactly():
    p = np.linspace(0.5, 0.99, 100)
    scores = {"clean": (np.append(p, 0.1), np.repeat([0, 1], [100, 1]))}
    found = fit_thresholds(scores, 0.29)  # 0.29 * 100 is 28.999999999999996
    assert (p >= found.fake).sum() == 29


def test_thresholds_without_one_of_the_labels_are_refused():
    with pytest.raises(CalibrationError, match="hard lacks one"):
        fit_thresholds({"clean": (np.zeros(2), np.array([0, 1])), "hard": (np.zeros(2), np.array([0, 0]))}, 0.01)


def test_the_balanced_calibration_error_is_the_usual_one_of_an_even_set():
    rng = np.random.default_rng(0)
    p, labels = rng.random(300), np.repeat([0, 1], 150)
    assert balanced_ece(p, labels) == pytest.approx(ece(labels, p, resamples=2).value)


def test_the_balanced_calibration_error_does_not_depend_on_how_many_of_a_label_there_are():
    rng = np.random.default_rng(0)
    p = rng.random(40000)
    labels = (rng.random(40000) < p).astype(int)  # calibrated at an even share of labels
    few = np.flatnonzero((labels == 0) | (rng.random(40000) < 0.1))
    assert balanced_ece(p[few], labels[few]) < 0.03
    assert ece(labels[few], p[few], resamples=2).value > 0.2


def unseen():
    """Two tiers, two folds; in `hard` every photograph scores higher. 100 photographs, 50 fakes per tier."""
    rows = []
    for name, shift in (("clean", 0.0), ("hard", 0.1)):
        for fold, source, count in (("one", "stock", 60), ("two", "press", 40)):
            rows += [(name, fold, source, 0, 0.5 + 0.004 * index + shift) for index in range(count)]
        rows += [(name, "one", "flux", 1, 0.01 * (1 + index) + shift) for index in range(50)]
    return pd.DataFrame(rows, columns=["tier", "fold", "source", "label", "p_fake"])


def test_the_threshold_for_unseen_photographs_keeps_the_limit_in_the_worst_tier_pooled_over_sources():
    found = for_unseen(Thresholds(0.03, 0.7), unseen(), 0.05)
    # hard: stock 0.6 .. 0.836, press 0.6 .. 0.756. Five of 100 may be at or above: the sixth is 0.6 + 0.004 * 54.
    assert found.fake == pytest.approx(0.816, abs=1e-9)
    assert found.real == 0.03  # as it was
    assert found.fpr == 0.05
    wrong = unseen_error_table(unseen(), found).set_index(["tier", "source"])["errors"].to_dict()
    assert wrong == {
        ("clean", "stock"): 0,
        ("clean", "press"): 0,
        ("clean", "flux"): 3,
        ("hard", "stock"): 5,
        ("hard", "press"): 0,
        ("hard", "flux"): 0,
    }


def test_the_table_of_unseen_errors_has_the_rate_of_every_source_with_its_interval():
    table = unseen_error_table(unseen(), Thresholds(0.105, 0.7))
    assert table.columns.tolist() == ["tier", "label", "source", "n", "errors", "value", "low", "high"]
    found = table.set_index(["tier", "source"])
    # At or above 0.7: clean stock from 0.5 + 0.004 * 50; hard from 0.6 + 0.004 * 25. At or below 0.105: ten, then none.
    assert found["errors"].tolist() == [10, 0, 10, 35, 15, 0]
    assert found["n"].tolist() == [60, 40, 50] * 2
    expected = wilson(35, 60)
    assert found.loc[("hard", "stock"), ["value", "low", "high"]].tolist() == [
        expected.value,
        expected.low,
        expected.high,
    ]


def test_unseen_errors_become_entries_of_a_header_by_source_and_tier():
    found = unseen_entries(unseen_error_table(unseen(), Thresholds(0.105, 0.7)))
    assert {key: list(sources) for key, sources in found.items()} == {
        "unseen_real": ["stock", "press"],
        "unseen_fake": ["flux"],
    }
    assert list(found["unseen_real"]["press"]) == ["clean", "hard"]
    expected = wilson(35, 60)
    assert found["unseen_real"]["stock"]["hard"] == {
        "n": 60,
        "errors": 35,
        "value": expected.value,
        "low": expected.low,
        "high": expected.high,
    }
    assert found["unseen_fake"]["flux"]["clean"]["errors"] == 10
    assert json.loads(json.dumps(found)) == found


def test_the_threshold_for_unseen_photographs_asks_for_photographs_alone():
    known = Thresholds(0.1, 0.99)
    with pytest.raises(CalibrationError, match="there are none"):
        for_unseen(known, unseen().query("label == 1"), 0.01)
    assert for_unseen(known, unseen().query("label == 0"), 0.05) == Thresholds(0.1, 0.99, 0.05)  # never lowered


@pytest.fixture
def askew(tiny_setup, tiny_checkpoint, picture):
    """A checkpoint whose calibration is far off for a labelled set; returns its path and the set's folder."""
    root = tiny_setup / "set"
    data = {f"{seed}.png": picture(seed) for seed in range(40)}
    detector = Detector.load(tiny_checkpoint)
    logits = {name: detector.classify(content).faces[0].logit for name, content in data.items()}
    order = sorted(logits, key=lambda name: logits[name])
    order[18], order[21] = order[21], order[18]  # not quite separable
    for index, name in enumerate(order):
        folder = root / ("fake" if index >= 20 else "real")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data[name])
    info = read_info(tiny_checkpoint)
    changes = {
        "temperature": 50.0,
        "calibration_bias": 2.0,
        "metrics": {"test": {"n_real": 1, "n_fake": 1}, "leave_one_out": {}},
    }
    return rewrite(info, info.header | changes, tiny_setup / "askew.safetensors").path, root


def test_a_checkpoint_is_recalibrated_and_its_weights_stay(askew, tmp_path):
    path, root = askew
    before = path.read_bytes()
    labelled = load_labelled(root)
    done = recalibrate(path, labelled, tmp_path / "mine.safetensors", max_false_positive_rate=0.1)
    assert path.read_bytes() == before
    old, new = load_file(path), load_file(done.info.path)
    assert all((value == new[name]).all() for name, value in old.items())
    assert done.info.name == "mine"
    assert done.info.card.is_file()
    detector = Detector.load(done.info.path)
    for name in TIERS:
        results = list(detector.classify_many(labelled.sources, transform=lambda image, name=name: tier(image, name)))
        p = np.array([result.faces[0].p_fake for result in results])
        labels = labelled.frame["label"].to_numpy()
        assert balanced_ece(p, labels) == pytest.approx(done.ece[name][1], abs=1e-6)
        assert done.ece[name][1] < 0.5 * done.ece[name][0]
        assert (p[labels == 0] >= done.after.fake).mean() <= 0.1
        assert (p[labels == 1] <= done.after.real).mean() <= 0.1
        assert done.counts[name] == (20, 20)
    assert done.before == read_info(path).thresholds
    assert done.after == done.info.thresholds
    assert done.after.fpr == 0.1
    digests = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in root.rglob("*.png"))
    noted = done.info.header["calibrated_on"]
    assert noted["digest"] == hashlib.sha256("\n".join(digests).encode()).hexdigest()
    assert (noted["n_real"], noted["n_fake"]) == (20, 20)
    assert noted["checkpoint"] == read_info(path).sha256
    assert list(done.info.header["metrics"]) == ["leave_one_out"]  # figures at the old thresholds are gone


def test_recalibrating_from_the_command_line_prints_before_and_after(askew):
    path, root = askew
    (root / "real" / "grey.png").write_bytes(encode(Image.new("RGB", (100, 100), (128, 128, 128))))  # shows no face
    out = path.with_name("new.safetensors")
    done = CliRunner().invoke(cli.app, ["calibrate", str(path), "--data", str(root), "--out", str(out)])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == str(out)
    assert [line.split(":")[0] for line in lines[1:]] == ["clean", "web", "hard", "before", "now"]
    assert "20 real, 20 fake; calibration error" in lines[1]
    limits = read_info(out).thresholds
    assert f"fake from {limits.fake:.4f}, real up to {limits.real:.4f}; false alarms at most 1 %" in lines[-1]
    assert "1 image has no face that can be scored" in done.stderr
    assert "With 20 photographs a rate of 1 % cannot be told from 0" in done.stderr


def test_of_a_manifest_with_splits_the_validation_rows_are_used(askew):
    path, root = askew
    files = sorted(root.rglob("*.png"))
    rows = [
        (file.relative_to(root).as_posix(), file.parent.name, "val" if i % 2 else "train")
        for i, file in enumerate(files)
    ]
    table = root / "table.csv"
    pd.DataFrame(rows, columns=["path", "label", "split"]).to_csv(table, index=False)
    out = path.with_name("new.safetensors")
    command = ["calibrate", str(path), "--data", str(root), "--manifest", str(table), "--out", str(out)]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 0, done.output
    noted = read_info(out).header["calibrated_on"]
    assert (noted["n_real"], noted["n_fake"]) == (10, 10)


def test_a_checkpoint_is_not_recalibrated_over_itself_or_on_one_label(askew):
    path, root = askew
    before = path.read_bytes()
    for data, out, reason in (
        (root, path, "is the checkpoint itself"),
        (root, "x.ckpt", "ends in .safetensors"),
        (root / "fake", "x.safetensors", "lacks one"),
    ):
        done = CliRunner().invoke(cli.app, ["calibrate", str(path), "--data", str(data), "--out", str(out)])
        assert done.exit_code == 2
        assert reason in done.stderr.splitlines()[-1]
    assert path.read_bytes() == before
