"""One background queue: long work runs beside the pages, one job at a time, and can be watched and cancelled.

A job is found by its unguessable id, so that a page can carry it in its address and survive a reload. The worker never
calls Streamlit; pages poll the job's `progress`. Jobs live in memory and their files in a folder of their own, which
goes when the job goes: nothing of a visitor's pictures outlives `keep_hours`.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

QUEUED, RUNNING, DONE, CANCELLED, FAILED = "queued", "running", "done", "cancelled", "failed"
_FINISHED = (DONE, CANCELLED, FAILED)
PRUNE_SECONDS = 600.0
_log = logging.getLogger(__name__)


class Busy(RuntimeError):
    """The queue is full."""


@dataclass(frozen=True)
class Progress:
    """A job at one moment, safe to read while it goes on.

    Attributes
    ----------
    rate : float or None
        Items per second since the job began to run.
    seconds_left : float or None
        Estimate from the rate so far.
    ahead : int
        Jobs that run or wait before this one.
    counts : dict of str to int
        What the task counted, e.g. verdicts.
    """

    state: str
    done: int
    total: int
    stage: str
    rate: float | None
    seconds_left: float | None
    elapsed: float
    ahead: int
    counts: dict[str, int]
    error: str | None

    @property
    def share(self) -> float:
        """Part done, in [0, 1]."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def finished(self) -> bool:
        return self.state in _FINISHED


@dataclass
class Job:
    """One piece of background work. Pages read `progress` of the queue, and `result` once it is finished."""

    id: str
    kind: str
    title: str
    total: int
    folder: Path
    state: str = QUEUED
    done: int = 0
    stage: str = ""
    created: float = field(default_factory=time.time)
    started: float | None = None
    finished: float | None = None
    error: str | None = None
    result: Any = None
    counts: Counter[str] = field(default_factory=Counter)
    _cancel: threading.Event = field(default_factory=threading.Event)

    @property
    def cancelled(self) -> bool:
        """True when the task should stop soon and return what it has."""
        return self._cancel.is_set()

    def advance(self, **counts: int) -> None:
        """Called by the task after each item; `counts` are added up by name."""
        self.done += 1
        self.counts.update(counts)


class JobQueue:
    """Jobs in order of arrival on one worker thread.

    Parameters
    ----------
    spool : Path
        Where each job gets a folder of its own, readable by this user only.
    max_queued : int
        Jobs that may wait or run.
    keep : int
        Finished jobs kept.
    keep_hours : float
        Age at which a finished job is forgotten.
    """

    def __init__(self, spool: Path, *, max_queued: int = 8, keep: int = 20, keep_hours: float = 12.0) -> None:
        self.spool = spool
        self.max_queued = max_queued
        self.keep = keep
        self.keep_hours = keep_hours
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="job")
        self._closed = threading.Event()
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        threading.Thread(target=self._prune_regularly, name="job-prune", daemon=True).start()

    def new_folder(self) -> Path:
        """A private folder for the files of a job about to be submitted."""
        self.prune()
        return Path(tempfile.mkdtemp(prefix="job-", dir=self.spool))

    def submit(self, kind: str, title: str, total: int, folder: Path, task: Callable[[Job], Any]) -> Job:
        """Queue a task; it is called with the job and its return value becomes `job.result`.

        Raises
        ------
        Busy
            If `max_queued` jobs wait or run already; `folder` is then removed.
        """
        self.prune()
        job = Job(secrets.token_urlsafe(16), kind, title, total, folder)
        with self._lock:
            if sum(other.state not in _FINISHED for other in self._jobs.values()) >= self.max_queued:
                shutil.rmtree(folder, ignore_errors=True)
                raise Busy(f"{self.max_queued} jobs are waiting already. Try again in some minutes.")
            self._jobs[job.id] = job
        self._pool.submit(self._run, job, task)
        return job

    def get(self, job_id: str | None) -> Job | None:
        """The job of this id, or None when there is none (any more)."""
        with self._lock:
            return self._jobs.get(job_id or "")

    def progress(self, job: Job) -> Progress:
        """What a page shows of a job."""
        with self._lock:
            earlier = [other for other in self._jobs.values() if other.created < job.created]
        ahead = sum(other.state not in _FINISHED for other in earlier) if job.state == QUEUED else 0
        elapsed = (job.finished or time.time()) - job.started if job.started else 0.0
        rate = job.done / elapsed if job.done and elapsed > 0 else None
        left = (job.total - job.done) / rate if rate and job.state == RUNNING else None
        return Progress(
            job.state, job.done, job.total, job.stage, rate, left, elapsed, ahead, dict(job.counts), job.error
        )

    def cancel(self, job: Job) -> None:
        """Ask a job to stop; a job that has not begun is cancelled at once."""
        job._cancel.set()
        with self._lock:
            if job.state == QUEUED:
                job.state, job.finished = CANCELLED, time.time()

    def remove(self, job: Job) -> None:
        """Cancel a job, forget its result and delete its files."""
        self.cancel(job)
        running = job.state == RUNNING
        with self._lock:
            self._jobs.pop(job.id, None)
        if not running:  # a running task still reads its files; `_run` deletes them when it ends
            shutil.rmtree(job.folder, ignore_errors=True)

    def prune(self) -> None:
        """Forget finished jobs that are too old or too many, and files that a crashed server left."""
        with self._lock:
            finished = sorted(
                (job for job in self._jobs.values() if job.state in _FINISHED), key=lambda job: job.finished or 0
            )
        oldest = time.time() - self.keep_hours * 3600
        surplus = max(0, len(finished) - self.keep)
        for index, job in enumerate(finished):
            if index < surplus or (job.finished or 0) < oldest:
                self.remove(job)
        with self._lock:
            own = {job.folder for job in self._jobs.values()}
        for folder in self.spool.glob("job-*"):
            with suppress(OSError):
                if folder not in own and folder.stat().st_mtime < oldest:
                    shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Stop the worker and delete every job's files."""
        self._closed.set()
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            self.remove(job)
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _prune_regularly(self) -> None:
        while not self._closed.wait(PRUNE_SECONDS):
            self.prune()

    def _run(self, job: Job, task: Callable[[Job], Any]) -> None:
        with self._lock:
            if job.state != QUEUED:
                return
            job.state, job.started = RUNNING, time.time()
        state = DONE
        try:
            job.result = task(job)
            if job.cancelled:
                state = CANCELLED
        except Exception as error:  # noqa: BLE001 - the page shows it; the worker must live on
            _log.exception("job %s (%s) failed", job.kind, job.title)
            job.error = f"{type(error).__name__}: {error}"
            state = FAILED
        # The state comes last: whoever sees it finds everything else in place.
        job.finished = time.time()
        job.state = state
        if self.get(job.id) is None:
            shutil.rmtree(job.folder, ignore_errors=True)
