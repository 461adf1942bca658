"""Images by URL: listed without being fetched, judged like files, and refused in words."""

from __future__ import annotations

from collections.abc import Iterator
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
