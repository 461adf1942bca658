"""How often the detector errs, in words that can be traced to the checkpoint's card."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis.strategies import floats, sampled_from
from typer.testing import CliRunner

from dashboard import cli, words
from model import calibration, metrics
from model.calibration import VERDICTS, Thresholds
from model.checkpoint import CheckpointInfo, list_checkpoints
from model.faces import Face
from model.results import FaceResult, ImageResult
from tests.support import header

OWN = Thresholds(real=0.3, fake=0.7, fpr=0.01)


def rate(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


def outcomes(**counts: int) -> dict[str, int]:
    return dict.fromkeys(("fake", "real", "inconclusive", "not_applicable", "error"), 0) | counts


TEST = {
    "fpr": rate(0.004, 0.001, 0.009),
    "recall": rate(0.83, 0.8, 0.86),
    "outcomes": {
        "real": outcomes(real=80, inconclusive=18, not_applicable=2),
        "fake": outcomes(fake=70, inconclusive=29, not_applicable=1),
    },
}
TEST_HARD = {"fpr": rate(0.012, 0.007, 0.02), "recall": rate(0.71, 0.68, 0.74)}
FOLDS = {
    "one": {"roc_auc": rate(0.9), "tpr_at_1_percent_fpr": rate(0.5, 0.4, 0.6)},
    "two": {"roc_auc": rate(0.8), "tpr_at_1_percent_fpr": rate(0.42, 0.32, 0.52)},
}
UNSEEN = {
    "press": {"clean": rate(0.01, 0.0, 0.03), "hard": rate(0.03, 0.01, 0.06)},
    "lab": {"clean": rate(0.02, 0.01, 0.04), "hard": rate(0.05, 0.03, 0.08)},
}


def info(**metrics: Any) -> CheckpointInfo:
    return CheckpointInfo("tiny_one", Path("tiny_one.safetensors"), header(metrics=metrics), "0" * 64)


def said(verdict: str, thresholds: Thresholds = OWN, **metrics: Any) -> str:
    return words.stated_error_rates(info(**metrics), verdict, thresholds)


def test_fake_states_false_alarms_on_unseen_photographs_in_the_worst_tier() -> None:
    text = said("fake", test=TEST, leave_one_out=FOLDS, unseen_real=UNSEEN)
    assert text == (
        "Of 100 photographs of sources left out of training, badly degraded, about 4 are wrongly flagged as "
        "AI-generated at this setting (4.0 %, 95 % interval 2.6 to 6.1 %). The threshold was set so that at most 1 % "
        "of these are flagged: expect more of others. That is not the chance that this verdict is wrong, which also "
        "depends on how common AI-generated pictures are where this one was found. "
        "From the card of tiny_one on the Models page."
    )


def test_photographs_that_the_threshold_was_set_on_are_so_called_also_where_no_limit_is_stated() -> None:
    unlimited = header(metrics={"unseen_real": UNSEEN}, thresholds={"real": 0.3, "fake": 0.7, "fpr": None})
    found = CheckpointInfo("tiny_one", Path("tiny_one.safetensors"), unlimited, "0" * 64)
    text = words.stated_error_rates(found, "fake", found.thresholds)
    assert "The threshold was set on these very photographs: expect more of others." in text


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_rate_of_false_alarms_is_not_taken_for_the_chance_of_this_one(verdict: str) -> None:
    for measured in ({"test": TEST}, {"test": TEST, "unseen_real": UNSEEN}):
        assert ("not the chance that this verdict is wrong" in said(verdict, OWN, **measured)) == (verdict == "fake")


def test_a_rate_of_abstentions_is_not_headed_as_errors() -> None:
    assert words.error_heading("inconclusive") == "How often it does not decide"
    assert {words.error_heading(verdict) for verdict in VERDICTS if verdict != "inconclusive"} == {
        "How often the detector errs"
    }


@pytest.mark.parametrize("faces", [1, 3])
@pytest.mark.parametrize("verdict", ["fake", "real", "inconclusive"])
def test_the_summary_says_what_a_face_resembles_not_what_was_found_in_it(verdict: str, faces: int) -> None:
    face = FaceResult(Face((0, 0, 9, 9), 1.0, ((1, 1),) * 5), (0, 0, 9, 9), verdict, None, 1.0, 0.5)
    result = ImageResult("a.png", verdict, OWN, "tiny", "0" * 64, "torch-fp32", "1", faces=(face,) * faces)
    text = words.summary(dataclasses.replace(result, deciding_face=faces - 1))
    assert ("the face" if faces == 1 else "face 3 of 3") in text
    assert "traces" not in text and "both directions" not in text
    assert {
        "fake": "Some photographs do so too.",
        "real": "of generators that it knows and more often of others.",
        "inconclusive": "this detector does not decide.",
    }[verdict] in text


def test_fake_falls_back_to_test_photographs_and_warns() -> None:
    text = said("fake", test=TEST, test_hard=TEST_HARD)
    assert "kinds it was trained on, badly degraded, about 1 is wrongly flagged" in text
    assert "(1.2 %, 95 % interval 0.7 to 2.0 %); expect more of other kinds." in text
    assert "kinds it was trained on, fewer than 1 is wrongly flagged" in said("fake", test=TEST)


def test_real_states_how_many_unseen_fakes_are_called_real_in_the_worst_tier() -> None:
    text = said("real", test=TEST, leave_one_out=FOLDS, unseen_fake=UNSEEN)
    assert text == (
        "Of 100 AI-generated faces from generators it never saw in training, badly degraded, about 4 are called real "
        "at this setting (4.0 %, 95 % interval 2.6 to 6.1 %); of the worst of these 2 sources, about 5. From the card "
        "of tiny_one on the Models page."
    )


def test_real_falls_back_to_how_many_unseen_fakes_are_flagged() -> None:
    text = said("real", test=TEST, leave_one_out=FOLDS, unseen_real=UNSEEN)
    assert "Of 100 AI-generated faces from generators it never saw in training, about 46 are flagged" in text
    assert "(46.0 %, 95 % interval 38.9 to 53.1 %)" in text
    assert "the others pass as real or inconclusive" in text


def test_real_falls_back_to_the_recall_on_test() -> None:
    text = said("real", test=TEST, test_hard=TEST_HARD)
    assert "generators it was trained on, badly degraded, about 71 are flagged at this setting (71.0 %" in text


def test_inconclusive_and_not_applicable_state_how_often_that_is_the_answer() -> None:
    assert "about 24 are left inconclusive (23.5 %, 95 % interval 18.2 to 29.8 %)" in said("inconclusive", test=TEST)
    assert "about 2 are wrongly refused as not applicable (1.5 %" in said("not_applicable", test=TEST)


def test_thresholds_set_by_hand_are_not_covered() -> None:
    by_hand = Thresholds(real=0.3, fake=0.6, custom=True)
    for verdict in VERDICTS:
        text = said(verdict, by_hand, test=TEST, unseen_real=UNSEEN)
        assert "not for those set by hand" in text
        assert "not for those set by hand" not in said(verdict, test=TEST, unseen_real=UNSEEN)


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"test": {"roc_auc": rate(0.9)}},
        {"test": {"fpr": rate(None), "recall": rate(None), "outcomes": {}}},
        {"leave_one_out": {"one": {"roc_auc": rate(0.9)}}, "unseen_real": {"press": {"clean": rate(None)}}},
        {"unseen_fake": {"press": {"clean": rate(None)}}},
    ],
)
def test_what_was_not_measured_is_not_stated(verdict: str, metrics: dict[str, Any]) -> None:
    assert said(verdict, **metrics) == words.NO_ERROR_RATE


def test_classify_prints_the_rates_of_every_verdict_it_gave_once(
    tiny_setup: Path, picture: Callable[..., bytes]
) -> None:
    for index in range(6):
        Path(f"{index}.png").write_bytes(picture(index))
    Path("bad.png").write_bytes(b"no image, whatever its name says")
    images = [*(f"{index}.png" for index in range(6)), "bad.png"]
    lines = CliRunner().invoke(cli.app, ["classify", *images]).stdout.splitlines()
    given = [line.partition(": ")[2].partition(".")[0] for line in lines[:6]]
    assert lines[7:] == [f"{title}: {words.NO_ERROR_RATE}" for title in dict.fromkeys(given)]
    as_json = CliRunner().invoke(cli.app, ["classify", "--json", *images]).stdout
    assert words.NO_ERROR_RATE not in as_json


@pytest.mark.parametrize("bundled", list_checkpoints(), ids=lambda bundled: bundled.name)
@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_bundled_checkpoint_states_its_error_rates(bundled: CheckpointInfo, verdict: str) -> None:
    text = words.stated_error_rates(bundled, verdict, bundled.thresholds)
    assert text.startswith("Of 100 ")
    assert text.endswith(f"From the card of {bundled.name} on the Models page.")
    moved = dataclasses.replace(bundled.thresholds, fake=1.0, custom=True)
    assert "set by hand" in words.stated_error_rates(bundled, verdict, moved)


@pytest.mark.parametrize(
    "text", ["https://evil.example", "see WWW.evil.example", "mail@evil.example", ":material/home:", "x:cat:"]
)
def test_text_of_unknown_origin_becomes_no_link_and_no_icon(text: str) -> None:
    shown = words.plain(text).replace("\\", "")  # as Markdown takes it before it looks for addresses
    assert shown.replace("\N{WORD JOINER}", "") == text
    assert not re.search(r"https?://|www\.|\w@\w|:material/|:cat:", shown, re.IGNORECASE)
    assert words.plain("Took 12:30, so: done.") == "Took 12\\:30, so\\: done."


def judged(right: np.ndarray, persons: int | None = None) -> pd.DataFrame:
    """Results that are right where told, half of them photographs, each person's pictures in a row."""
    label = np.arange(len(right)) % 2
    flagged = (label == 1) == right
    frame = pd.DataFrame(
        {
            "path": [f"{index}.png" for index in range(len(right))],
            "label": label,
            "p_fake": np.where(flagged, 0.9, 0.1),
            "verdict": np.where(flagged, "fake", "real"),
        }
    )
    if persons is not None:
        frame["person"] = [f"p{index * persons // len(right)}" for index in range(len(right))]
    return frame


def right_but(*wrong: slice) -> np.ndarray:
    right = np.ones(3000, dtype=bool)
    for place in wrong:
        right[place] = False
    return right


@pytest.mark.parametrize(
    ("persons", "outcome"), [(None, "B errs less often."), (40, "No clear difference in the number of errors.")]
)
def test_errors_of_few_persons_are_no_clear_difference(persons: int | None, outcome: str) -> None:
    one, other = right_but(slice(0, 300)), right_but(slice(600, 750))  # four persons and two
    figures = metrics.compare(
        judged(one, persons), judged(other, persons), threshold_a=0.5, threshold_b=0.5, resamples=200
    ).figures
    low, high = (figures["differences"]["accuracy"][end] for end in ("low", "high"))
    assert figures["mcnemar"]["p_value"] < 1e-6
    assert (high < 0) == (persons is None)
    said, why = words.errs_less(figures)
    assert said == outcome
    assert ("does not know of these clusters" in why) == (persons is not None)
    assert (f"{words.signed(low, 4)} to {words.signed(high, 4)}" in why) == (persons is not None)


def test_errors_spread_over_many_persons_are_a_clear_difference() -> None:
    one, other = right_but(slice(0, None, 10)), right_but(slice(0, 25))
    for pair, better in (((one, other), "B"), ((other, one), "A")):
        figures = metrics.compare(
            *(judged(right, 40) for right in pair), threshold_a=0.5, threshold_b=0.5, resamples=200
        ).figures
        assert words.errs_less(figures)[0] == f"{better} errs less often."


def test_runs_that_err_alike_leave_nothing_to_test() -> None:
    same = judged(right_but(slice(0, 10)), 40)
    figures = metrics.compare(same, same, threshold_a=0.5, threshold_b=0.5, resamples=20).figures
    assert words.errs_less(figures) == (
        "",
        "McNemar's test: nothing to test, both runs are right and wrong on the same images.",
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 %"), (1e-6, "0.0001 %"), (0.0002, "0.02 %"), (0.0025, "0.25 %"), (0.005, "0.5 %"), (0.01, "1 %"),
        (0.0625, "6.2 %"), (0.5, "50 %"), (0.931, "93.1 %"), (0.9901, "99.01 %"), (0.9998, "99.98 %"), (1.0, "100 %"),
    ],
)  # fmt: skip
def test_a_rate_reads_as_0_or_100_percent_only_where_it_is(value: float, text: str) -> None:
    assert words.rate(value) == text


def test_thresholds_near_the_ends_and_rare_false_alarms_keep_their_digits() -> None:
    note = words.threshold_note(Thresholds(real=0.0002, fake=0.9998, fpr=0.0001))
    assert "from 99.98 % upward and real up to 0.02 %" in note
    assert "at most 0.01 % of real photographs were flagged in validation, about 1 in 10,000." in note


@pytest.mark.parametrize("zone", [None, "", "Nowhere/Here", "America", "../../etc/passwd", "/etc/passwd", "a\0b"])
def test_a_moment_in_no_known_zone_is_said_in_utc(zone: str | None) -> None:
    assert words.moment(1_700_000_000, zone) == "2023-11-14 22:13 UTC"


def test_a_moment_is_that_of_the_reader_wherever_the_server_is() -> None:
    assert words.moment(1_700_000_000, "Asia/Kolkata") == "2023-11-15 03:43"
    assert words.moment(1_690_000_000, "Europe/Berlin") == "2023-07-22 06:26"  # summer time


@given(floats(0, 1), floats(0.001, 0.5), floats(0.5, 0.999), sampled_from((-1e-3, -1e-5, 0.0, 1e-5, 1e-3)))
@example(0.5, 0.092908, 0.913611, -1e-5)
def test_a_probability_reads_on_its_side_of_the_thresholds(p: float, real: float, fake: float, near: float) -> None:
    thresholds = Thresholds(real=real, fake=fake, fpr=0.01)
    for p_fake in (p, min(1.0, max(0.0, real + near)), min(1.0, max(0.0, fake + near))):
        note = words.threshold_note(thresholds, p_fake)
        upper, lower = (float(note.split(before)[1].split(" %")[0]) for before in ("from ", "up to "))
        text = words.probability(p_fake, thresholds)
        if not text.startswith(("over", "under")):
            shown = float(text.removesuffix(" %"))
            said = "fake" if shown >= upper else "real" if shown <= lower else "inconclusive"
            assert said == calibration.verdict(p_fake, thresholds), (text, note)
