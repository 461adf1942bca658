import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from model.calibration import FAKE, INCONCLUSIVE, REAL, Calibration, Thresholds, verdict

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
