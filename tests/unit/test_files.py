"""A file that is being written is not there yet, and an old one stays until the new one is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.files import write_whole


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "figures.json"

    def write(partial: Path) -> None:
        assert partial.name == path.name
        partial.write_text("half")
        assert not path.exists()
        partial.write_text("whole")

    write_whole(path, write)
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text("old")

    def write(partial: Path) -> None:
        partial.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
