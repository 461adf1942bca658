"""Copies of all runs in one file, made while the server works, and runs from such a copy."""

from __future__ import annotations

import io
import os
import sqlite3
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

from dashboard.store import CLAIM, DELETING, INDEX, RunStore, StoreError


def save(runs: Path, target: Path) -> int:
    """Write all runs into a new tar file, which only this user may read; returns how many there are.

    The index is copied at one moment, and it says which runs are copied: none that is being deleted, and none that
    begins later. A run that goes on meanwhile is copied with what it has written so far, and is taken up there when the
    copy is put to use.

    Raises
    ------
    StoreError
        If there are no runs, or the copy cannot be written, or would lie among the runs.
    """
    if not (runs / INDEX).is_file():
        raise StoreError(f"{runs}: there are no runs. Name the data folder by the setting data_dir.")
    if target.resolve().is_relative_to(runs.resolve()):
        raise StoreError(f"{target}: lies among the runs. Name a file in another folder.")
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with (
            tempfile.TemporaryDirectory(dir=target.parent) as folder,
            os.fdopen(descriptor, "wb") as stream,
            tarfile.open(fileobj=stream, mode="w|") as archive,
        ):
            snapshot = Path(folder) / INDEX
            ids = _snapshot(runs / INDEX, snapshot)
            archive.add(snapshot, INDEX)
            for run in ids:
                for path in sorted((runs / run).rglob("*")):
                    if path.is_file() and not path.name.startswith(CLAIM) and not path.name.endswith(".partial"):
                        _add(archive, path, path.relative_to(runs).as_posix())
            stream.flush()
    except FileExistsError as error:
        raise StoreError(f"{target}: exists already. Name a new file.") from error
    except (OSError, sqlite3.Error, tarfile.TarError) as error:
        target.unlink(missing_ok=True)
        raise StoreError(f"{target}: the copy cannot be written ({error}).") from error
    return len(ids)


def restore(source: Path, runs: Path) -> int:
    """Unpack a copy into an empty data folder and bring it up to date; returns how many runs there are.

    Raises
    ------
    StoreError
        If the folder has runs already, or the file is no such copy.
    """
    if runs.exists() and any(runs.iterdir()):
        raise StoreError(f"{runs}: is not empty. Stop the server and move it away first.")
    try:
        runs.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tarfile.open(source, "r:") as archive:
            for member in archive:
                if not member.isfile() or member.name.startswith(("/", ".")) or ".." in member.name.split("/"):
                    raise StoreError(f"{source}: is no copy of runs ({member.name!r}).")
                archive.extract(member, runs, filter="data")
        for run in runs.iterdir():
            if run.is_dir():
                run.chmod(0o700)
                (run / "uploads").mkdir(exist_ok=True)
    except (OSError, tarfile.TarError) as error:
        raise StoreError(f"{source}: cannot be restored ({error}).") from error
    return len(RunStore(runs).runs())


def _snapshot(index: Path, copy: Path) -> list[str]:
    """Copy the index without the runs that are being deleted; returns the ids of the others."""
    with closing(sqlite3.connect(index, timeout=30)) as live:
        live.execute("VACUUM INTO ?", (str(copy),))
    with closing(sqlite3.connect(copy)) as kept:
        kept.execute("PRAGMA secure_delete = ON")  # not even their names go along
        with kept:
            kept.execute("DELETE FROM run WHERE state = ?", (DELETING,))
        return [run for (run,) in kept.execute("SELECT id FROM run ORDER BY id")]


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    """One file as it is now: a journal that grows while it is read would spoil the archive."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:  # deleted meanwhile
        return
    about = tarfile.TarInfo(name)
    about.size, about.mode, about.mtime = len(data), 0o600, int(path.stat().st_mtime) if path.exists() else 0
    archive.addfile(about, io.BytesIO(data))
