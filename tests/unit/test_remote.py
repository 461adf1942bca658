"""Images by URL: listed without being fetched, judged like files, and refused in words."""

from __future__ import annotations

import http.server
import io
import threading
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from dashboard import cli
from model import remote
from model.cluster import _described, _Worker
from model.detector import Detector
from model.remote import RemoteSource, from_url, is_url
from model.sources import SourceError
from tests.support import draw_face, encode

FACE = encode(draw_face())


@pytest.fixture
def store() -> Iterator[fsspec.AbstractFileSystem]:
    """A small object store in memory."""
    files = fsspec.filesystem("memory")
    files.pipe_file("/bucket/set/odd[1].png", FACE)
    for name in ("a.png", "deep/b.jpg", "deep/er/c.png", "deep/.hidden.png", "notes.txt", "old.zip"):
        files.pipe_file(f"/bucket/set/{name}", FACE)
    yield files
    files.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/x", True),
        ("https://host/x.jpg", True),
        ("photos::2024/a.jpg", False),
        ("pictures", False),
        ("/pictures/a://b", False),
        ("C:\\pictures", False),
        ("a:b", False),
    ],
)
def test_urls_are_told_from_paths(text: str, expected: bool) -> None:
    assert is_url(text) is expected


def test_a_folder_is_listed_with_what_is_left_out(store: fsspec.AbstractFileSystem) -> None:
    found = from_url("memory://bucket/set")
    assert [source.name for source in found] == ["a.png", "deep/b.jpg", "deep/er/c.png", "odd[1].png"]
    assert dict(found.skipped).keys() == {"deep/.hidden.png", "notes.txt", "old.zip"}
    assert found.root == "set"
    assert all(source.read() == FACE for source in found)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("memory://bucket/set/deep/*.jpg", ["b.jpg"]),
        ("memory://bucket/set/**/*.png", ["a.png", "deep/er/c.png", "odd[1].png"]),
        ("memory://bucket/set/deep/b.jpg", ["b.jpg"]),
        ("memory://bucket/set/odd[1].png", ["odd[1].png"]),
    ],
)
def test_patterns_and_single_files(store: fsspec.AbstractFileSystem, pattern: str, expected: list[str]) -> None:
    assert [source.name for source in from_url(pattern)] == expected


def test_a_signed_address_is_one_file_whatever_stands_in_its_query(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_files", lambda url: (None, url))  # nothing is asked
    (found,) = from_url("https://host.invalid/deep/a.jpg?sig=*x/y.html")
    assert (found.name, found.url) == ("a.jpg", "https://host.invalid/deep/a.jpg?sig=*x/y.html")


@pytest.fixture
def packed(tmp_path: Path, store: fsspec.AbstractFileSystem) -> Path:
    """An archive of three pictures and a text, here and in the store."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("x.png", "y.jpg", "deep/z.png", "notes.txt"):
            archive.writestr(name, FACE)
    store.pipe_file("/bucket/a.zip", path.read_bytes())
    return path


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("zip://x.png", ["x.png"]),
        ("zip://*.png", ["x.png"]),
        ("zip://**/*.png", ["deep/z.png", "x.png"]),
        ("zip://deep", ["z.png"]),
        ("zip://", ["deep/z.png", "x.png", "y.jpg"]),
        ("simplecache://", []),  # of the archive itself
    ],
)
@pytest.mark.parametrize("rest", ["{}", "file://{}", "memory://bucket/a.zip", "simplecache::memory://bucket/a.zip"])
def test_chained_urls_are_listed_and_read(packed: Path, first: str, expected: list[str], rest: str) -> None:
    found = from_url(f"{first}::{rest.format(packed)}")
    assert [source.name for source in found] == expected
    assert [source.read() for source in found] == [FACE] * len(expected)
    assert all(source.read() == FACE for source in sent_over(found))


def sent_over(sources: Iterable[RemoteSource]) -> list[RemoteSource]:
    """The same sources as a worker of a cluster makes them out of what it is sent."""
    described = [_described(source) for source in sources]
    return [RemoteSource(item["name"], item["location"], item["member"] or None) for item in described]


def test_an_archive_is_opened_once_for_its_images_and_again_when_listed_again(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, url = [], f"zip://*::{packed}"

    class Opened(zipfile.ZipFile):
        def __init__(self, *about, **more) -> None:
            opened.append(about)
            super().__init__(*about, **more)

    monkeypatch.setattr(zipfile, "ZipFile", Opened)
    for source in [*from_url(url)] * 3:
        source.read()
    assert len(opened) == 2  # to list, and to read
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x.png", b"another")
    assert [source.read() for source in from_url(url)] == [b"another"]


def test_chained_urls_that_lead_nowhere_are_refused_in_words(packed: Path) -> None:
    with pytest.raises(SourceError, match=r"zip://\*\.png::memory://bucket/gone\.zip: cannot be opened"):
        from_url("zip://*.png::memory://bucket/gone.zip")
    with pytest.raises(SourceError, match="cannot be listed"):
        from_url(f"zip://gone.png::{packed}")
    (source,) = from_url(f"zip://x.png::{packed}")
    with pytest.raises(SourceError, match="x.png: is larger than 10 bytes"):
        source.read(max_bytes=10)


class Endless(fsspec.AbstractFileSystem):
    """A web server that sends all of a file, whatever range it is asked for, in pieces of its own choice."""

    protocol = ("http", "https")
    sent = 0

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **more: object) -> bytes:
        with self.open(path) as stream:
            return b"".join(iter(lambda: stream.read(2**16), b""))

    def _open(self, path: str, mode: str = "rb", **more: object) -> io.RawIOBase:
        server = self

        class Stream(io.RawIOBase):
            def read(self, count: int = -1) -> bytes:
                piece = min(count if count >= 0 else 2**24, 1000, 2**24 - server.sent)
                server.sent += piece
                return bytes(piece)

        return Stream()


@pytest.mark.parametrize("limit", [10, 5000, 2**20])
def test_a_server_that_ignores_ranges_is_read_no_further_than_the_limit(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    server = Endless(skip_instance_cache=True)
    monkeypatch.setattr(remote, "_files", lambda url: (server, url))
    with pytest.raises(SourceError, match=r"a\.jpg: is larger than [\d.,]+ \w+\."):
        RemoteSource("a.jpg", "https://host.invalid/a.jpg").read(limit)
    assert server.sent == limit + 1


def test_pictures_on_a_web_server() -> None:
    pytest.importorskip("aiohttp")
    sent: list[int] = []
    contents = {"/a.png": FACE, "/large.png": bytes(2**25)}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in contents:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(contents[self.path])))
            self.end_headers()
            with suppress(ConnectionError):
                pieces = range(0, len(contents[self.path]), 2**16)
                sent.extend(self.wfile.write(contents[self.path][first:][: 2**16]) for first in pieces)

        def log_message(self, *about: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            root = f"http://127.0.0.1:{server.server_port}"
            (source,) = from_url(f"{root}/a.png")
            assert source.read() == FACE
            with pytest.raises(SourceError, match=r"gone\.png: cannot be fetched"):
                from_url(f"{root}/gone.png")[0].read()
            sent.clear()
            with pytest.raises(SourceError, match=r"large\.png: is larger than 1,000 bytes"):
                from_url(f"{root}/large.png")[0].read(1000)
        finally:
            server.shutdown()
    assert sum(sent) < 2**24


def test_what_cannot_be_had_is_said_in_one_line(store: fsspec.AbstractFileSystem) -> None:
    with pytest.raises(SourceError, match="cannot be listed"):
        from_url("memory://bucket/gone")
    with pytest.raises(SourceError, match="no-such-store"):
        from_url("no-such-store://bucket")
    source = from_url("memory://bucket/set/a.png")[0]
    with pytest.raises(SourceError, match="a.png: is larger than"):
        source.read(max_bytes=10)
    store.rm("/bucket/set/a.png")
    with pytest.raises(SourceError, match="a.png: cannot be fetched"):
        source.read()


def test_the_command_judges_urls_patterns_and_lists_of_both(
    store: fsspec.AbstractFileSystem, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "deep").mkdir(parents=True)
    for name in ("x.png", "deep/y.png"):
        (tmp_path / "here" / name).write_bytes(FACE)
    (tmp_path / "list.txt").write_text("here/x.png\nmemory://bucket/set/a.png\nmemory://bucket/set/gone.png\n")
    for source, images, code in (
        ("memory://bucket/set", 4, 0),
        ("here/**/*.png", 2, 0),
        ("list.txt", 3, cli.SOME_FAILED),
        ("here/*.gif", 0, cli.UNUSABLE),
        ("memory://bucket/gone", 0, cli.UNUSABLE),
    ):
        done = CliRunner().invoke(cli.app, ["bulk", source, "--out", "out.csv", "--checkpoint", str(tiny_checkpoint)])
        assert done.exit_code == code, done.output
        assert (f"{images} images" in done.stdout) == bool(images), done.output


@pytest.fixture
def threads() -> Iterator[None]:
    """Put PyTorch's threads back: a worker takes one for itself."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_workers_of_a_cluster_fetch_by_url(tiny_checkpoint: Path, tmp_path: Path, threads: None) -> None:
    (tmp_path / "a.png").write_bytes(FACE)
    url = (tmp_path / "a.png").as_uri()
    described = _described(RemoteSource("a.png", url))
    assert described == {"name": "a.png", "location": url, "member": ""}
    own = Detector.load(tiny_checkpoint)
    worker = _Worker(
        path=str(tiny_checkpoint),
        sha256=own.checkpoint.sha256,
        thresholds={"real": 0.3, "fake": 0.7},
        runtime="torch-fp32",
        batch_size=4,
    )
    rows = worker({name: np.array([value], dtype=object) for name, value in described.items()})["rows"]
    assert own.classify(FACE).sha256 in rows[0]
