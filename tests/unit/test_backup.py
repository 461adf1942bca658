"""Runs survive in a copy, whatever they were doing when it was made."""

from __future__ import annotations

import io
import sqlite3
import tarfile
from pathlib import Path

import pytest

from dashboard import backup
from dashboard.store import BULK, DONE, INTERRUPTED, RUNNING, RunStore, StoreError


def made(store: RunStore, name: str, state: str) -> str:
    run = store.create(BULK, name, checkpoint="c", checkpoint_sha256="0", settings={}, owner="ada")
    (run.uploads / "000000.bin").write_bytes(name.encode() * 100)
    (run.folder / "predictions.parquet").write_bytes(b"table")
    (run.folder / "x.partial").write_bytes(b"half")
    store.update(run.id, state=state, total=3)
    return run.id


def test_a_copy_made_at_work_is_put_to_use(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs")
    done, working = made(store, "done", DONE), made(store, "working", RUNNING)
    assert backup.save(tmp_path / "runs", tmp_path / "copy.tar") == 2  # both are still held by this process
    assert (tmp_path / "copy.tar").stat().st_mode & 0o777 == 0o600
    assert backup.restore(tmp_path / "copy.tar", tmp_path / "again") == 2
    again = RunStore(tmp_path / "again")
    for key in (done, working):
        before, after = store.get(key), again.get(key)
        assert before is not None and after is not None
        assert (after.name, after.owner, after.state, after.damage) == (before.name, "ada", before.state, None)
        assert (after.uploads / "000000.bin").read_bytes() == (before.uploads / "000000.bin").read_bytes()
        assert after.folder.stat().st_mode & 0o777 == 0o700
        assert not (after.folder / "x.partial").exists()
    assert [run.id for run in again.interrupted()] == [working]
    assert again.get(working).state == INTERRUPTED  # type: ignore[union-attr]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs")
    made(store, "one", DONE)
    (tmp_path / "copy.tar").write_text("mine")
    with pytest.raises(StoreError, match="exists already"):
        backup.save(tmp_path / "runs", tmp_path / "copy.tar")
    assert (tmp_path / "copy.tar").read_text() == "mine"
    backup.save(tmp_path / "runs", tmp_path / "other.tar")
    with pytest.raises(StoreError, match="not empty"):
        backup.restore(tmp_path / "other.tar", tmp_path / "runs")
    with pytest.raises(StoreError, match="no runs"):
        backup.save(tmp_path / "nowhere", tmp_path / "third.tar")
    assert not (tmp_path / "third.tar").exists()


def test_runs_that_are_being_deleted_and_what_is_no_run_are_left_out(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs")
    kept, going = made(store, "kept", DONE), made(store, "a-name-to-forget", RUNNING)
    store.delete(going)  # this process works on it: it goes later
    (tmp_path / "runs" / "tmp-of-somebody").mkdir()
    (tmp_path / "runs" / "tmp-of-somebody" / "file").write_bytes(b"x")
    assert (tmp_path / "runs" / going).is_dir()
    assert backup.save(tmp_path / "runs", tmp_path / "copy.tar") == 1
    with tarfile.open(tmp_path / "copy.tar") as archive:
        assert {name.split("/")[0] for name in archive.getnames()} == {"runs.sqlite", kept}
    assert b"a-name-to-forget" not in (tmp_path / "copy.tar").read_bytes()
    assert backup.restore(tmp_path / "copy.tar", tmp_path / "again") == 1


def test_a_copy_among_the_runs_is_refused(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs")
    run = made(store, "one", DONE)
    for target in (tmp_path / "runs" / "copy.tar", tmp_path / "runs" / run / "copy.tar"):
        with pytest.raises(StoreError, match="among the runs"):
            backup.save(tmp_path / "runs", target)
        assert not target.exists()


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", ".hidden"])
def test_an_archive_that_reaches_out_is_refused(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "copy.tar", "w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    with pytest.raises(StoreError, match="no copy of runs"):
        backup.restore(tmp_path / "copy.tar", tmp_path / "again")
    assert not (tmp_path / "evil").exists()


def test_links_and_other_files_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        entry = tarfile.TarInfo("runs.sqlite")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    (tmp_path / "no.tar").write_bytes(b"no archive" * 100)
    for name in ("link.tar", "no.tar"):
        with pytest.raises(StoreError):
            backup.restore(tmp_path / name, tmp_path / name.removesuffix(".tar"))


def test_an_index_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    from dashboard.store import MIGRATIONS

    (tmp_path / "runs").mkdir()
    with sqlite3.connect(tmp_path / "runs" / "runs.sqlite") as index:
        for statement in filter(str.strip, MIGRATIONS[0].split(";")):
            index.execute(statement)
        index.execute(
            "INSERT INTO run VALUES ('aaaaaaaaaaaaaaaaaaaaaa','bulk','old','done',1,1,2,1,1,1,'{}','c','0','{}',"
            "NULL,NULL,NULL,NULL)"
        )
        index.execute("PRAGMA user_version = 1")
    index.close()
    (tmp_path / "runs" / "aaaaaaaaaaaaaaaaaaaaaa").mkdir()
    (tmp_path / "runs" / "aaaaaaaaaaaaaaaaaaaaaa" / "predictions.parquet").touch()
    store = RunStore(tmp_path / "runs")
    (run,) = store.runs()
    assert (run.name, run.owner, run.purpose, run.damage) == ("old", None, None, None)
    assert store.adopt("ada") == 1
    assert store.get(run.id, owner="ada") is not None
