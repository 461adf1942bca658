"""The real server with the real bundled checkpoint, and Chromium in front of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, expect, sync_playwright

import model  # noqa: F401 - first, see model/_torchvision.py
from model.checkpoint import WEIGHTS

ROOT = Path(__file__).resolve().parents[2]
_NAMES = ("chromium", "chromium-browser", "google-chrome")
expect.set_options(timeout=30_000)  # a slow machine is not an error
CHROMIUM = next((path for path in map(shutil.which, _NAMES) if path), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
# A deep link makes Streamlit ask for its own routes below the page first; it finds them at the root afterwards.
_HARMLESS = ("/_stcore/health", "/_stcore/host-config")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs a browser; without one it is skipped with the reason."""
    reason = None
    if CHROMIUM is None:
        reason = "no Chromium found (looked for chromium, chromium-browser, google-chrome)"
    elif not any(WEIGHTS.glob("*.safetensors")) and "REALITY_CHECK_DEFAULT_CHECKPOINT" not in os.environ:
        reason = "no bundled checkpoint is installed"
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@dataclass
class Server:
    """A running application."""

    url: str
    log: Path
    data: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The application on a free port."""
    with serving(tmp_path_factory.mktemp("server")) as started:
        yield started


@contextmanager
def serving(home: Path, **settings: str) -> Iterator[Server]:
    """The application on a free port with settings by name; its log is printed when it does not start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = home / "server.log"
    own = {f"REALITY_CHECK_{name.upper()}": value for name, value in settings.items()}
    environment = os.environ | {"REALITY_CHECK_DATA_DIR": str(home / "data")} | own
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "dashboard" / "app.py"), "--server.port", str(port)]
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"{url}/api/ready", timeout=2) as response:
                    if response.status == 200:
                        break
            except OSError:
                time.sleep(0.3)
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"the server did not become ready:\n{log.read_text()}")
        yield Server(url, log, home / "data")
    finally:
        process.terminate()
        process.wait(20)


@dataclass
class Watch:
    """What a page did that it should not."""

    url: str
    problems: list[str] = field(default_factory=list)

    def attach(self, page: Page) -> None:
        """Note console errors, failed responses and requests to other hosts."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        page.on("request", self._request)
        page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        location = str(message.location.get("url", ""))
        if message.type == "error" and not location.endswith(_HARMLESS):
            self.problems.append(f"console: {message.text} ({location})")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:", "blob:", self.url.replace("http", "ws"))):
            self.problems.append(f"another host: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 400 and not response.url.endswith(_HARMLESS):
            self.problems.append(f"{response.status}: {response.url}")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all tests."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def appearance(request: pytest.FixtureRequest) -> str:
    """Both themes, for tests that ask for it."""
    return request.param


@pytest.fixture
def width() -> int:
    """Width of the window; tests may override it."""
    return 1280


@pytest.fixture
def visitor(server: Server, chromium: Browser, width: int) -> Iterator[Page]:
    """A page whose console and network are watched; the test fails on anything amiss."""
    context = chromium.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(60_000)
    watch = Watch(server.url)
    watch.attach(page)
    yield page
    context.close()
    assert watch.problems == [], f"server log:\n{server.log.read_text()[-4000:]}"
