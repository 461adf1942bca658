"""The ASGI pieces around Streamlit, without a server."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from dashboard.app import SecurityHeaders, UploadQuota, content_security_policy


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
    monkeypatch.setattr("dashboard.app.time", SimpleNamespace(monotonic=lambda: later))
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
