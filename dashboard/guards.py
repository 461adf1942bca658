"""What stands around Streamlit on the server: headers, a visitor's cookie, limits on uploads, bodies and visitors.

Each class is an ASGI middleware that knows nothing of the others; `dashboard.app` puts them together.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import streamlit as st
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config

COOKIE = "reality_check_visitor"
SECURE_COOKIE = f"__Host-{COOKIE}"  # a browser takes this name over TLS, from this very host and for no other only
_COOKIE_SECONDS = 400 * 86400  # the most that browsers keep; renewed at every visit
_TOKEN = re.compile(r"[\w-]{43}", re.ASCII)
_UPLOAD = re.compile(r"/_stcore/upload_file/(?P<session>[^/]+)/(?P<file>[^/]+)/?$")
_CLOSED = re.compile(r"/_stcore/(metrics|script-health-check)/?$")
_FRAME_BYTES = 4096  # what multipart puts around the bytes of a file
_log = logging.getLogger(__name__)


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
    """Adds the security headers to every HTTP response; over TLS also the order to come back over TLS only.

    Pictures and downloads (`/media/`) are for nobody's cache: not the proxy's, and not that of a shared computer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._always = _encoded(
            {
                "content-security-policy": content_security_policy(),
                "x-content-type-options": "nosniff",
                "x-frame-options": "DENY",
                "referrer-policy": "no-referrer",
                "permissions-policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
                "cross-origin-opener-policy": "same-origin",
                "cross-origin-resource-policy": "same-origin",
            }
        )
        self._media = _encoded({"cache-control": "private, no-store"})
        self._tls = _encoded({"strict-transport-security": "max-age=31536000"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = [*self._always]
        headers += self._media if "/media/" in scope["path"] else []
        headers += self._tls if over_tls(scope) else []
        names = {name for name, _ in headers}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [entry for entry in message.get("headers", []) if entry[0].lower() not in names]
                message = {**message, "headers": [*kept, *headers]}
            await send(message)

        await self.app(scope, receive, send_with_headers)


class VisitorCookie:
    """Gives every browser a secret of its own, by which its runs are known again (`dashboard.people`).

    The secret is 32 random bytes that scripts cannot read and other sites cannot send. A connection without one, from
    a browser that refuses cookies, gets one that lasts as long as the connection, so that such visitors share nothing.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        secure = over_tls(scope)
        token = token_of(_cookies(scope), secure=secure)
        if scope["type"] == "websocket":
            if token is None:
                scope = {**scope, "headers": _with_token(scope, secrets.token_urlsafe(32))}
            await self.app(scope, receive, send)
            return
        text = f"{SECURE_COOKIE if secure else COOKIE}={token or secrets.token_urlsafe(32)}; Path=/; "
        text += f"Max-Age={_COOKIE_SECONDS}; HttpOnly; SameSite=Lax{'; Secure' if secure else ''}"

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_page(message):
                message = {**message, "headers": [*message["headers"], (b"set-cookie", text.encode())]}
            await send(message)

        await self.app(scope, receive, send_with_cookie if scope["method"] == "GET" else send)


def token_of(cookies: Iterable[tuple[str, str]] | dict[str, str], *, secure: bool = False) -> str | None:
    """The visitor's secret among cookies; the one that was set over TLS wins. None without one of the right form.

    `secure` takes that one alone: the other may have been planted by whoever can write plain HTTP to this browser, or
    by another host of the same domain, and its maker would know the visitor's secret.
    """
    found = dict(cookies)
    names = (SECURE_COOKIE,) if secure else (SECURE_COOKIE, COOKIE)
    return next((found[name] for name in names if _TOKEN.fullmatch(found.get(name, ""))), None)


def over_tls(scope: Scope) -> bool:
    """Whether the browser speaks TLS, to this server or to the proxy before it.

    A visitor who claims so without TLS gets a cookie that the own browser refuses, and harms nobody else.
    """
    forwarded = dict(scope["headers"]).get(b"x-forwarded-proto", b"").split(b",")[0].strip()
    return scope.get("scheme") in ("https", "wss") or forwarded in (b"https", b"wss")


class SameOrigin:
    """Refuses WebSockets that a page of another host opens, unless Streamlit's options name that host.

    Streamlit refuses them too, but first asks a host on the internet for this server's own address, and keeps every
    visitor waiting for the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "websocket" or _same_origin(dict(scope["headers"])):
            await self.app(scope, receive, send)
            return
        _log.warning("a WebSocket from a page of another host was refused")
        await receive()
        await send({"type": "websocket.close", "code": 1008})


def _same_origin(headers: dict[bytes, bytes]) -> bool:
    origin = headers.get(b"origin", b"").decode("latin-1")  # without one, it is no browser
    if not origin or not st.get_option("server.enableCORS") or origin in st.get_option("server.corsAllowedOrigins"):
        return True
    try:
        place = urlsplit(origin)
        named = st.get_option("browser.serverAddress") if config.is_manually_set("browser.serverAddress") else None
        return place.netloc == headers.get(b"host", b"").decode("latin-1") or place.hostname == (named or "")
    except ValueError:
        return False


class ClosedRoutes:
    """Answers 404 where Streamlit would tell any visitor about the server: its metrics and its script check."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and _CLOSED.search(scope["path"]):
            await PlainTextResponse("Not Found", status_code=404)(scope, receive, send)
            return
        await self.app(scope, receive, send)


class BodyLimit:
    """Refuses requests with a body of more than `max_bytes` anywhere but at the upload route, which has a quota."""

    def __init__(self, app: ASGIApp, *, max_bytes: int = 2**20) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or _UPLOAD.search(scope["path"]):
            await self.app(scope, receive, send)
            return
        if _announced(scope) > self.max_bytes:
            await JSONResponse({"error": "The request is too large."}, status_code=413)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message if received <= self.max_bytes else {"type": "http.disconnect"}

        await self.app(scope, counted, send)


class VisitorLimit:
    """Refuses new browser tabs when `max_visitors` are connected: those who are there keep working."""

    def __init__(self, app: ASGIApp, *, max_visitors: int) -> None:
        self.app = app
        self.max_visitors = max_visitors
        self._connected = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        if self._connected >= self.max_visitors:
            await receive()
            await send({"type": "websocket.close", "code": 1013, "reason": "Too many visitors. Try again later."})
            return
        self._connected += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._connected -= 1


class UploadQuota:
    """Limits what one browser session may send within an hour, and what all of them may hold at a time.

    Streamlit limits single files only, after it has taken them into memory. Uploads are counted while they arrive,
    whatever their headers claim, and given back when they are deleted or fail. Streamlit drops the files of a page that
    was left without telling anyone, so a file counts for `window_seconds` and not for as long as its session lives.

    Parameters
    ----------
    max_files, max_bytes : int
        Of one session, within the window.
    max_file_bytes : int, optional
        Of one file.
    max_held_bytes : int, optional
        Of all sessions, at a time; `held` tells how many bytes there are in memory.
    known : callable, optional
        Whether a session is that of a visitor who was let in; nobody else may send anything.
    window_seconds : float
        Time for which a file counts.
    deadline_seconds : float
        Within which one upload has to arrive.
    max_sessions : int
        Sessions remembered; the one that was idle longest is forgotten first.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_files: int,
        max_bytes: int,
        max_file_bytes: int | None = None,
        max_held_bytes: int | None = None,
        held: Callable[[], int] = lambda: 0,
        known: Callable[[str], bool] = lambda session: True,
        window_seconds: float = 3600,
        deadline_seconds: float = 900,
        max_sessions: int = 10_000,
    ) -> None:
        self.app = app
        self.max_files = max_files
        self.max_bytes = max_bytes
        self.max_file_bytes = max_file_bytes or max_bytes
        self.max_held_bytes = max_held_bytes
        self.held = held
        self.known = known
        self.window_seconds = window_seconds
        self.deadline_seconds = deadline_seconds
        self.max_sessions = max_sessions
        self._arriving = 0  # bytes of uploads that are on their way
        self._sent: OrderedDict[str, dict[str, _Sent]] = OrderedDict()  # session -> file -> what was sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        match = _UPLOAD.search(scope["path"]) if scope["type"] == "http" else None
        if match is None or scope["method"] not in ("PUT", "DELETE"):
            await self.app(scope, receive, send)
            return
        if not self.known(match["session"]):
            await self._refuse("Open the page anew.", scope, receive, send, status=403)
            return
        files, name = self._files(match["session"]), match["file"]
        upload = _Upload(send)
        if scope["method"] == "DELETE":
            await self.app(scope, receive, upload.send)
            if upload.status < 400:
                files.pop(name, None)
            return
        announced = _announced(scope)
        others = sum(sent.size for key, sent in files.items() if key != name)
        if len(files.keys() | {name}) > self.max_files or others + announced > self.max_bytes:
            await self._refuse(self._over_quota(), scope, receive, send)
            return
        if announced > self.max_file_bytes + _FRAME_BYTES:
            await self._refuse(self._too_large(), scope, receive, send)
            return
        if self._full(announced):
            await self._refuse(_FULL, scope, receive, send, status=503)
            return
        mine = files[name] = _Sent(time.monotonic(), announced)
        self._arriving += announced
        counted_here = announced
        received = 0

        async def counted() -> Message:
            nonlocal received, counted_here
            message = await receive()
            received += len(message.get("body", b""))
            mine.size = max(announced, received)
            self._arriving += mine.size - counted_here
            counted_here = mine.size
            if received > self.max_file_bytes + _FRAME_BYTES:
                upload.refusal = self._too_large()
            elif sum(sent.size for sent in files.values()) > self.max_bytes:
                upload.refusal = self._over_quota()
            elif received > announced and self._full():
                upload.refusal = _FULL
            return {"type": "http.disconnect"} if upload.refusal else message

        try:
            with anyio.move_on_after(self.deadline_seconds) as deadline:
                await self.app(scope, counted, upload.send)
        except Exception:
            if not upload.refusal or upload.status:
                files.pop(name, None)
                raise
        finally:
            self._arriving -= counted_here
        if deadline.cancelled_caught:
            upload.refusal = f"The upload did not arrive within {self.deadline_seconds:,.0f} seconds. Try again."
        if upload.refusal and not upload.status:
            status = 408 if deadline.cancelled_caught else 503 if upload.refusal == _FULL else 413
            await self._refuse(upload.refusal, scope, receive, send, status=status)
        if upload.refusal or upload.status >= 400:
            files.pop(name, None)

    def _files(self, session: str) -> dict[str, _Sent]:
        """What a session sent lately; the session becomes the one seen last."""
        oldest = time.monotonic() - self.window_seconds
        files = self._sent.setdefault(session, {})  # the same for uploads that overlap: each gives back to it
        for name in [name for name, sent in files.items() if sent.at <= oldest]:
            del files[name]
        self._sent.move_to_end(session)
        while len(self._sent) > self.max_sessions:
            self._sent.popitem(last=False)
        return files

    def _full(self, more: int = 0) -> bool:
        """Whether all sessions hold too much, with `more` bytes."""
        return self.max_held_bytes is not None and self.held() + self._arriving + more > self.max_held_bytes

    def _over_quota(self) -> str:
        return (
            f"A session may send {self.max_files:,} files and {self.max_bytes / 2**20:,.0f} MB within an hour. Remove "
            "some, or pack the images as one ZIP file."
        )

    def _too_large(self) -> str:
        return f"A file may have {self.max_file_bytes / 2**20:,.0f} MB. Split it."

    async def _refuse(self, message: str, scope: Scope, receive: Receive, send: Send, status: int = 413) -> None:
        headers = {"retry-after": "60"} if status == 503 else None
        await JSONResponse({"error": message}, status_code=status, headers=headers)(scope, receive, send)


_FULL = "The server holds as many uploads as it can. Try again in some minutes."


@dataclass
class _Sent:
    """One upload: when it came, and its bytes."""

    at: float
    size: int


class _Upload:
    """The answer to an upload on its way out: its status, and why it was broken off."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.refusal: str | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _announced(scope: Scope) -> int:
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    return int(declared) if declared.isdigit() else 0


def _cookies(scope: Scope) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in scope["headers"]:
        if name == b"cookie":
            for part in value.decode("latin-1").split(";"):
                key, _, text = part.strip().partition("=")
                found.append((key, text))
    return found


def _with_token(scope: Scope, token: str) -> list[tuple[bytes, bytes]]:
    """The headers with this token as the only one: a malformed one of the visitor's must not stand beside it."""
    kept = [f"{name}={value}" for name, value in _cookies(scope) if name not in (COOKIE, SECURE_COOKIE)]
    cookie = "; ".join([*kept, f"{COOKIE}={token}"])
    return [entry for entry in scope["headers"] if entry[0] != b"cookie"] + [(b"cookie", cookie.encode("latin-1"))]


def _is_page(message: Message) -> bool:
    return any(name.lower() == b"content-type" and b"text/html" in value for name, value in message.get("headers", []))
