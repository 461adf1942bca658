"""Hostile input, a little of it in every test run; `python -m benchmarks.fuzz` does the same at length."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from benchmarks import fuzz
from dashboard.intake import _safe_name
from model.imaging import ImageError, Limits, decode_here
from model.results import guard_text, unguard_text
from model.sources import SourceError, ZipLimits, from_zip

KEPT = [(name, path) for name in fuzz.TARGETS for path in fuzz.corpus(name)]
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


@pytest.fixture(autouse=True)
def own_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REALITY_CHECK_DATA_DIR", str(tmp_path / "data"))


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_valid_input_is_accepted(name: str) -> None:
    target = fuzz.TARGETS[name]
    outcomes = {target.run(seed) for seed in target.seeds()}
    assert fuzz.CONTAINED not in outcomes
    assert (fuzz.ACCEPTED in outcomes) is (name != "packet")  # there a whole one would have to be judged


@pytest.mark.parametrize(("name", "path"), KEPT, ids=[f"{name}-{path.name}" for name, path in KEPT])
def test_what_was_found_once_stays_mended(name: str, path: Path) -> None:
    assert fuzz.TARGETS[name].run(path.read_bytes()) in (fuzz.ACCEPTED, fuzz.REFUSED)


@pytest.mark.parametrize("name", fuzz.TARGETS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(number=st.integers(0, 10**9))
def test_hostile_input_is_accepted_or_refused(name: str, number: int) -> None:
    target = fuzz.TARGETS[name]
    assert target.run(target.case(number)) in (fuzz.ACCEPTED, fuzz.REFUSED, fuzz.CONTAINED)


@settings(max_examples=200)
@given(st.text(max_size=80))
@example("\\\\")  # POSIX keeps two slashes at the beginning as they are
def test_a_name_is_only_ever_a_label(name: str) -> None:
    safe = _safe_name(name)
    assert safe and fuzz.harmless(safe) and not safe.startswith("/") and ".." not in safe.split("/")


@settings(max_examples=200)
@given(st.text(max_size=40))
def test_no_text_is_a_formula_and_none_is_changed_for_good(text: str) -> None:
    assert guard_text(text)[:1] not in ("=", "+", "-", "@", "\t", "\r", "\n")
    assert unguard_text(guard_text(text)) == text


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.text(max_size=30), st.binary(max_size=200)), max_size=6))
def test_members_of_an_archive_keep_to_themselves(members: list[tuple[str, bytes]]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in dict(members).items():
            archive.writestr(zipfile.ZipInfo(name.replace("\0", "") or "x"), data)
    try:
        found = from_zip(buffer, ZipLimits(max_members=4))
    except SourceError as error:
        assert "at most 4" in str(error) or "not a readable ZIP" in str(error)
        return
    for source in found:
        assert fuzz.harmless(source.name) and ".." not in source.name.split("/")
        assert source.read() in dict(members).values()


def test_a_file_that_is_a_picture_and_something_else_is_read_as_a_picture_alone() -> None:
    jpeg, archive = fuzz.pictures()[0], fuzz.archives()[0]
    for other in (archive, b"<script>alert(1)</script>", b"%PDF-1.7", b"MZ" + bytes(100)):
        assert decode_here(jpeg + other, Limits(min_side=1)).format == "JPEG"
    for front in (
        b"<svg xmlns='http://www.w3.org/2000/svg'><!--",
        b"%PDF-1.7\n",
        b"%!PS-Adobe\n",
        archive,
        b"GIF89a=1;",
    ):
        with pytest.raises(ImageError):
            decode_here(front + jpeg, Limits(min_side=1))


def test_cases_follow_from_their_number() -> None:
    for target in fuzz.TARGETS.values():
        assert target.case(7) == target.case(7)
    assert dict(fuzz.shares(1000, list(fuzz.TARGETS)))["picture"] == 400
    assert sum(dict(fuzz.shares(999, list(fuzz.TARGETS))).values()) == 999


def test_crashes_and_hangs_are_found_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tally = fuzz.Tally()
    monkeypatch.setattr(fuzz, "FINDINGS", tmp_path)
    messages: list[object] = [0, ("accepted", 0.1, ""), 1, ("crashed", 0.2, "ValueError: x")]
    for number, message in zip(messages[::2], messages[1::2], strict=True):
        assert isinstance(number, int) and isinstance(message, tuple)
        fuzz._note("zip", number, *_ended(message), tally)
    assert dict(tally.outcomes) == {"accepted": 1, "crashed": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["zip-1"]
    text = fuzz.report({"zip": tally}, 60)
    assert "zip 1: crashed, ValueError: x" in text


def _ended(message: tuple) -> tuple[str, float, str]:
    return message[0], message[1], message[2]
