"""Runs on disk: an index in SQLite, and for each run one folder with all that it has.

    runs.sqlite              the index; one row per run
    RUN/run.json             the same row, from which a damaged index is made again
    RUN/uploads/             images and archives that a visitor sent; those in a server folder stay where they are
    RUN/...                  what `dashboard.tasks` keeps: list of images, labels, journal, table, metrics, thumbnails

A run is known by its id, which cannot be guessed and may stand in an address. Whoever works on a run holds its claim, a
lock that ends with the process; a run that is queued or running and held by nobody was interrupted. May be used from
several threads and processes: each call has a connection of its own.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

BULK, EVALUATION = "bulk", "evaluation"
QUEUED, RUNNING, DONE, CANCELLED, FAILED = "queued", "running", "done", "cancelled", "failed"
INTERRUPTED, PAUSED = "interrupted", "paused"
DELETING = "deleting"  # hidden; goes for good once nobody works on it
_UNFINISHED = (QUEUED, RUNNING, INTERRUPTED)  # and to be gone on with
INDEX, RECORD, CLAIM = "runs.sqlite", "run.json", "claim"
UPLOADS, TABLE, METRICS = "uploads", "predictions.parquet", "metrics.json"
BUSY_SECONDS = 30.0
_ID = re.compile(r"[\w-]{16,64}", re.ASCII)
# Each brings the index from the version that is its position to the next; never edited once released.
MIGRATIONS = (
    """
    CREATE TABLE run (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        state TEXT NOT NULL,
        created REAL NOT NULL,
        began REAL,
        finished REAL,
        seconds REAL NOT NULL,
        total INTEGER NOT NULL,
        done INTEGER NOT NULL,
        counts TEXT NOT NULL,
        checkpoint TEXT NOT NULL,
        checkpoint_sha256 TEXT NOT NULL,
        settings TEXT NOT NULL,
        origin TEXT,
        digest TEXT,
        owner TEXT,
        error TEXT
    );
    CREATE INDEX run_created ON run (created DESC);
    """,
    """
    ALTER TABLE run ADD COLUMN purpose TEXT;
    CREATE INDEX run_owner ON run (owner);
    """,
    # From here on a run may be paused, which an older program would take for damage.
    """
    ALTER TABLE run ADD COLUMN known INTEGER;
    """,
)
# SQLite's codes for what is wrong with the place and not with the file: no permission, locked, no memory, read-only, no
# space, and the like.
_PLACE = frozenset(
    (
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    )
)
_log = logging.getLogger(__name__)


class StoreError(RuntimeError):
    """Something that cannot be kept or read; the message says what and why."""


@dataclass(frozen=True)
class Run:
    """One run as the index has it.

    Attributes
    ----------
    kind : {"bulk", "evaluation"}
    created, began, finished : float or None
        Seconds since 1970: handed in, begun (its present attempt), ended.
    seconds : float
        Time worked, over all attempts that ended.
    total, done : int
        Images in all, and judged.
    counts : dict of str to int
        Images per verdict, and `errors`.
    known : int or None
        Images whose results were taken over from earlier runs (`dashboard.reuse`); None for a run of a time when that
        was not kept.
    settings : dict
        What the result depends on beside images and checkpoint: thresholds, runtime, precision, tier, batch size.
    origin : str or None
        Place on the server that the images come from; None for uploads.
    digest : str or None
        SHA-256 over name and SHA-256 of every image, once all are judged.
    owner : str or None
        Whose run it is (`dashboard.people.Person.key`); None for one of a time when that was not kept.
    purpose : str or None
        What it is for, where whoever began it was asked.
    damage : str or None
        Why the run cannot be shown although it should; None for a sound one. Not stored.
    """

    id: str
    kind: str
    name: str
    folder: Path
    checkpoint: str
    checkpoint_sha256: str
    settings: dict[str, Any]
    state: str = QUEUED
    created: float = 0.0
    began: float | None = None
    finished: float | None = None
    seconds: float = 0.0
    total: int = 0
    done: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    origin: str | None = None
    digest: str | None = None
    owner: str | None = None
    purpose: str | None = None
    known: int | None = None
    error: str | None = None
    damage: str | None = None

    @property
    def uploads(self) -> Path:
        """Where the images that were sent lie."""
        return self.folder / UPLOADS

    @property
    def table(self) -> Path:
        """The finished table, one row per face."""
        return self.folder / TABLE

    @property
    def metrics(self) -> Path:
        """The figures of a finished evaluation."""
        return self.folder / METRICS


@dataclass(frozen=True)
class Deleted:
    """What went with a run. `uploads` counts files that were sent; images in server folders are never touched."""

    name: str
    uploads: int
    others: int
    size: int


_JSON = ("counts", "settings")
_COLUMNS = tuple(entry.name for entry in fields(Run) if entry.name not in ("folder", "damage"))
_CHANGEABLE = frozenset(_COLUMNS) - {"id", "kind", "created"}


class RunStore:
    """Runs below one folder, which only this user may read.

    Raises
    ------
    StoreError
        If the folder cannot be written, or its index is of a newer version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._claims: dict[str, sqlite3.Connection] = {}
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._open()
        except OSError as error:
            raise StoreError(f"The run folder cannot be written ({error.strerror or error}).") from error

    def create(
        self,
        kind: str,
        name: str,
        *,
        checkpoint: str,
        checkpoint_sha256: str,
        settings: dict[str, Any],
        origin: str | None = None,
        owner: str | None = None,
        purpose: str | None = None,
    ) -> Run:
        """A new run with an empty folder, held by this process until `release`."""
        key = secrets.token_urlsafe(16)
        run = Run(
            key,
            kind,
            name,
            self.folder / key,
            checkpoint,
            checkpoint_sha256,
            settings,
            created=time.time(),
            origin=origin,
            owner=owner,
            purpose=purpose,
        )
        try:
            run.folder.mkdir(mode=0o700)
            run.uploads.mkdir()
        except OSError as error:
            raise StoreError(f"A new run cannot be written ({error.strerror or error}).") from error
        self.claim(key)  # before it is listed: another server must not take it for interrupted
        try:
            self._insert(run)
        except StoreError:
            self.release(key)
            shutil.rmtree(run.folder, ignore_errors=True)
            raise
        return run

    def get(self, run_id: str | None, *, owner: str | None = None) -> Run | None:
        """The run of this id, if there is one and it is the owner's; None for `owner` asks nobody."""
        if not run_id or not _ID.fullmatch(run_id):
            return None
        found = self._select("id = ?", (run_id,), owner)
        return found[0] if found else None

    def runs(self, *, kind: str | None = None, owner: str | None = None) -> list[Run]:
        """All runs, or those of one kind or owner, the newest first; damaged ones say why."""
        return self._select("? IS NULL OR kind = ?", (kind, kind), owner)

    def update(self, run_id: str, **changes: Any) -> Run | None:
        """Change columns of a run; returns the run as it is now, None when it is gone."""
        if unknown := changes.keys() - _CHANGEABLE:
            raise TypeError(f"a run has no changeable {', '.join(sorted(unknown))}")
        values = [json.dumps(value) if name in _JSON else value for name, value in changes.items()]
        assignments = ", ".join(f"{name} = ?" for name in changes)  # names were checked above
        with self._connected() as index:
            index.execute(f"UPDATE run SET {assignments} WHERE id = ? AND state != ?", [*values, run_id, DELETING])
        run = self.get(run_id)
        if run is not None:
            _record(run)
        return run

    def delete(self, run_id: str) -> Deleted | None:
        """Delete a run with everything in its folder; None when there is none.

        Of a run that someone works on, only the row goes out of sight; `release` does the rest.

        Raises
        ------
        StoreError
            If files cannot be deleted; the run stays out of sight, and the next start tries again.
        """
        run = self.get(run_id)
        if run is None:
            return None
        deleted = _inventory(run)
        with self._connected() as index:
            index.execute("UPDATE run SET state = ? WHERE id = ?", (DELETING, run_id))
        if not run.folder.is_dir():
            self._erase(run_id)
        elif run_id not in self._claims and self.claim(run_id):
            self.release(run_id)
        return deleted

    def discard(self, run_id: str) -> None:
        """Delete a run that this process made and could not begin; `StoreError` as for `delete`."""
        self.delete(run_id)
        self.release(run_id)

    def interrupted(self) -> list[Run]:
        """Every run that was left unfinished and nobody works on, the oldest first, now in the state `interrupted`.

        The time that a lost attempt worked is known by its last sign of life and added to `seconds`; what it judged, by
        its journal.
        """
        left = reversed(self._select("state IN (?, ?, ?)", _UNFINISHED, None))
        return [found for run in left if (found := self.interrupt(run))]

    def interrupt(self, run: Run) -> Run | None:
        """One run as `interrupted` finds it; None if somebody works on it, or it has ended or can never go on."""
        if run.id in self._claims:
            return None
        if not self.claim(run.id):
            if run.damage:
                self.update(run.id, state=FAILED, error=run.damage)
            return None
        try:
            now = self.get(run.id)  # whoever worked on it may have ended it just before the claim
            if now is None or now.state not in _UNFINISHED:
                return None
            lost: dict[str, Any] = {}
            if now.state == RUNNING:
                worked = max(0.0, _last_sign(now) - now.began) if now.began else 0.0
                lost = {"seconds": now.seconds + worked, "done": _judged(now)}
            return self.update(run.id, state=INTERRUPTED, **lost)
        finally:
            self.release(run.id)

    def tidy(self, keep_days: float | None = None) -> list[Deleted]:
        """Finish deletions that were cut short, and delete runs that ended more than `keep_days` ago.

        Files that cannot be deleted are logged and left for the next time: one folder must not keep the server still.
        """
        with self._connected() as index:
            marked = index.execute("SELECT id FROM run WHERE state = ?", (DELETING,)).fetchall()
        for (run_id,) in marked:
            with _logged():
                if not (self.folder / run_id).is_dir():
                    self._erase(run_id)
                elif run_id not in self._claims and self.claim(run_id):  # whoever works on it lets go of it later
                    self.release(run_id)
        if keep_days is None:
            return []
        oldest = time.time() - keep_days * 86400
        gone: list[Deleted] = []
        for run in self.runs():
            if (run.finished or run.created) < oldest and run.state not in (QUEUED, RUNNING):
                with _logged():
                    deleted = self.delete(run.id)
                    gone += [deleted] if deleted else []
        return gone

    def adopt(self, owner: str) -> int:
        """Give every run without an owner to this one; returns how many there were."""
        found = self._select("owner IS NULL", (), None)
        for run in found:
            self.update(run.id, owner=owner)
        return len(found)

    def stored(self, owner: str | None = None) -> int:
        """Bytes that the runs of an owner, or all runs, take on disk."""
        return sum(_inventory(run).size for run in self.runs(owner=owner))

    def check(self) -> None:
        """See that the index can be read and the folder written; `StoreError` or `OSError` otherwise."""
        with self._connected() as index:
            index.execute("SELECT COUNT(*) FROM run").fetchone()
        probe = self.folder / f".probe-{secrets.token_hex(8)}"
        try:
            probe.write_bytes(b"1")
        finally:
            probe.unlink(missing_ok=True)

    def free(self) -> int:
        """Bytes that are free on the disk of the runs."""
        return shutil.disk_usage(self.folder).free

    def claim(self, run_id: str) -> bool:
        """Take a run to work on; True if this process has it now, False if another one has or it has no folder."""
        with self._lock:
            if run_id in self._claims:
                return True
            if not (self.folder / run_id).is_dir():
                return False
            place = self.folder / run_id / CLAIM
            lock = None
            try:
                lock = sqlite3.connect(place, timeout=0, isolation_level=None, check_same_thread=False)
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error:
                if lock is not None:
                    lock.close()
                return False
            self._claims[run_id] = lock
            return True

    def release(self, run_id: str) -> None:
        """Give a run back. One that was deleted meanwhile goes now; `StoreError` if its files cannot be deleted."""
        try:
            with self._connected() as index:
                row = index.execute("SELECT state FROM run WHERE id = ?", (run_id,)).fetchone()
            if row is not None and row[0] == DELETING:
                shutil.rmtree(self.folder / run_id)
                self._erase(run_id)
        except OSError as error:
            raise StoreError(f"The files of the run cannot be deleted ({error.strerror or error}).") from error
        finally:
            with self._lock:
                lock = self._claims.pop(run_id, None)
            if lock is not None:
                lock.close()

    def close(self) -> None:
        """Give back everything that this process holds."""
        for run_id in list(self._claims):
            self.release(run_id)

    def _open(self) -> None:
        """Bring the index up to date; a lost or damaged one is made again from the runs' own records."""
        try:
            new = self._migrate()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter from SQLite's own messages
            if isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _PLACE:
                raise StoreError(f"The index of runs cannot be opened ({error}).") from error
            aside = self.folder / f"{INDEX}.damaged-{time.time():.0f}"
            _log.error("the index of runs is damaged (%s): kept as %s and made again", error, aside.name)
            os.replace(self.folder / INDEX, aside)
            for suffix in ("-wal", "-shm"):
                (self.folder / (INDEX + suffix)).unlink(missing_ok=True)
            new = self._migrate()
        with self._connected() as index:
            known = {row[0] for row in index.execute("SELECT id FROM run")}
        for folder in self.folder.iterdir():
            lost = folder.is_dir() and _ID.fullmatch(folder.name) and folder.name not in known
            if lost and (new or (folder / RECORD).is_file()):  # one that another server is just making has no record
                self._insert(_recovered(folder))

    def _migrate(self) -> bool:
        """Apply what is missing of `MIGRATIONS`; True when there was no index."""
        with self._connection() as index:
            index.execute("PRAGMA journal_mode = WAL")
            if (answer := index.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(answer)
            index.execute("BEGIN IMMEDIATE")  # two servers may start at one time
            version = int(index.execute("PRAGMA user_version").fetchone()[0])
            if version > len(MIGRATIONS):
                raise StoreError(
                    f"The index of runs has version {version}, and this program knows {len(MIGRATIONS)}. "
                    "Use the newer program, or another data folder."
                )
            for script in MIGRATIONS[version:]:
                for statement in filter(str.strip, script.split(";")):
                    index.execute(statement)
            index.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            index.execute("COMMIT")
            _check_rows(index)
        return version == 0

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        index = sqlite3.connect(self.folder / INDEX, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            index.execute("PRAGMA synchronous = NORMAL")
            index.execute("PRAGMA secure_delete = ON")  # names of deleted runs do not stay in free pages
            yield index
        finally:
            index.close()

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A connection for one call; each statement is its own transaction."""
        try:
            with self._connection() as index:
                yield index
        except sqlite3.Error as error:
            raise StoreError(f"The index of runs cannot be used ({error}).") from error

    def _insert(self, run: Run) -> None:
        row = [json.dumps(getattr(run, name)) if name in _JSON else getattr(run, name) for name in _COLUMNS]
        with self._connected() as index:
            index.execute(f"INSERT INTO run ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(row))})", row)
        _record(run)

    def _select(self, condition: str, values: tuple[Any, ...], owner: str | None) -> list[Run]:
        query = (
            f"SELECT {', '.join(_COLUMNS)} FROM run WHERE ({condition}) AND state != ? AND (? IS NULL OR owner = ?) "
            "ORDER BY created DESC"
        )
        with self._connected() as index:
            rows = index.execute(query, (*values, DELETING, owner, owner)).fetchall()
        return [self._run(dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    def _run(self, row: dict[str, Any]) -> Run:
        folder = self.folder / row["id"]
        try:
            parsed = {name: json.loads(row[name]) for name in _JSON}
        except ValueError:
            return Run(**row | dict.fromkeys(_JSON, {}), folder=folder, damage="its entry in the index cannot be read")
        run = Run(**row | parsed, folder=folder)
        return replace(run, damage=_damage(run))

    def _erase(self, run_id: str) -> None:
        with self._connected() as index:
            index.execute("DELETE FROM run WHERE id = ?", (run_id,))
            index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for aside in self.folder.glob(f"{INDEX}.damaged-*"):  # holds names of runs, this one's too
            aside.unlink(missing_ok=True)


@contextmanager
def _logged() -> Iterator[None]:
    """Log that a run could not be deleted, and go on. Its id opens it, so that it is no matter for a log."""
    try:
        yield
    except StoreError as error:
        _log.warning("a run could not be deleted: %s", error)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file in one step: whoever reads it finds the old or the new content."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _check_rows(index: sqlite3.Connection) -> None:
    """Raise `sqlite3.DatabaseError` if a row is none that was written: SQLite looks after its pages, not our values."""
    known = (QUEUED, RUNNING, DONE, PAUSED, CANCELLED, FAILED, INTERRUPTED, DELETING)
    try:
        for values in index.execute(f"SELECT {', '.join(_COLUMNS)} FROM run"):
            row = dict(zip(_COLUMNS, values, strict=True))
            numbers = [row[name] for name in ("created", "seconds", "total", "done")]
            if not all(isinstance(number, (int, float)) for number in numbers) or not _ID.fullmatch(row["id"]):
                raise ValueError("a row was never written so")
            if row["kind"] not in (BULK, EVALUATION) or row["state"] not in known:
                raise ValueError("a row is of no known kind or state")
    except (TypeError, ValueError) as error:
        raise sqlite3.DatabaseError(f"a row cannot be read: {error}") from error


def _damage(run: Run) -> str | None:
    if not run.folder.is_dir():
        return "its folder is missing"
    if run.state == DONE:
        if not run.table.is_file():
            return "its table of results is missing"
        if run.kind == EVALUATION and not run.metrics.is_file():
            return "its figures are missing"
    return None


def _record(run: Run) -> None:
    """Keep the row beside the run's files, for the day that the index is lost."""
    content = {name: getattr(run, name) for name in _COLUMNS}
    try:
        write_atomically(run.folder / RECORD, json.dumps(content, ensure_ascii=False, indent=2).encode())
    except OSError as error:  # the index has it
        _log.warning("the record of a run could not be written: %s", error.strerror or error)


def _recovered(folder: Path) -> Run:
    """The run of a folder by its own record."""
    try:
        content = json.loads((folder / RECORD).read_text("utf-8"))
        known = {name: content.get(name) for name in _COLUMNS}  # older records lack what came later
        if any(known[name] is None for name in ("kind", "name", "state", "created", "seconds", "total", "done")):
            raise ValueError("not a record of a run")
        if not isinstance(known["settings"], dict) or not isinstance(known["counts"], dict):
            raise ValueError("not a record of a run")
        return Run(**known | {"id": folder.name}, folder=folder)
    except (OSError, ValueError, KeyError, TypeError):
        kind = EVALUATION if (folder / METRICS).is_file() else BULK
        error = "its record was lost with a damaged index"
        created = folder.stat().st_mtime
        return Run(folder.name, kind, "(unknown)", folder, "", "", {}, FAILED, created=created, error=error)


def _inventory(run: Run) -> Deleted:
    uploads, others, size = 0, 0, 0
    for path in run.folder.rglob("*"):
        with suppress(OSError):
            if path.is_file():
                sent = run.uploads in path.parents
                uploads, others = uploads + sent, others + (not sent)
                size += path.stat().st_size
    return Deleted(run.name, uploads, others, size)


def _judged(run: Run) -> int:
    """Images that a run which was cut off has judged; those it was last known to have where its files cannot tell."""
    from model import bulk  # PyTorch: slow to import, needed only here

    if run.table.exists():  # whole: what was cut off came after it
        return run.total
    try:
        return int(bulk.journalled(run.table)["path"].nunique())
    except (OSError, ValueError, KeyError, TypeError):
        return run.done


def _last_sign(run: Run) -> float:
    """When a run that was cut off last wrote something."""
    return max((path.stat().st_mtime for path in run.folder.glob("*") if not path.name.startswith(CLAIM)), default=0.0)
