"""Two browsers at one server: neither sees the other's pictures, runs or results; quotas hold; deleting deletes."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from .conftest import Server, Watch, serving
from .test_tour import REAL, archive, idle, start, upload

FILES = 8  # that a session may send
ARCHIVE = "ada and bob.zip"  # a name that no page shows by itself


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a small quota, and with metrics, from which the test reads what is in its memory."""
    with serving(tmp_path_factory.mktemp("small"), session_upload_files=str(FILES), open_metrics="true") as started:
        yield started


@pytest.fixture
def browsers(small: Server, chromium: Browser) -> Iterator[tuple[BrowserContext, BrowserContext]]:
    """Two browsers that share nothing."""
    contexts = chromium.new_context(), chromium.new_context()
    for context in contexts:
        context.set_default_timeout(60_000)
    yield contexts
    for context in contexts:
        context.close()


def tab(context: BrowserContext, server: Server, path: str) -> tuple[Page, Watch]:
    page, watch = context.new_page(), Watch(server.url)
    watch.attach(page)
    start(page, server.url, path)
    return page, watch


def run_of(page: Page, tmp_path: Path) -> str:
    """Begin a run and wait for its results; returns its id."""
    upload(page, archive(tmp_path, name=ARCHIVE))
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text(re.compile("^Took "))).to_be_visible(timeout=120_000)
    idle(page)
    return page.url.split("run=")[1]


def upload_bytes(server: Server) -> int:
    """Bytes of uploads in the server's memory."""
    with urllib.request.urlopen(f"{server.url}/_stcore/metrics") as response:
        lines = response.read().decode().splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if "UploadedFileManager" in line)


def test_a_visitor_sees_nothing_of_another_and_deletes_all_of_their_own(
    browsers: tuple[BrowserContext, BrowserContext], small: Server, tmp_path: Path
) -> None:
    ada, bob = browsers
    mine, mine_watch = tab(ada, small, "bulk")
    key = run_of(mine, tmp_path)
    picture, _ = tab(ada, small, "")
    upload(picture, REAL)
    expect(picture.get_by_text("Prediction time")).to_be_visible()
    idle(picture)
    assert upload_bytes(small) == 0  # both were taken
    waiting, _ = tab(ada, small, "bulk")
    upload(waiting, REAL)
    expect(waiting.get_by_text("1 picture ready to be checked.")).to_be_visible()

    theirs, their_watch = tab(bob, small, f"bulk?run={key}")
    expect(theirs.get_by_text("The run in this address is gone")).to_be_visible()
    expect(theirs.get_by_text(ARCHIVE)).to_have_count(0)
    for path in ("bulk", "evaluate", "", "about"):
        start(theirs, small.url, path)
        expect(theirs.get_by_text(ARCHIVE)).to_have_count(0)
        expect(theirs.get_by_text(REAL.name)).to_have_count(0)
        expect(theirs.get_by_text("Earlier runs")).to_have_count(0)
    secret = {cookie["name"]: cookie for cookie in ada.cookies()}["reality_check_visitor"]
    assert secret["httpOnly"] and secret["sameSite"] == "Lax"
    assert theirs.evaluate("document.cookie").find("reality_check_visitor") == -1
    start(theirs, small.url, "bulk")
    other = run_of(theirs, tmp_path)
    assert other != key

    mine.reload()  # the owner's address still opens the run
    expect(mine.get_by_text(re.compile("^Took "))).to_be_visible()
    start(mine, small.url, "bulk")
    expect(mine.get_by_text("Earlier runs")).to_be_visible()
    expect(mine.get_by_role("button", name="Open", exact=True)).to_have_count(1)

    assert upload_bytes(small) == REAL.stat().st_size
    folders = {path.name for path in (small.data / "runs").iterdir() if path.is_dir()}
    assert {key, other} <= folders
    start(mine, small.url, "about")
    mine.get_by_role("button", name="Delete my data").click()
    mine.get_by_text("I want all of it deleted").click()
    mine.get_by_role("button", name="Delete everything").click()
    expect(mine.get_by_text(re.compile("Deleted 1 run with 1 uploaded file"))).to_be_visible()
    assert not (small.data / "runs" / key).exists()
    assert key.encode() not in b"".join(file.read_bytes() for file in (small.data / "runs").glob("runs.sqlite*"))
    assert (small.data / "runs" / other).is_dir()
    assert upload_bytes(small) == 0
    start(mine, small.url, f"bulk?run={key}")
    expect(mine.get_by_text("The run in this address is gone")).to_be_visible()
    picture.get_by_role("button", name="Check another picture").click()  # the other tab, at its next step
    expect(picture.get_by_text("Which pictures suit")).to_be_visible()
    start(theirs, small.url, f"bulk?run={other}")
    expect(theirs.get_by_text(re.compile("^Took "))).to_be_visible()
    assert mine_watch.problems == their_watch.problems == []


def test_a_session_cannot_send_more_than_its_quota(
    browsers: tuple[BrowserContext, BrowserContext], small: Server
) -> None:
    page, watch = tab(browsers[0], small, "bulk")
    files = [
        {"name": f"{number}.jpg", "mimeType": "image/jpeg", "buffer": REAL.read_bytes()} for number in range(FILES + 2)
    ]
    page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(files)  # type: ignore[arg-type]
    expect(page.get_by_text(f"{FILES} pictures ready to be checked.")).to_be_visible()
    idle(page)
    refused = [problem for problem in watch.problems if problem.startswith("413")]
    assert len(refused) == 2
    other, _ = tab(browsers[1], small, "bulk")  # the quota of one is not that of another
    upload(other, REAL)
    expect(other.get_by_text("1 picture ready to be checked.")).to_be_visible()
