"""What the measuring commands have in common, and the arithmetic behind their figures."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from benchmarks import resume
from benchmarks._page import RELIABILITY, write_section
from benchmarks._pick import spread
from benchmarks.cluster import steady

START = 20.0  # seconds until Ray's workers are ready


def bursts(seconds: float, late: float, tasks: int = 8, size: int = 128) -> list[tuple[float, int]]:
    """Marks of two workers that need so long for a task, the second so much later than the first."""
    ends = sorted(START + begin + seconds * (task + 1) for begin in (0.0, late) for task in range(tasks))
    times = sorted(end + 1e-4 * result for end in ends for result in range(size))
    return [(0.0, 0), *((time, done) for done, time in enumerate(times, start=1))]


@pytest.mark.parametrize("late", [0.0, 0.4, 1.6, 3.0])
def test_the_rate_of_bursts_is_that_of_the_workers(late: float) -> None:
    assert steady(bursts(3.2, late)) == pytest.approx(2 * 128 / 3.2, rel=0.02)


def test_the_rate_of_an_even_stream_leaves_the_start_out() -> None:
    assert steady([(0.0, 0), *((START + 0.1 * done, done) for done in range(1, 101))]) == pytest.approx(10.0)
    resumed = [(0.0, 500), *((START + 0.1 * done, 500 + done) for done in range(1, 101))]
    assert steady(resumed) == pytest.approx(10.0)


def test_too_few_results_have_no_rate() -> None:
    for count in range(8):
        assert math.isnan(steady([(0.0, 0), *((float(done), done) for done in range(1, count + 1))]))


def test_every_section_of_a_page_is_written_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    write_section(page, "load", "first\\1")
    write_section(page, "fuzz", "two")
    write_section(page, "load", "three \\1 | 3")
    load, fuzz = page.read_text("utf-8").split("\n\n")
    assert load == "<!-- load -->\nthree \\1 | 3\n<!-- end of load -->"
    assert fuzz == "<!-- fuzz -->\ntwo\n<!-- end of fuzz -->\n"


def test_commands_on_reliability_find_their_sections(tmp_path: Path) -> None:
    page = tmp_path / RELIABILITY.name
    page.write_bytes(RELIABILITY.read_bytes())
    before = re.findall("<!-- .* -->", page.read_text("utf-8"))
    for name in ("fuzz", "faults", "load", "soak"):
        write_section(page, name, "nothing")
    after = page.read_text("utf-8")
    assert re.findall("<!-- .* -->", after) == before
    assert after.count("nothing") == 4 and after.startswith("# Reliability") and "Measured" not in after


@pytest.mark.parametrize(
    ("given", "checkpoint", "printed"),
    [
        ("--evaluate", "place/tiny.safetensors", "--evaluate --checkpoint FILE"),
        ("", "tiny", "--checkpoint tiny"),
        ("", None, "--checkpoint tiny"),
    ],
)
def test_the_page_names_the_command_that_makes_its_section(given: str, checkpoint: str | None, printed: str) -> None:
    arguments = resume._arguments(["--data", "/private/faces", "--kills", "3", *given.split()])
    command = f"python -m benchmarks.resume {printed} --images 5000 --kills 3 --seed 1 --data FOLDER --write"
    assert resume.command(arguments, checkpoint, "tiny") == command
    ends = {name: {"seconds": 1.0} for name in (resume.KILLED, resume.UNDISTURBED)}
    facts = {"kind": "bulk", "checkpoint": "tiny", "pictures": 9, "kills": [1], "command": command}
    assert f"Written by `{command}` with `tiny`" in resume.page_section(facts | ends)


def test_pictures_are_picked_evenly(tmp_path: Path) -> None:
    for index in range(10):
        (tmp_path / f"{index}.jpg").write_bytes(b"x")
    assert [source.name for source in spread(tmp_path, 4)] == ["0.jpg", "2.jpg", "5.jpg", "7.jpg"]
    assert len(spread(tmp_path, 99)) == 10
    (tmp_path / "none").mkdir()
    assert len(spread(tmp_path / "none", 4)) == 0
    assert spread(tmp_path, 4).root == tmp_path.name
