"""The server: security headers, upload quotas, a readiness route and the preloaded network around `main.py`.

`reality-check app`, `streamlit run dashboard/app.py` and `uvicorn dashboard.app:app` all start this application.
`streamlit run dashboard/main.py` works too, without what is added here.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.settings import get_settings

_log = logging.getLogger(__name__)
_UPLOAD = re.compile(r"/_stcore/upload_file/(?P<session>[^/]+)/(?P<file>[^/]+)/?$")


def content_security_policy() -> str:
    """The policy for every page: nothing from any other host, and no script but Streamlit's own.

    The hash is that of the inline script in the installed Streamlit's start page, so it follows upgrades.
    """
    page = (Path(st.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(["'self'", *(f"'sha256-{value}'" for value in hashes)])
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src {allowed}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "media-src 'self' blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


class SecurityHeaders:
    """Adds the security headers to every HTTP response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        headers = {
            "content-security-policy": content_security_policy(),
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "referrer-policy": "no-referrer",
            "permissions-policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
            "cross-origin-opener-policy": "same-origin",
        }
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._names = {name for name, _ in self._headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [entry for entry in message.get("headers", []) if entry[0].lower() not in self._names]
                message = {**message, "headers": [*kept, *self._headers]}
            await send(message)

        await self.app(scope, receive, send_with_headers)


class UploadQuota:
    """Limits the files and bytes that one browser session may send within an hour.

    Streamlit limits single files only. Uploads are counted while they arrive, whatever their headers claim, and given
    back when they are deleted or fail. Streamlit drops the files of a page that was left without telling anyone, so
    a file counts for `window_seconds` and not for as long as its session lives.

    Parameters
    ----------
    max_files : int
    max_bytes : int
    window_seconds : float
        Time for which a file counts.
    max_sessions : int
        Sessions remembered; the one that was idle longest is forgotten first.
    """

    def __init__(
        self, app: ASGIApp, *, max_files: int, max_bytes: int, window_seconds: float = 3600, max_sessions: int = 10_000
    ) -> None:
        self.app = app
        self.max_files = max_files
        self.max_bytes = max_bytes
        self.window_seconds = window_seconds
        self.max_sessions = max_sessions
        self._sent: OrderedDict[str, dict[str, _Sent]] = OrderedDict()  # session -> file -> what was sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        match = _UPLOAD.search(scope["path"]) if scope["type"] == "http" else None
        if match is None or scope["method"] not in ("PUT", "DELETE"):
            await self.app(scope, receive, send)
            return
        files = self._files(match["session"])
        name = match["file"]
        status, refused = 0, False

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        if scope["method"] == "DELETE":
            await self.app(scope, receive, watched)
            if status < 400:
                files.pop(name, None)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        announced = int(declared) if declared.isdigit() else 0
        others = sum(sent.size for key, sent in files.items() if key != name)
        if len(files.keys() | {name}) > self.max_files or others + announced > self.max_bytes:
            await self._refuse(scope, receive, send)
            return
        mine = files[name] = _Sent(time.monotonic(), announced)
        received = 0

        async def counted() -> Message:
            nonlocal received, refused
            message = await receive()
            received += len(message.get("body", b""))
            mine.size = max(announced, received)
            if sum(sent.size for sent in files.values()) > self.max_bytes:
                refused = True
                return {"type": "http.disconnect"}
            return message

        try:
            await self.app(scope, counted, watched)
        except Exception:
            if not refused or status:
                files.pop(name, None)
                raise
        if refused and not status:
            await self._refuse(scope, receive, send)
        if refused or status >= 400:
            files.pop(name, None)

    def _files(self, session: str) -> dict[str, _Sent]:
        """What a session sent lately; the session becomes the one seen last."""
        oldest = time.monotonic() - self.window_seconds
        kept = {name: sent for name, sent in self._sent.pop(session, {}).items() if sent.at > oldest}
        self._sent[session] = kept
        while len(self._sent) > self.max_sessions:
            self._sent.popitem(last=False)
        return kept

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = (
            f"A session may send {self.max_files:,} files and {self.max_bytes / 2**20:,.0f} MB within an hour. Remove "
            "some, or pack the images as one ZIP file."
        )
        await JSONResponse({"error": message}, status_code=413)(scope, receive, send)


@dataclass
class _Sent:
    """One upload: when it came, and its bytes."""

    at: float
    size: int


async def ready(request: Request) -> JSONResponse:
    """200 when the network is loaded and the queue works; 503 with the reason until then."""
    error = app.state.get("error")
    if error or not app.state.get("ready"):
        return JSONResponse({"ready": False, "reason": error or "starting"}, status_code=503)
    return JSONResponse({"ready": True, "checkpoint": app.state["checkpoint"]})


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[dict[str, Any]]:
    """Load the network before the first visitor; end the queue, and delete its files, at shutdown."""
    from dashboard import resources  # cached functions are decorated once the runtime is up

    state: dict[str, Any] = {"ready": False, "error": None, "checkpoint": None}
    if get_settings().preload:
        try:
            loaded = await anyio.to_thread.run_sync(resources.detector)
            state |= {"ready": True, "checkpoint": loaded.checkpoint.name}
        except Exception as error:  # noqa: BLE001 - the pages explain it; a dead server could not
            _log.exception("the default checkpoint could not be loaded")
            state["error"] = f"{type(error).__name__}: the default checkpoint could not be loaded"
    else:
        state |= {"ready": True}
    queue = resources.job_queue()
    try:
        yield state
    finally:
        await anyio.to_thread.run_sync(queue.close)


def _middleware() -> list[Middleware]:
    settings = get_settings()
    return [
        Middleware(SecurityHeaders),
        Middleware(
            UploadQuota,
            max_files=settings.session_upload_files,
            max_bytes=settings.session_upload_mb * 2**20,
        ),
    ]


app = st.App(
    Path(__file__).resolve().parent / "main.py",
    routes=[Route("/api/ready", ready)],
    middleware=_middleware(),
    lifespan=lifespan,
)

if __name__ == "__main__":
    app.run()
