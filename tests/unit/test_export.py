"""Exported tables: spreadsheets never run a name as a formula, and nothing is lost."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.results import guard_text, unguard_text, write_csv, write_parquet

STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


@pytest.mark.parametrize("start", STARTS)
def test_text_that_would_be_a_formula_is_guarded(start: str) -> None:
    assert guard_text(start + "1+1") == "'" + start + "1+1"


@given(st.text(alphabet=st.sampled_from("'=+-@\t\r\nab1"), max_size=6))
def test_guarding_can_be_undone_and_leaves_no_formula(text: str) -> None:
    guarded = guard_text(text)
    assert not guarded.startswith(STARTS)
    assert unguard_text(guarded) == text


def test_csv_guards_text_and_headings_but_no_number() -> None:
    frame = pd.DataFrame({"path": ["=cmd()", "ok", None], "logit": [-1.5, 2.0, None], "@x": ["a", "+b", "c"]})
    frame["path"] = frame["path"].astype("string")
    text = write_csv(frame)
    assert text is not None
    lines = text.splitlines()
    assert lines[0] == "path,logit,'@x"
    assert lines[1] == "'=cmd(),-1.5,a"
    assert lines[2] == "ok,2.0,'+b"
    assert lines[3] == ",,c"


def test_csv_does_not_change_the_table_it_is_given() -> None:
    frame = pd.DataFrame({"path": ["=a"]})
    write_csv(frame)
    assert frame["path"].tolist() == ["=a"]


def test_csv_goes_to_a_path_or_a_stream(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": ["=ü"]})
    write_csv(frame, tmp_path / "out.csv")
    stream = io.StringIO()
    write_csv(frame, stream)
    assert (tmp_path / "out.csv").read_bytes().decode("utf-8") == stream.getvalue() == "a\n'=ü\n"


def test_parquet_keeps_text_as_it_is(tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": ["=a", "-b"], "p": [0.1, 0.2]})
    write_parquet(frame, tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), frame)
