"""The ASGI pieces around Streamlit, nearly all without a server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
import streamlit
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from benchmarks.analyst import Analyst
from benchmarks.load import Served, server
from dashboard import memory
from dashboard.app import middleware
from dashboard.guards import (
    COOKIE,
    BodyLimit,
    ClosedRoutes,
    SameOrigin,
    SecurityHeaders,
    UploadQuota,
    VisitorCookie,
    VisitorLimit,
    content_security_policy,
    token_of,
)
from dashboard.server import ServerError, configuration
from dashboard.settings import Settings
from dashboard.store import RunStore


async def _put(request: Request) -> PlainTextResponse:
    await request.body()
    return PlainTextResponse("stored", status_code=int(request.query_params.get("status", "204")))


async def _delete(request: Request) -> PlainTextResponse:
    return PlainTextResponse("", status_code=int(request.query_params.get("status", "204")))


ROUTES = [
    Route("/", lambda request: PlainTextResponse("hello", headers={"X-Frame-Options": "SAMEORIGIN"})),
    Route("/_stcore/upload_file/{session}/{file}", _put, methods=["PUT"]),
    Route("/_stcore/upload_file/{session}/{file}", _delete, methods=["DELETE"]),
]


@pytest.fixture
def client() -> TestClient:
    middleware = [Middleware(SecurityHeaders), Middleware(UploadQuota, max_files=2, max_bytes=100)]
    return TestClient(Starlette(routes=ROUTES, middleware=middleware))


def put(client: TestClient, session: str, name: str, size: int, **options: str) -> int:
    return client.put(f"/_stcore/upload_file/{session}/{name}", content=b"x" * size, params=options).status_code


def test_every_response_carries_the_security_headers_once(client: TestClient) -> None:
    headers = client.get("/").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers.get_list("x-frame-options") == ["DENY"]
    assert headers["referrer-policy"] == "no-referrer"
    assert "camera=(self)" in headers["permissions-policy"]
    assert headers["content-security-policy"] == content_security_policy()
    assert "content-security-policy" in client.get("/missing").headers


def test_the_policy_names_no_other_host_and_allows_the_inline_script_by_hash() -> None:
    policy = content_security_policy()
    assert not re.search(r"https?:|\*|'unsafe-eval'", policy)
    scripts = policy.split("script-src")[1].split(";")[0]
    assert "'unsafe-inline'" not in scripts
    page = (Path(streamlit.__file__).parent / "static" / "index.html").read_text("utf-8")
    inline = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    assert inline
    for script in inline:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in scripts


def test_files_and_bytes_are_limited_per_session(client: TestClient) -> None:
    assert put(client, "a", "1", 60) == 204
    assert put(client, "a", "2", 60) == 413  # 120 bytes
    assert put(client, "a", "2", 40) == 204
    assert put(client, "a", "3", 0) == 413  # a third file
    assert put(client, "b", "1", 100) == 204


def test_deleting_gives_the_room_back(client: TestClient) -> None:
    assert put(client, "a", "1", 100) == 204
    assert put(client, "a", "2", 1) == 413
    client.delete("/_stcore/upload_file/a/1")
    assert put(client, "a", "2", 100) == 204


def test_a_file_counts_for_an_hour(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert put(client, "a", "1", 100) == 204
    assert put(client, "a", "2", 1) == 413
    later = time.monotonic() + 3601
    monkeypatch.setattr("dashboard.guards.time", SimpleNamespace(monotonic=lambda: later))
    assert put(client, "a", "2", 100) == 204


def test_a_delete_that_is_refused_gives_nothing_back(client: TestClient) -> None:
    assert put(client, "a", "1", 100) == 204
    assert client.delete("/_stcore/upload_file/a/1", params={"status": "403"}).status_code == 403
    assert put(client, "a", "2", 1) == 413


def test_sending_a_file_again_counts_once(client: TestClient) -> None:
    for _ in range(3):
        assert put(client, "a", "1", 90) == 204


def test_a_refused_upload_takes_no_room(client: TestClient) -> None:
    assert put(client, "a", "1", 90, status="400") == 400
    assert put(client, "a", "2", 100) == 204


def test_bytes_are_counted_whatever_the_header_says(client: TestClient) -> None:
    def body() -> Iterator[bytes]:  # sent in chunks, without a length
        for _ in range(30):
            yield b"x" * 10

    response = client.put("/_stcore/upload_file/a/1", content=body())
    assert response.status_code == 413
    assert "one ZIP file" in response.json()["error"]
    assert put(client, "a", "2", 100) == 204


def test_one_file_and_all_sessions_together_are_limited() -> None:
    held = [0]
    limits = {"max_files": 9, "max_bytes": 50_000, "max_file_bytes": 10_000, "max_held_bytes": 30_000}
    middleware = [Middleware(UploadQuota, held=lambda: held[0], **limits)]
    client = TestClient(Starlette(routes=ROUTES, middleware=middleware))
    assert put(client, "a", "1", 10_000) == 204
    assert put(client, "a", "2", 20_000) == 413
    held[0] = 25_000
    refused = client.put("/_stcore/upload_file/b/1", content=b"x" * 9_000)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
    held[0] = 0
    assert put(client, "b", "1", 9_000) == 204  # what was refused left nothing behind


def test_all_sessions_together_are_limited_whatever_the_headers_say() -> None:
    middleware = [Middleware(UploadQuota, max_files=9, max_bytes=50_000, max_held_bytes=30_000, held=lambda: 25_000)]
    client = TestClient(Starlette(routes=ROUTES, middleware=middleware))
    response = client.put("/_stcore/upload_file/a/1", content=(b"x" * 1000 for _ in range(20)))  # without a length
    assert (response.status_code, response.headers["retry-after"]) == (503, "60")
    assert put(client, "a", "1", 5_000) == 204


def test_who_was_not_let_in_sends_nothing_and_makes_nobody_forgotten() -> None:
    options = {"max_files": 9, "max_bytes": 100, "known": {"a"}.__contains__, "max_sessions": 5}
    client = TestClient(Starlette(routes=ROUTES, middleware=[Middleware(UploadQuota, **options)]))
    assert put(client, "a", "1", 90) == 204
    assert {put(client, f"forged{number}", "1", 1) for number in range(6)} == {403}
    assert client.delete("/_stcore/upload_file/forged/1").status_code == 403
    assert put(client, "a", "2", 90) == 413
    served = next(entry for entry in middleware(Settings()) if entry.cls is UploadQuota)
    known = served.kwargs["known"]
    memory.tabs.seen("tab", "ada")
    assert known("tab") and not known("stranger")
    memory.tabs.keep(set())


def test_a_file_that_is_larger_than_it_says_is_broken_off() -> None:
    middleware = [Middleware(UploadQuota, max_files=9, max_bytes=10**6, max_file_bytes=100)]
    client = TestClient(Starlette(routes=ROUTES, middleware=middleware))
    response = client.put("/_stcore/upload_file/a/1", content=(b"x" * 1000 for _ in range(50)))
    assert response.status_code == 413
    assert "Split it" in response.json()["error"]


def test_an_upload_that_does_not_arrive_is_given_up() -> None:
    async def run() -> list[dict]:
        async def app(scope: dict, receive, send) -> None:
            await Starlette(routes=ROUTES)(scope, receive, send)

        guard = UploadQuota(app, max_files=9, max_bytes=100, deadline_seconds=0.05)
        sent: list[dict] = []

        async def receive() -> dict:
            await anyio.sleep(10)
            raise AssertionError

        async def send(message: dict) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "PUT",
            "path": "/_stcore/upload_file/a/1",
            "headers": [(b"content-length", b"90")],
            "query_string": b"",
        }
        await guard(scope, receive, send)
        assert guard._arriving == 0
        assert not guard._sent["a"]
        return sent

    assert anyio.run(run)[0]["status"] == 408


def test_uploads_that_overlap_give_back_to_one_account() -> None:
    async def run() -> list[int]:
        answers: list[int] = []
        began, go_on = anyio.Event(), anyio.Event()

        async def app(scope: dict, receive, send) -> None:
            if scope["path"].endswith("/slow"):
                began.set()
                await go_on.wait()
            status = 500 if scope["path"].endswith("/slow") else 204
            await send({"type": "http.response.start", "status": status, "headers": []})

        async def put(name: str, size: int) -> None:
            async def receive() -> dict:
                return {"type": "http.request", "body": b""}

            async def send(message: dict) -> None:
                if message["type"] == "http.response.start":
                    answers.append(message["status"])

            path, length = f"/_stcore/upload_file/a/{name}", str(size).encode()
            headers = [(b"content-length", length)]
            await guard({"type": "http", "method": "PUT", "path": path, "headers": headers}, receive, send)

        guard = UploadQuota(app, max_files=9, max_bytes=100)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(put, "slow", 60)
            await began.wait()
            await put("quick", 30)  # asks for the account while the first is on its way
            go_on.set()
        await put("next", 70)  # there is room: the first has failed
        return answers

    assert anyio.run(run) == [204, 500, 204]


def test_bodies_elsewhere_are_limited() -> None:
    routes = [Route("/", _put, methods=["POST"])]
    client = TestClient(Starlette(routes=routes, middleware=[Middleware(BodyLimit, max_bytes=100)]))
    assert client.post("/", content=b"x" * 100).status_code == 204
    assert client.post("/", content=b"x" * 101).status_code == 413
    with pytest.raises(ClientDisconnect):
        client.post("/", content=(b"x" * 60 for _ in range(2)))


def test_metrics_are_closed() -> None:
    routes = [Route("/_stcore/metrics", lambda request: PlainTextResponse("secret"))]
    client = TestClient(Starlette(routes=routes, middleware=[Middleware(ClosedRoutes)]))
    for path in ("/_stcore/metrics", "/_stcore/metrics/", "/base/_stcore/script-health-check"):
        assert client.get(path).status_code == 404
    kinds = [entry.cls for entry in middleware(Settings())]
    assert ClosedRoutes in kinds
    assert ClosedRoutes not in [entry.cls for entry in middleware(Settings(open_metrics=True))]


def _visitors(limit: int = 10) -> TestClient:
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json(dict(websocket.cookies))
        with suppress(WebSocketDisconnect):
            await websocket.receive_text()

    routes = [
        Route("/", lambda request: HTMLResponse("<p>")),
        Route("/data", lambda request: PlainTextResponse("x")),
        WebSocketRoute("/ws", echo),
    ]
    guards = [Middleware(VisitorCookie), Middleware(VisitorLimit, max_visitors=limit)]
    return TestClient(Starlette(routes=routes, middleware=guards))


def test_a_browser_gets_a_secret_that_only_this_server_reads() -> None:
    client = _visitors()
    text = client.get("/").headers["set-cookie"]
    name, _, token = text.split(";")[0].partition("=")
    assert (name, len(token)) == (COOKIE, 43)
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(map(str.strip, text.split(";")))
    assert "Secure" not in text
    assert client.get("/").headers["set-cookie"].startswith(f"{COOKIE}={token}")  # the same, for longer
    assert "set-cookie" not in client.get("/data").headers
    with client.websocket_connect("/ws") as tab:
        assert tab.receive_json() == {COOKIE: token}
    over_tls = client.get("/", headers={"x-forwarded-proto": "https"}).headers["set-cookie"]
    assert over_tls.startswith(f"__Host-{COOKIE}=") and over_tls.endswith("; Secure")


def test_over_tls_a_secret_that_plain_http_could_plant_counts_for_nothing() -> None:
    tls, planted = {"x-forwarded-proto": "https"}, "p" * 43
    for cookie in (f"{COOKIE}={planted}", f"__Host-{COOKIE}=broken; {COOKIE}={planted}"):
        headers = tls | {"cookie": cookie}
        assert planted not in _visitors().get("/", headers=headers).headers["set-cookie"]
        with _visitors().websocket_connect("/ws", headers=headers) as tab:
            assert token_of(tab.receive_json()) not in (None, planted)
    own = tls | {"cookie": f"{COOKIE}={planted}; __Host-{COOKIE}={'s' * 43}"}
    with _visitors().websocket_connect("/ws", headers=own) as tab:
        assert token_of(tab.receive_json()) == "s" * 43


@pytest.mark.parametrize(
    ("origin", "welcome"),
    [
        (None, True),
        ("https://faces.example.org", True),
        ("https://evil.example", False),
        ("https://faces.example.org.evil.example", False),
        ("http://localhost:9999", False),
        ("https://[", False),
        ("null", False),
        ("https://friend.example", True),
        ("https://public.example", True),
    ],
)
def test_a_page_of_another_host_opens_nothing_and_makes_the_server_ask_nobody(
    origin: str | None, welcome: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"server.enableCORS": True, "server.corsAllowedOrigins": ["https://friend.example"]}
    options |= {"browser.serverAddress": "public.example"}
    monkeypatch.setattr("dashboard.guards.st.get_option", options.__getitem__)
    monkeypatch.setattr("dashboard.guards.config.is_manually_set", lambda name: True)

    async def tab(websocket: WebSocket) -> None:
        await websocket.accept()

    client = TestClient(Starlette(routes=[WebSocketRoute("/ws", tab)], middleware=[Middleware(SameOrigin)]))
    headers = {"host": "faces.example.org"} | ({} if origin is None else {"origin": origin})
    if welcome:
        with client.websocket_connect("/ws", headers=headers):
            return
    with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect("/ws", headers=headers):
        pass
    assert caught.value.code == 1008
    assert SameOrigin in [entry.cls for entry in middleware(Settings())]


@pytest.mark.parametrize("cookie", [None, f"{COOKIE}=guessed", f"x=1; {COOKIE}=", f'"; {COOKIE}=a b'])
def test_who_sends_no_secret_shares_nothing_with_others(cookie: str | None) -> None:
    seen = []
    for _ in range(2):
        headers = {} if cookie is None else {"cookie": cookie}
        with _visitors().websocket_connect("/ws", headers=headers) as tab:
            seen.append(token_of(tab.receive_json()))
    assert None not in seen
    assert seen[0] != seen[1]


def test_visitors_beyond_the_limit_are_sent_away_until_one_leaves() -> None:
    client = _visitors(limit=1)
    with client.websocket_connect("/ws"), pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect("/ws"):
        pass
    assert caught.value.code == 1013
    with client.websocket_connect("/ws") as tab:
        tab.receive_json()


def test_over_tls_the_browser_is_told_to_stay_there(client: TestClient) -> None:
    assert "strict-transport-security" not in client.get("/").headers
    assert "max-age" in client.get("/", headers={"x-forwarded-proto": "https"}).headers["strict-transport-security"]
    assert client.get("/media/x.png").headers["cache-control"] == "private, no-store"


def test_readiness_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    from dashboard import app as server
    from dashboard import resources

    client = TestClient(Starlette(routes=[Route("/api/ready", server.ready)]))
    monkeypatch.setattr(type(server.app), "state", {"ready": True, "error": None, "checkpoint": "tiny"})

    def answer() -> tuple[int, str]:
        response = client.get("/api/ready")
        return response.status_code, response.json().get("reason", "")

    queue = resources.job_queue()
    assert answer() == (200, "")
    monkeypatch.setattr(RunStore, "free", lambda self: 0)
    assert answer() == (503, "the disk is nearly full")
    monkeypatch.undo()
    monkeypatch.setattr(type(server.app), "state", {"ready": True, "error": None, "checkpoint": "tiny"})
    monkeypatch.setattr(RunStore, "check", lambda self: time.sleep(0.5))
    monkeypatch.setattr(server, "CHECK_SECONDS", 0.05)
    assert answer() == (503, "the run folder does not answer")
    monkeypatch.setattr(server, "CHECK_SECONDS", 10)
    queue.close()
    assert answer() == (503, "the queue has ended")
    monkeypatch.setattr(type(server.app), "state", {"ready": False, "error": None})
    assert answer() == (503, "starting")


def test_variables_of_streamlit_win_over_what_is_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMLIT_SERVER_ALLOWED_HOSTS", "a.example.org, b.example.org")
    monkeypatch.setenv("STREAMLIT_SERVER_ENABLE_STATIC_SERVING", "true")
    monkeypatch.setenv("STREAMLIT_SERVER_MAX_UPLOAD_SIZE", "7")
    monkeypatch.setenv("STREAMLIT_SERVER_COOKIE_SECRET", "secret")
    monkeypatch.setenv("STREAMLIT_SERVER_PORT", "9999")
    options = configuration(Settings(), "127.0.0.1", 8501)
    assert options["server.allowedHosts"] == ["a.example.org", "b.example.org"]
    assert options["server.enableStaticServing"] is True
    assert options["server.maxUploadSize"] == 7
    assert options["server.port"] == 8501  # address and port are the command's
    assert "server.cookieSecret" not in options  # Streamlit reads it itself, and refuses it from elsewhere
    assert options["client.showErrorDetails"] == "none"
    monkeypatch.setenv("STREAMLIT_SERVER_MAX_UPLOAD_SIZE", "many")
    with pytest.raises(ServerError, match="STREAMLIT_SERVER_MAX_UPLOAD_SIZE"):
        configuration(Settings(), "127.0.0.1", 8501)


@pytest.mark.skipif(sys.platform != "linux", reason="reads processor time from /proc")
def test_a_page_costs_little_however_much_the_server_has_loaded(tmp_path: Path) -> None:
    runs = 5

    def spent(pid: int) -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def visit(served: Served) -> float:
        analyst = Analyst(served.url)
        await analyst.open()
        await analyst.go("about")
        before = spent(served.process.pid)
        for _ in range(runs):
            await analyst.run()
        after = spent(served.process.pid)
        await analyst.close()
        return after - before

    with server(tmp_path) as served:
        assert asyncio.run(visit(served)) / runs < 0.1  # seconds; 0.2 where garbage is looked for among everything
