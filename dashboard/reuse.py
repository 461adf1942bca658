"""Finished work is not done twice: what earlier runs of the same person say of the very same files.

A picture is known by the SHA-256 of its bytes, whatever its name and place. Only runs that this person may open are
looked into, so that nobody learns, not even from the time a run takes, what others have judged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from dashboard.settings import Settings
from dashboard.store import DONE, Run, RunStore
from model.bulk import digests_of
from model.detector import Readable
from model.results import COLUMNS

MAX_RUNS = 20  # the newest; bounds what is read before a run begins
_CHUNK = 1000  # rows at a time
_OF_THE_PLACE = {"label": None, "source": None}  # what a table says of a file for its name, not for its content


def earlier(store: RunStore, run: Run, settings: Settings) -> list[Run]:
    """Finished runs whose results a run may take over, the newest first.

    They judged with the same checkpoint, thresholds, runtime, precision, batches and tier, and are the same owner's, or
    anybody's where all visitors see all runs.
    """
    if not settings.reuse_results or (run.owner is None and not settings.shared_runs):
        return []
    found = store.runs(owner=None if settings.shared_runs else run.owner)
    alike = (
        other
        for other in found
        if (other.state, other.damage, other.checkpoint_sha256) == (DONE, None, run.checkpoint_sha256)
        and _with_runtime(other) == _with_runtime(run)
        and other.id != run.id
    )
    return [other for other, _ in zip(alike, range(MAX_RUNS), strict=False)]


def _with_runtime(run: Run) -> dict[str, Any]:
    return {"runtime": "torch"} | run.settings  # runs were all computed so before they told


def known_rows(
    tables: Sequence[Path], sources: Sequence[Readable], identity: Mapping[str, Any], *, step: Callable[[], None]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Name and rows of every source whose content stands in one of the tables, the first that has it.

    Files that could not be read then are not found: they are to be tried again.

    Parameters
    ----------
    identity : mapping
        What a row must say of who judged it (`model.bulk.identity`).
    step : callable
        Called before each source and each table is read, and after each source that was found; may raise to end this.
    """
    names: dict[str, list[str]] = {}
    for source, digest in digests_of(sources, step):
        if digest:
            names.setdefault(digest, []).append(source.name)
    for table in tables:
        step()
        for rows in _images(table, names, identity):
            for name in names.pop(rows[0]["sha256"], ()):
                yield name, [row | {"path": name} | _OF_THE_PLACE for row in rows]
                step()


def _images(table: Path, digests: Collection[str], identity: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """The rows of every image of a table that is one of these; none if the table is gone or damaged."""
    wanted = ds.field("sha256").isin(list(digests)) & ds.field("error").is_null()
    for name, value in identity.items():
        wanted &= ds.field(name) == value
    try:
        data = ds.dataset(str(table), filesystem=LocalFileSystem(), format="parquet")
        if not digests or not data.count_rows(filter=wanted):  # reads the columns of the condition alone
            return
        batches = data.to_batches(columns=list(COLUMNS), filter=wanted, batch_size=_CHUNK)
        rows = (row for batch in batches for row in batch.to_pylist())
        for _, image in groupby(rows, key=lambda row: row["path"]):
            yield list(image)
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return
