"""The application's fixtures, and a small disk that can be filled and locked."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.app.conftest import app, app_home  # noqa: F401 - fixtures


@dataclass
class Disk:
    """A file system of its own, of two megabytes."""

    path: Path

    def fill(self, *, leave: int = 0) -> None:
        """Take all room but `leave` bytes."""
        with (self.path / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                size = file.tell()
            file.truncate(max(0, size - leave))

    def empty(self) -> None:
        """Give the room back."""
        (self.path / "filler").unlink()

    def lock(self, *, readonly: bool = True) -> None:
        """Let nothing be written any more."""
        _run("mount", "-o", f"remount,{'ro' if readonly else 'rw'}", str(self.path))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A real small disk; skipped where this user may not mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    if not _run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)):
        pytest.skip("needs the right to mount a file system")
    yield Disk(path)
    _run("umount", "-l", str(path))


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
