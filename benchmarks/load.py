"""Many analysts at one server at the same time: whether everybody is served, and whether a run is lost.

    python -m benchmarks.load --analysts 20 --minutes 15 --browser --write

Every analyst is a tab that speaks Streamlit's protocol (`benchmarks.analyst`): opens the application, checks a picture,
looks at another page, hands in a ZIP file, waits for its results, and begins again, with pauses to think. `--browser`
adds a real Chromium that does the same as one more analyst. The server is a process of its own with the bundled
checkpoint.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._page import RELIABILITY, machine, publish, table
from benchmarks.analyst import Analyst, VisitError
from dashboard.settings import ROOT, sample_dir
from dashboard.store import DONE, RunStore

PICTURES_PER_RUN = 4
LOST_SECONDS = 900.0  # a run that has not ended by then, after the last visitor left, is lost


@dataclass
class Log:
    """What was measured."""

    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    problems: Counter[str] = field(default_factory=Counter)
    runs: set[str] = field(default_factory=set)
    memory: list[tuple[float, float]] = field(default_factory=list)  # minutes, MB

    def done(self, what: str, seconds: float) -> None:
        """Note how long something took."""
        self.seconds[what].append(seconds)


@dataclass
class Served:
    """A server that works."""

    url: str
    process: subprocess.Popen[bytes]
    data: Path
    log: Path


@contextlib.contextmanager
def server(folder: Path, **settings: str) -> Iterator[Served]:
    """The application as a process of its own, with settings by name."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {f"REALITY_CHECK_{name.upper()}": value for name, value in settings.items()}
    given = {"REALITY_CHECK_DATA_DIR": str(folder / "data")}
    given["REALITY_CHECK_REUSE_RESULTS"] = "false"  # visitors hand in the same pictures; each run is to be work
    environment = os.environ | given | own
    log = folder / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboard", "app", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=stream,
            stderr=stream,
        )
    try:
        end = time.monotonic() + 180
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/ready", timeout=5):
                break
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the server does not start:\n{log.read_text('utf-8', 'replace')}")
            time.sleep(0.3)
        yield Served(f"http://127.0.0.1:{port}", process, folder / "data", log)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def pictures() -> list[tuple[str, bytes]]:
    """The bundled samples."""
    found = sorted(path for label in ("real", "fake") for path in (sample_dir() / label).iterdir())
    return [(path.name, path.read_bytes()) for path in found]


def archive(chance: random.Random) -> bytes:
    """A ZIP file of a few samples."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in chance.sample(pictures(), PICTURES_PER_RUN):
            file.writestr(name, data)
    return buffer.getvalue()


async def work(url: str, number: int, end: float, think: float, log: Log) -> None:
    """One analyst until the end."""
    chance = random.Random(number)
    samples = pictures()
    while time.monotonic() < end:
        analyst = Analyst(url)
        try:
            start = time.monotonic()
            await analyst.open()
            log.done("open the application", time.monotonic() - start)
            while time.monotonic() < end:
                await asyncio.sleep(chance.uniform(0.5, 1.5) * think)
                await one_round(analyst, chance, samples, end, think, log)
        except (VisitError, OSError, TimeoutError) as error:
            log.problems[f"{type(error).__name__}: {error}"[:120]] += 1
            await asyncio.sleep(1)
        except Exception as error:  # noqa: BLE001 - a broken connection has many names
            log.problems[type(error).__name__] += 1
            await asyncio.sleep(1)
        finally:
            with contextlib.suppress(Exception):
                await analyst.close()


async def one_round(
    analyst: Analyst, chance: random.Random, samples: list[tuple[str, bytes]], end: float, think: float, log: Log
) -> None:
    """Check a picture, look around, and every third time hand in many."""
    log.done("open a page", await analyst.go(""))
    if "Check another picture" in analyst.text:
        await analyst.click("Check another picture")
    log.done("check a picture", await analyst.upload(*chance.choice(samples)))
    if "Explain this" not in analyst.text and "What would suit" not in analyst.text:
        raise VisitError("a picture got no verdict")
    await asyncio.sleep(chance.uniform(0.5, 1.5) * think)
    log.done("open a page", await analyst.go(chance.choice(("models", "about", "evaluate", "explain"))))
    if chance.random() > 1 / 3:
        return
    log.done("open a page", await analyst.go("bulk"))
    if analyst.run_id is not None:
        await analyst.click("New run")
    log.done("hand in a ZIP file", await analyst.upload("set.zip", archive(chance)))
    start = time.monotonic()
    await analyst.click("Start")
    if analyst.run_id is None:
        raise VisitError("a run was not begun")
    log.runs.add(analyst.run_id)
    while "Took " not in analyst.text:
        if time.monotonic() > end + LOST_SECONDS:
            raise VisitError("a run did not end")
        await asyncio.sleep(2)
        log.done("look at a run", await analyst.run())
    log.done(f"have {PICTURES_PER_RUN} pictures checked", time.monotonic() - start)


def in_browser(url: str, end: float, log: Log) -> None:
    """A real Chromium as one more analyst."""
    from playwright.sync_api import Error, expect, sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    sample = next(path for path in sorted((sample_dir() / "real").iterdir()))
    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=flags)
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.on("console", lambda message: _console(message, log))
        page.on("pageerror", lambda error: log.problems.update([f"browser: {error}"[:120]]))
        while time.monotonic() < end:
            try:
                start = time.monotonic()
                page.goto(url)
                expect(page.get_by_test_id("stFileUploaderDropzoneInput").first).to_be_attached(timeout=120_000)
                log.done("browser: open the application", time.monotonic() - start)
                start = time.monotonic()
                page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(sample)
                expect(page.get_by_text("Prediction time")).to_be_visible(timeout=120_000)
                log.done("browser: check a picture", time.monotonic() - start)
                page.wait_for_timeout(8000)
            except (Error, AssertionError) as error:
                log.problems[f"browser: {type(error).__name__}"] += 1
        browser.close()


def _console(message: object, log: Log) -> None:
    place = str(getattr(message, "location", {}).get("url", ""))
    if getattr(message, "type", "") == "error" and not place.endswith(("/_stcore/health", "/_stcore/host-config")):
        log.problems[f"browser: {getattr(message, 'text', '')}"[:120]] += 1


def resident(pid: int) -> float:
    """Memory of a process and its children, in MB."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for thread in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
    return total / 2**20


async def visit(served: Served, analysts: int, minutes: float, think: float, log: Log, *, browser: bool) -> None:
    """Let everybody in, one after the other, and wait until the last has left."""
    begin = time.monotonic()
    end = begin + minutes * 60

    async def later(number: int) -> None:
        await asyncio.sleep(number * min(2.0, 30 / analysts))
        await work(served.url, number, end, think, log)

    async def remember() -> None:
        while True:
            log.memory.append(((time.monotonic() - begin) / 60, resident(served.process.pid)))
            await asyncio.sleep(5)

    watch = asyncio.create_task(remember())
    tasks = [asyncio.create_task(later(number)) for number in range(analysts)]
    if browser:
        tasks.append(asyncio.create_task(asyncio.to_thread(in_browser, served.url, end, log)))
    await asyncio.gather(*tasks)
    watch.cancel()


def lost(data: Path, begun: set[str]) -> list[str]:
    """Runs that were begun and did not end well."""
    store = RunStore(data / "runs")
    states = {run.id: run.state for run in store.runs()}
    return sorted(key for key in begun if states.get(key) != DONE)


def answers(log: Log) -> str:
    """How long everything took."""
    rows = []
    for what, seconds in sorted(log.seconds.items()):
        ordered = sorted(seconds)
        high = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
        rows.append(
            [
                what,
                f"{len(ordered):,}",
                *(f"{value:.2f} s" for value in (statistics.median(ordered), high, ordered[-1])),
            ]
        )
    return table(("What", "Times", "Median", "95 of 100 within", "Longest"), rows)


def problems(log: Log, gone: list[str], served: Served) -> str:
    """What went wrong, in words."""
    failed = served.log.read_text("utf-8", "replace").count(" ERROR ")
    lines = [f"{len(log.runs):,} runs were begun and {len(gone)} were lost; the server logged {failed} errors."]
    lines += [f"- {text} ({count} times)" for text, count in log.problems.most_common(12)]
    return "\n".join(lines if log.problems else [*lines, "No visitor met an error."])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--analysts", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--think", type=float, default=10, help="seconds between two steps, on average")
    parser.add_argument("--browser", action="store_true", help="a real Chromium beside them")
    parser.add_argument("--write", action="store_true", help="write the section of docs/reliability.md")
    options = parser.parse_args()
    log, before = Log(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="load-") as folder, server(Path(folder)) as served:
        asyncio.run(visit(served, options.analysts, options.minutes, options.think, log, browser=options.browser))
        gone = lost(served.data, log.runs)
        text = "\n\n".join(
            (
                "## Load\n\n`python -m benchmarks.load --analysts N --minutes M --browser --write` lets analysts work "
                "at one server at the same time and writes this table.",
                f"{machine()} {options.analysts} scripted analysts{' and a Chromium' if options.browser else ''} on "
                f"the same machine as the server, for {options.minutes:g} minutes, with {options.think:g} s between "
                f"two steps on average. Load of the machine at the beginning, from other work: {before:.1f}.",
                answers(log),
                problems(log, gone, served),
                f"Memory of the server and its helpers: {min(m for _, m in log.memory):,.0f} to "
                f"{max(m for _, m in log.memory):,.0f} MB.",
            )
        )
    publish(text, RELIABILITY, "load", write=options.write)
    return 1 if gone or log.problems else 0


if __name__ == "__main__":
    sys.exit(main())
