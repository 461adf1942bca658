"""Any number of images into one table on disk, with a journal that survives interruption.

Every judged image is appended as one line to `OUT.journal` at once. When all are done the table is written in the
order of the sources and takes the place of OUT in one step. A run that resumes takes over what the journal, or a
finished table, already says about unchanged files; the table comes out the same, `elapsed_ms` aside.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import model
from model.calibration import NOT_APPLICABLE
from model.detector import Detector, Readable
from model.results import COLUMNS, TEXT_COLUMNS, rows_to_frame, unguard_text, write_csv

SUFFIXES = (".csv", ".parquet")
_CHUNK = 2000  # images per piece while the table is written; bounds memory
_Row = dict[str, Any]  # as made by `ImageResult.rows`


class BulkError(ValueError):
    """A run that cannot begin; the message says what to change."""


@dataclass
class Summary:
    """What a run did.

    Attributes
    ----------
    images, taken_over : int
        All images in the table, and those of them that an earlier run had judged.
    verdicts : Counter
        Images per verdict.
    failed : list of (name, message)
        Files that could not be read as an image.
    """

    images: int = 0
    taken_over: int = 0
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
    detector: Detector,
    sources: Sequence[Readable],
    out: Path,
    *,
    resume: bool = False,
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
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
    progress : callable, optional
        Called with (images done, all images), first with those taken over.

    Raises
    ------
    BulkError
        If `out` has another suffix, cannot be written, or what it holds is not a run of this detector.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise BulkError(f"{out}: results are written as {' or '.join(SUFFIXES)}. Choose a name that ends so.")
    journal_path = out.with_name(out.name + ".journal")
    summary = Summary()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        interrupted = resume and journal_path.exists()
        with open(journal_path, "rb+" if interrupted else "wb+") as file:
            journal = _Journal(file, detector)
            if interrupted:
                journal.recover(journal_path)
            elif resume and out.exists():
                _take_over(journal, out, journal_path)
            left = [source for source in sources if not journal.holds(source)]
            done = summary.taken_over = len(sources) - len(left)
            if progress is not None:
                progress(done, len(sources))
            for result in detector.classify_many(left, batch_size=batch_size):
                journal.append(result.name, result.rows())
                done += 1
                if progress is not None:
                    progress(done, len(sources))
            _write_table(journal, [source.name for source in sources], out, summary)
        journal_path.unlink()
    except OSError as error:
        raise BulkError(f"{out}: cannot be written ({error.strerror or error}). Choose another place.") from error
    return summary


class _Journal:
    """One JSON line per image, found again by name; of two lines for one name the later one counts."""

    def __init__(self, file: IO[bytes], detector: Detector) -> None:
        self.file = file
        self.places: dict[str, int] = {}
        self.digests: dict[str, str] = {}
        self.expected = {
            "checkpoint_sha256": detector.checkpoint.sha256,
            "threshold_real": detector.thresholds.real,
            "threshold_fake": detector.thresholds.fake,
            "runtime": detector.runtime,
            "version": model.__version__,
        }

    def recover(self, path: Path) -> None:
        """Take over every complete line and cut off the one that was being written."""
        end = 0
        self.file.seek(0)
        for line in self.file:
            try:
                entry = json.loads(line)
            except ValueError:
                break
            self.check(entry["rows"], path)
            self._note(entry["name"], entry["rows"], end)
            end += len(line)
        self.file.truncate(end)

    def check(self, rows: list[_Row], path: Path) -> None:
        """Refuse rows of another detector: one table must not mix two."""
        for key, value in self.expected.items():
            if rows[0].get(key) != value:
                raise BulkError(
                    f"{path}: was made with {key} {rows[0].get(key)}, not {value}. "
                    "Choose another output, or begin anew without --resume."
                )

    def append(self, name: str, rows: list[_Row]) -> None:
        place = self.file.seek(0, os.SEEK_END)
        line = json.dumps({"name": name, "rows": rows}, ensure_ascii=True)
        self.file.write(line.encode() + b"\n")
        self.file.flush()
        self._note(name, rows, place)

    def read(self, name: str) -> list[_Row]:
        self.file.seek(self.places[name])
        rows: list[_Row] = json.loads(self.file.readline())["rows"]
        return rows

    def holds(self, source: Readable) -> bool:
        """Whether the journal has this very file; files that could not be read are tried again."""
        digest = self.digests.get(source.name)
        if not digest:
            return False
        try:
            return hashlib.sha256(source.read()).hexdigest() == digest
        except (OSError, ValueError):
            return False

    def _note(self, name: str, rows: list[_Row], place: int) -> None:
        self.places[name] = place
        self.digests[name] = rows[0]["sha256"] or ""


def _take_over(journal: _Journal, out: Path, journal_path: Path) -> None:
    """Copy a finished table into a new journal, which does not outlive a refusal: it would pass for an interruption."""
    try:
        for name, rows in _table_entries(out):
            journal.check(rows, out)
            journal.append(name, rows)
    except BulkError:
        journal_path.unlink()
        raise


def _table_entries(out: Path) -> Iterator[tuple[str, list[_Row]]]:
    """Name and rows of every image in a finished table."""
    try:
        if out.suffix.lower() == ".csv":
            # As text, then through Python's own float: pandas' parser is fast rather than exact.
            frame = pd.read_csv(out, dtype=str, keep_default_na=False, na_values=[""])
            for name in COLUMNS:
                frame[name] = frame[name].map(unguard_text if name in TEXT_COLUMNS else float, na_action="ignore")
        else:
            frame = pd.read_parquet(out)
        typed = rows_to_frame(frame.to_dict("records"))
    except (ValueError, KeyError, pa.ArrowException) as error:
        raise BulkError(f"{out}: is not a table of results ({error}). Choose another output.") from error
    table = typed.astype(object).where(typed.notna(), None)
    for text in ("path", "sha256", "format"):
        table[text] = table[text].map(lambda cell: "" if cell is None else cell)
    rows = ({str(key): value for key, value in row.items()} for row in table.to_dict("records"))
    for name, group in groupby(rows, key=lambda row: str(row["path"])):
        yield name, list(group)


def _write_table(journal: _Journal, names: list[str], out: Path, summary: Summary) -> None:
    partial = out.with_name(out.name + ".partial")
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
    os.replace(partial, out)
