"""Any number of images into one table on disk, with a journal that survives interruption.

Every judged image is appended as one line to `OUT.journal` at once. When all are done the table is written in the
order of the sources and takes the place of OUT in one step. A run that resumes takes over what the journal, or a
finished table, already says about unchanged files. The last bits of a score may depend on what shares its batch; so a
journal is taken over up to its last complete batch, and the table comes out the same to the last byte, `elapsed_ms`
aside. It marks where batches begin, since an image that failed in the network does not say how many faces it brought.
All that holds for the local engine alone: with Ray (`model.cluster`) batches depend on the number of workers and the
journal has the order in which they finish, so that the last bits of a score may differ after a resume.

What is known of images from elsewhere (`known`) goes into the journal first and belongs to no batch. These rows are
those of the table they come from to the last bit; the others are judged in batches without them. The last bits of a
score, and with them a verdict at the very threshold, may therefore differ from those of a run that judges everything.
Once anything was judged nothing more is taken over, lest batches shift: such a run, too, ends the same however often it
is interrupted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import IO, Any, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import model
from model.calibration import NOT_APPLICABLE, Thresholds
from model.checkpoint import CheckpointInfo
from model.detector import READ_AHEAD, Readable
from model.results import COLUMNS, TEXT_COLUMNS, rows_to_frame, unguard_text, write_csv

SUFFIXES = (".csv", ".parquet")
_READERS = 8  # files read at a time where they are only compared
_CHUNK = 2000  # images per piece while a table is written, rows while it is read; bounds memory
_Row = dict[str, Any]  # as made by `ImageResult.rows`
Known = Callable[[Sequence[Readable]], Iterable[tuple[str, list[_Row]]]]


class Judged(Protocol):
    """What is said about one image; `model.results.ImageResult`, or rows that came from elsewhere."""

    @property
    def name(self) -> str: ...

    def rows(self) -> list[_Row]:
        """One row of the table per face."""
        ...


class Judge(Protocol):
    """What judges images: a `Detector`, or one whose work is done on other machines (`model.cluster`)."""

    @property
    def checkpoint(self) -> CheckpointInfo: ...

    @property
    def thresholds(self) -> Thresholds: ...

    @property
    def runtime(self) -> str: ...

    def classify_many(self, sources: Iterable[Readable], *, batch_size: int) -> Iterator[Judged]:
        """One result per source; asks for more sources between batches, never within one."""
        ...


class BulkError(ValueError):
    """A run that cannot begin; the message says what to change."""


class OtherRunError(BulkError):
    """What is to be resumed was made by another detector."""


@dataclass
class Summary:
    """What a run did.

    Attributes
    ----------
    images, taken_over : int
        All images in the table, and those of them that an earlier run had judged.
    known : int
        Images of the table whose rows came from elsewhere, in whatever attempt.
    verdicts : Counter
        Images per verdict.
    failed : list of (name, message)
        Files that could not be read as an image.
    """

    images: int = 0
    taken_over: int = 0
    known: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def count(self, name: str, rows: list[_Row]) -> None:
        """Add one image, judged by its most fake face."""
        examined = [row for row in rows if row["logit"] is not None]
        self.images += 1
        self.verdicts[max(examined, key=lambda row: row["logit"])["verdict"] if examined else NOT_APPLICABLE] += 1
        if rows[0]["error"] is not None:
            self.failed.append((name, rows[0]["error"]))


def run(
    detector: Judge,
    sources: Sequence[Readable],
    out: Path,
    *,
    resume: bool = False,
    batch_size: int = 16,
    known: Known | None = None,
    progress: Callable[[int, int], None] | None = None,
    step: Callable[[], None] | None = None,
) -> Summary:
    """Judge images and write the table `out`, one row per face (`model.results.COLUMNS`).

    Parameters
    ----------
    sources : sequence
        With unique names; the table keeps their order.
    out : Path
        Ends in `.csv` or `.parquet`; replaced if it exists.
    resume : bool
        Take over rows of an interrupted or finished run of the same checkpoint, thresholds, runtime and version.
    known : callable, optional
        Gives, for the sources that are left to judge, name and rows of those of which all is known; asked before the
        first is judged. Rows of another checkpoint, thresholds, runtime or version, and of files that could not be
        read, are left aside.
    progress : callable, optional
        Called with (images done, all images): as those that are taken over are found, then after each that is judged.
    step : callable, optional
        Called before each image that is compared with what was judged of it; may raise to stop the run.

    Raises
    ------
    BulkError
        If `out` has another suffix, cannot be written, or what it holds is not a run of this detector.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise BulkError(f"{out}: results are written as {' or '.join(SUFFIXES)}. Choose a name that ends so.")
    summary = Summary()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _claimed(out):
            if resume and not interrupted(out) and out.exists():
                _take_over(out, detector)
            with _journal_of(out).open("rb+" if resume and interrupted(out) else "wb+") as file:
                journal = _Journal(file, detector)
                journal.recover(out, batch_size)
                kept: set[str] = set()
                for source, digest in digests_of([source for source in sources if journal.may_hold(source)], step):
                    if progress is not None:
                        progress(len(kept), len(sources))
                    if digest == journal.digests[source.name]:
                        kept.add(source.name)
                left = [source for source in sources if source.name not in kept]
                if known is not None and not journal.judged:
                    taken = journal.take(known(left))
                    left = [source for source in left if source.name not in taken]
                left.sort(key=lambda source: source.name in journal.places)  # tried before: last, to shift no batch
                done = summary.taken_over = len(sources) - len(left)
                if progress is not None:
                    progress(done, len(sources))
                feed = _Feed(left)
                for result in detector.classify_many(feed, batch_size=batch_size):
                    journal.append(result.name, result.rows(), begins=feed.asked)
                    feed.asked = False
                    done += 1
                    if progress is not None:
                        progress(done, len(sources))
                names = [source.name for source in sources]
                _write_table(journal, names, out, summary)
                summary.known = len(journal.known.intersection(names))
            _journal_of(out).unlink()
    except OSError as error:
        raise BulkError(f"{out}: cannot be written ({error.strerror or error}). Choose another place.") from error
    return summary


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Keep others from working on the same table, where the system knows locks that end with their process.

    The lock has a file of its own, which nothing ever replaces: the journal and the table are both put in their place.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = out.with_name(out.name + ".lock")
    busy = BulkError(f"{out}: another process is working on this run. Wait until it has ended, or name another output.")
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                raise busy  # who had it ended while we asked, and a third has begun
        except (BlockingIOError, FileNotFoundError):
            raise busy from None
        except OSError:  # a file system without locks
            pass
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


class _Feed(Iterator[Readable]):
    """Sources one after the other; `asked` is whether more were wanted since it was last unset: a batch begins."""

    def __init__(self, sources: Iterable[Readable]) -> None:
        self._rest = iter(sources)
        self.asked = False

    def __next__(self) -> Readable:
        self.asked = True
        return next(self._rest)


def identity(detector: Judge) -> dict[str, Any]:
    """By column, what all rows of one table have in common, and what sets them apart from those of another detector."""
    return {
        "checkpoint_sha256": detector.checkpoint.sha256,
        "threshold_real": detector.thresholds.real,
        "threshold_fake": detector.thresholds.fake,
        "runtime": detector.runtime,
        "version": model.__version__,
    }


def digests_of(
    sources: Sequence[Readable], step: Callable[[], None] | None = None
) -> Iterator[tuple[Readable, str | None]]:
    """Each source with `digest_of` it, in order; a few are read at a time, as what they wait for may be a network.

    Parameters
    ----------
    step : callable, optional
        Called before each source is read; may raise to end this.
    """
    pool = ThreadPoolExecutor(_READERS, thread_name_prefix="digest")
    waiting: deque[tuple[Readable, Future[str | None]]] = deque()
    try:
        for source in sources:
            if step is not None:
                step()
            waiting.append((source, pool.submit(digest_of, source)))
            if len(waiting) == _READERS:
                first, digest = waiting.popleft()
                yield first, digest.result()
        for first, digest in waiting:
            yield first, digest.result()
    finally:  # also when the caller stops early: what was not begun is not read
        pool.shutdown(cancel_futures=True)


def digest_of(source: Readable) -> str | None:
    """SHA-256 of a source's bytes; None if it cannot be read."""
    try:
        return hashlib.sha256(source.read()).hexdigest()
    except (OSError, ValueError):
        return None


def interrupted(out: Path) -> bool:
    """Whether a run into this table has begun to judge and has not ended."""
    journal = _journal_of(out)
    return journal.exists() and journal.stat().st_size > 0


def journalled(out: Path, *, batch_size: int | None = None) -> pd.DataFrame:
    """What has been judged of a table that is not finished, as the journal beside it says: one row per face.

    Parameters
    ----------
    batch_size : int, optional
        That of the run; then only the complete batches, which a run that resumes takes over.
    """
    path = _journal_of(out)
    if not path.exists():
        return rows_to_frame([])
    with path.open("rb") as file:
        end = path.stat().st_size if batch_size is None else _whole_batches(file, batch_size)
        latest = {entry["name"]: entry["rows"] for _, after, entry in _entries(file) if after <= end}
    return rows_to_frame(row for rows in latest.values() for row in rows)


def _journal_of(out: Path) -> Path:
    return out.with_name(out.name + ".journal")


def _partial(path: Path) -> Path:
    """Where a file is written until it is whole."""
    return path.with_name(path.name + ".partial")


def _entries(file: IO[bytes]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Every complete line of a journal: where it begins, where it ends, and its entry."""
    start = file.seek(0)
    for line in file:
        if not line.endswith(b"\n"):
            return
        try:
            entry = json.loads(line)
        except ValueError:
            return
        yield start, start + len(line), entry
        start += len(line)


def _whole_batches(file: IO[bytes], batch_size: int) -> int:
    """Where the last complete batch of a journal ends; its images are put together as by `Detector.classify_many`."""
    whole = images = crops = 0
    for start, end, entry in _entries(file):
        if entry.get("known"):  # ahead of all batches
            whole = end
            continue
        if entry.get("begins"):  # whatever was counted
            whole, images, crops = start, 0, 0
        images += 1
        crops += sum(row["logit"] is not None for row in entry["rows"])
        if crops >= batch_size or images >= READ_AHEAD:
            whole, images, crops = end, 0, 0
    return whole


class _Journal:
    """One JSON line per image, found again by name; of two lines for one name the later one counts.

    `known` are the names of which the rows came from elsewhere: they belong to no batch. Of the others those are marked
    with which a batch `begins`.
    """

    def __init__(self, file: IO[bytes], detector: Judge) -> None:
        self.file = file
        self.places: dict[str, int] = {}
        self.digests: dict[str, str] = {}
        self.known: set[str] = set()
        self.judged = False
        self.expected = identity(detector)

    def recover(self, out: Path, batch_size: int) -> None:
        """Take over every complete batch and cut off the one that was being written."""
        whole = _whole_batches(self.file, batch_size)
        for start, _, entry in _entries(self.file):
            self.check(entry["rows"], out)
            if start < whole:
                self._note(entry["name"], entry["rows"], start, known=bool(entry.get("known")))
        self.file.truncate(whole)

    def check(self, rows: list[_Row], out: Path) -> None:
        """Refuse rows of another detector: one table must not mix two."""
        for key, value in self.expected.items():
            if rows[0].get(key) != value:
                raise OtherRunError(
                    f"{out}: was made with {key} {rows[0].get(key)}, not {value}. "
                    "Choose another output, or begin anew without --resume."
                )

    def take(self, found: Iterable[tuple[str, list[_Row]]]) -> set[str]:
        """Note what is known from elsewhere, as far as it is of this detector; returns the names of these images."""
        taken = set()
        for name, rows in found:
            same = all(rows[0].get(key) == value for key, value in self.expected.items())
            if same and rows[0].get("error") is None:
                self.append(name, rows, known=True)
                taken.add(name)
        return taken

    def append(self, name: str, rows: list[_Row], *, known: bool = False, begins: bool = False) -> None:
        place = self.file.seek(0, os.SEEK_END)
        marks = {mark: True for mark, here in (("known", known), ("begins", begins)) if here}
        line = json.dumps({"name": name, "rows": rows} | marks, ensure_ascii=True)
        self.file.write(line.encode() + b"\n")
        self.file.flush()
        self._note(name, rows, place, known=known)

    def read(self, name: str) -> list[_Row]:
        self.file.seek(self.places[name])
        rows: list[_Row] = json.loads(self.file.readline())["rows"]
        return rows

    def may_hold(self, source: Readable) -> bool:
        """Whether the journal has a file of this name that could be read; others are tried again."""
        return bool(self.digests.get(source.name))

    def _note(self, name: str, rows: list[_Row], place: int, *, known: bool) -> None:
        self.places[name] = place
        self.digests[name] = rows[0]["sha256"] or ""
        if known:
            self.known.add(name)
        else:
            self.known.discard(name)
            self.judged = True


def _take_over(out: Path, detector: Judge) -> None:
    """Make a journal of a finished table, whole or not at all: a part of it would pass for an interrupted run."""
    partial = _partial(_journal_of(out))
    try:
        with partial.open("wb+") as file:
            journal = _Journal(file, detector)
            for name, group in groupby(_table_rows(out), key=lambda row: str(row["path"])):
                rows = list(group)
                journal.check(rows, out)
                journal.append(name, rows, known=True)
            os.fsync(file.fileno())
        os.replace(partial, _journal_of(out))
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _table_rows(out: Path) -> Iterator[_Row]:
    """Rows of a finished table as `ImageResult.rows` made them, a piece at a time."""
    try:
        for frame in _csv_pieces(out) if out.suffix.lower() == ".csv" else _parquet_pieces(out):
            typed = rows_to_frame(frame.to_dict("records"))
            piece = typed.astype(object).where(typed.notna(), None)
            for text in ("path", "sha256", "format"):
                piece[text] = piece[text].map(lambda cell: "" if cell is None else cell)
            yield from ({str(key): value for key, value in row.items()} for row in piece.to_dict("records"))
    except (ValueError, KeyError, pa.ArrowException) as error:
        raise BulkError(f"{out}: is not a table of results ({error}). Choose another output.") from error


def _csv_pieces(out: Path) -> Iterator[pd.DataFrame]:
    # As text, then through Python's own float: pandas' parser is fast rather than exact.
    with pd.read_csv(out, dtype=str, keep_default_na=False, na_values=[""], chunksize=_CHUNK) as pieces:
        for frame in pieces:
            for name in COLUMNS:
                frame[name] = frame[name].map(unguard_text if name in TEXT_COLUMNS else float, na_action="ignore")
            yield frame


def _parquet_pieces(out: Path) -> Iterator[pd.DataFrame]:
    with pq.ParquetFile(out) as file:
        for batch in file.iter_batches(batch_size=_CHUNK):
            yield batch.to_pandas()


def _write_table(journal: _Journal, names: list[str], out: Path, summary: Summary) -> None:
    partial = _partial(out)
    writer: pq.ParquetWriter | None = None
    with partial.open("wb") as file:
        for first in range(0, max(len(names), 1), _CHUNK):
            rows = []
            for name in names[first : first + _CHUNK]:
                entry = journal.read(name)
                rows += entry
                summary.count(name, entry)
            frame = rows_to_frame(rows)
            if out.suffix.lower() == ".csv":
                file.write((write_csv(frame, header=first == 0) or "").encode())
            else:
                table = pa.Table.from_pandas(frame, preserve_index=False)
                writer = writer or pq.ParquetWriter(file, table.schema)
                writer.write_table(table)
        if writer is not None:
            writer.close()
        file.flush()
        os.fsync(file.fileno())  # the journal, its only other copy, goes next
    os.replace(partial, out)
