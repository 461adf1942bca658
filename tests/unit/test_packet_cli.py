"""The commands explain and verify."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from dashboard.cli import app
from model import packet


@pytest.fixture
def run(tiny_setup):
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def explained(run, tiny_setup, picture):
    (tiny_setup / "a.png").write_bytes(picture(1))
    done = run("explain", "a.png", "--packet", "a.zip", "--report", "a.html", "--report", "a.pdf")
    assert done.exit_code == 0, done.output
    return done


def test_explain_prints_the_ledger_and_writes_packet_and_reports(explained, tiny_setup):
    digest = packet.digest((tiny_setup / "a.zip").read_bytes())
    assert f"Packet digest {digest}" in explained.stdout
    rows = [line for line in explained.stdout.splitlines() if line[:1] == " "]
    values = [float(line.split()[0]) for line in rows]
    assert rows[-1].endswith("Sum: the logit")
    assert sum(values[:-1]) == pytest.approx(values[-1], abs=0.001 * len(values))
    assert digest in (tiny_setup / "a.html").read_text("utf-8")
    assert (tiny_setup / "a.pdf").read_bytes().startswith(b"%PDF-")


@pytest.mark.parametrize("option", ["--packet=missing/a.zip", "--report=missing/a.pdf", "--packet=."])
def test_where_nothing_can_be_written_is_told_before_the_work(option, run, tiny_setup, picture, monkeypatch):
    (tiny_setup / "a.png").write_bytes(picture(1))
    monkeypatch.setattr("dashboard.cli._detector", lambda *_: pytest.fail("has begun"))
    done = run("explain", "a.png", option)
    assert done.exit_code == 2
    assert "cannot be written there" in done.stderr


def test_verify_agrees_where_the_checkpoint_is_at_hand(explained, run, tiny_checkpoint, tiny_setup):
    digest = packet.digest((tiny_setup / "a.zip").read_bytes())
    done = run("verify", "a.zip", "--checkpoint", tiny_checkpoint, "--digest", digest)
    assert done.exit_code == 0, done.output
    assert done.stdout.rstrip().endswith("Everything agrees.")
    assert "faces/1/overlay.png again" in done.stdout
    told = json.loads(run("verify", "a.zip", "--checkpoint", tiny_checkpoint, "--json").stdout)
    assert told["agrees"] is True
    assert {check["outcome"] for check in told["checks"]} == {"agrees"}


def test_verify_says_when_it_cannot_judge_again(explained, run):
    done = run("verify", "a.zip")
    assert done.exit_code == 1
    assert "not checked" in done.stdout and "is at hand" in done.stdout
    done = run("verify", "a.zip", "--hashes-only")
    assert done.exit_code == 0
    assert "left out, as asked" in done.stdout


def test_verify_names_what_differs(explained, run, tiny_setup):
    (tiny_setup / "b.zip").write_bytes((tiny_setup / "a.zip").read_bytes() + b"x")
    done = run("verify", "b.zip", "--hashes-only")
    assert done.exit_code == 1
    assert "1 of 15 items differs or could not be checked: container" in done.stdout


@pytest.mark.parametrize("name", ["a.png", "gone.zip"])
def test_what_is_not_a_packet_is_refused_in_one_line(explained, run, name):
    done = run("verify", name)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"reality-check: {name}: ")
    assert len(done.stderr.splitlines()) == 1


def test_explain_refuses_a_report_of_another_kind_before_it_begins(run, tiny_setup, picture):
    (tiny_setup / "a.png").write_bytes(picture(1))
    done = run("explain", "a.png", "--report", "a.docx", "--packet", "a.zip")
    assert done.exit_code == 2
    assert "a.docx: a report ends in .html or .pdf" in done.stderr
    assert not (tiny_setup / "a.zip").exists()


def test_explain_refuses_a_packet_of_a_precision_that_is_not_computed_again_before_it_begins(
    run, tiny_setup, picture, monkeypatch
):
    (tiny_setup / "a.png").write_bytes(picture(1))
    monkeypatch.setattr("dashboard.cli._detector", lambda *_: SimpleNamespace(precision="int8"))
    done = run("explain", "a.png", "--packet", "a.zip", "--tests")
    assert done.exit_code == 2, done.output
    assert "int8" in done.stderr
    assert not (tiny_setup / "a.zip").exists()


def test_explain_of_what_is_no_image_says_so(run, tiny_setup):
    (tiny_setup / "a.jpg").write_text("no picture")
    done = run("explain", "a.jpg", "--packet", "a.zip", "--report", "a.pdf")
    assert done.exit_code == 1
    said, digest = done.stdout.splitlines()  # and no error rates: nothing was judged
    assert "Not applicable" in said and digest.startswith("Packet digest")
    assert run("verify", "a.zip", "--hashes-only").exit_code == 0
    assert run("explain", "gone.jpg").exit_code == 2
