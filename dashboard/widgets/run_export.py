"""Chosen pictures of a bulk run, with their rows and reports, as one ZIP file."""

from __future__ import annotations

import tempfile
import threading
import weakref
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import export, resources, session, words
from dashboard.export import MAX_BYTES, MAX_PICTURES, MAX_REPORTS, Contents
from dashboard.jobs import Job, JobError
from dashboard.review import Review
from dashboard.tasks import BulkResult
from model.calibration import FAKE

NAMED = 20  # of what was left out, on the page; the ZIP file names all
_FLAGGED, _ALL = "flagged", "all"


@dataclass
class _Made:
    """An export that is ready: a file without a name, which goes with the tab or with the next export."""

    positions: np.ndarray  # of its pictures in the run: rows move when a run goes on
    reports: bool
    file: IO[bytes]
    size: int
    contents: Contents
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        weakref.finalize(self, self.file.close)

    def read(self) -> bytes:
        with self._lock:
            self.file.seek(0)
            return self.file.read()


def run_export(job: Job, review: Review, shown: np.ndarray) -> None:
    """Offer the pictures that the filter shows, those called AI-generated unless others are asked for.

    Parameters
    ----------
    shown : ndarray of shape (M,)
        Rows of the review, in order.
    """
    panel = st.expander("Export pictures", icon=":material/folder_zip:", on_change="rerun", key=f"export_{job.id}")
    if not panel.open:
        return
    flagged = shown[review.frame["kind"].to_numpy()[shown] == FAKE]
    with panel:
        which = st.segmented_control(
            "Pictures",
            [_FLAGGED, _ALL],
            default=_FLAGGED if len(flagged) else _ALL,
            required=True,
            format_func={
                _FLAGGED: f"Called AI-generated ({len(flagged):,})",
                _ALL: f"All that match ({len(shown):,})",
            }.__getitem__,
            key=f"export_which_{job.id}",
        )
        chosen = review.frame.iloc[flagged if which == _FLAGGED else shown]
        reports = st.toggle(
            "One-page reports",
            value=True,
            key=f"export_reports_{job.id}",
            help=f"Runs the network on the first {MAX_REPORTS} pictures, about a second each.",
        )
        st.caption(
            "One ZIP file with the original files, all their metadata included, and their rows as CSV. It holds "
            f"{MAX_PICTURES:,} pictures, {MAX_BYTES >> 20} MB and {MAX_REPORTS} reports at most, and names what does "
            "not fit or cannot be read any more."
        )
        if st.button("Make the ZIP file", icon=":material/folder_zip:", disabled=chosen.empty, key=f"make_{job.id}"):
            _make(job, review.result, chosen, reports=reports)
        made: _Made | None = session.export(job.id)
        if made is not None and made.reports == reports and np.array_equal(made.positions, chosen["position"]):
            _ready(made)


def _make(job: Job, result: BulkResult, chosen: pd.DataFrame, *, reports: bool) -> None:
    """Write the file; a click elsewhere ends it."""
    session.keep_export(job.id, None)
    run = resources.job_queue().store.get(job.id, owner=session.owner())
    if run is None:
        return
    detector = None
    if reports:
        try:
            detector = resources.detector_of(run)
        except JobError as error:
            st.warning(words.plain(f"{error} There are no reports."), icon=":material/visibility_off:")
    bar = st.progress(0.0, "Collecting pictures")
    try:
        with ExitStack() as opened:
            file = opened.enter_context(tempfile.TemporaryFile(dir=run.folder))
            contents = export.write(
                file,
                result,
                chosen,
                detector=detector,
                progress=lambda done: bar.progress(
                    done / len(chosen), f"{done:,} of {words.count(len(chosen), 'picture')}"
                ),
            )
            positions = chosen["position"].to_numpy()
            session.keep_export(job.id, _Made(positions, reports, file, file.seek(0, 2), contents))
            opened.pop_all()
    except OSError as error:
        st.error(words.plain(f"The ZIP file cannot be written ({error.strerror or error})."), icon=":material/error:")
    bar.empty()


def _ready(made: _Made) -> None:
    contents = made.contents
    st.download_button(
        f"Save the ZIP file ({words.size(made.size)})",
        data=made.read,
        file_name="pictures.zip",
        mime="application/zip",
        icon=":material/download:",
        type="primary",
        on_click="ignore",
    )
    reports = f" and {words.count(contents.reports, 'report')}" if contents.reports else ""
    more = f" {words.count(contents.unreported, 'picture')} have no report." if contents.unreported else ""
    st.caption(f"Holds {words.count(contents.pictures, 'picture')}{reports}.{more}")
    if contents.left_out:
        named = [f"- {words.plain(name)}: {words.plain(reason)}" for name, reason in contents.left_out[:NAMED]]
        rest = len(contents.left_out) - len(named)
        st.warning(
            f"{words.count(len(contents.left_out), 'picture')} left out or without a report:\n\n"
            + "\n".join(named)
            + (f"\n- and {rest:,} more, named in the ZIP file" if rest else ""),
            icon=":material/unpublished:",
        )
