"""One background queue: kept runs are worked on beside the pages, one at a time, and can be watched and cancelled.

The worker never calls Streamlit; pages poll the job's `progress`. What a job is and how it ended stands in the run
store (`dashboard.store`); only what changes from second to second lives in memory. A job that is stopped, by its
visitor or by the end of the server, can be continued: its task resumes from what lies in the run's folder.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dashboard.store import (
    CANCELLED,
    DONE,
    FAILED,
    INTERRUPTED,
    QUEUED,
    RUNNING,
    Deleted,
    Run,
    RunStore,
    StoreError,
)

__all__ = ["CANCELLED", "DONE", "FAILED", "INTERRUPTED", "QUEUED", "RUNNING", "Busy", "Job", "JobError", "JobQueue"]

_LIVE = (QUEUED, RUNNING)
_log = logging.getLogger(__name__)


class Busy(RuntimeError):
    """The queue is full, or somebody else works on the run."""


class JobError(RuntimeError):
    """Work that cannot be done; the message is for the visitor."""


class Stopped(Exception):
    """Ends a task that was asked to stop; what it has written is kept."""


@dataclass(frozen=True)
class Progress:
    """A job at one moment, safe to read while it goes on.

    Attributes
    ----------
    rate : float or None
        Items per second since the job began to run.
    seconds_left : float or None
        Estimate from the rate so far.
    elapsed : float
        Seconds worked, earlier attempts included.
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
        return self.state not in _LIVE


@dataclass
class Job:
    """A run in the queue, or one that was kept. Pages read its `progress`, and `result` once it is finished."""

    id: str
    kind: str
    title: str
    total: int
    folder: Path
    state: str = QUEUED
    done: int = 0
    stage: str = ""
    started: float | None = None
    finished: float | None = None
    worked: float = 0.0  # seconds, in earlier attempts
    taken_over: int = 0  # items that were done before this attempt
    error: str | None = None
    result: Any = None
    counts: Counter[str] = field(default_factory=Counter)
    _cancel: threading.Event = field(default_factory=threading.Event)
    _halt: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(cls, run: Run) -> Job:
        """A kept run as a job."""
        return cls(
            run.id,
            run.kind,
            run.name,
            run.total,
            run.folder,
            state=run.state,
            done=run.done,
            finished=run.finished,
            worked=run.seconds,
            error=run.error,
            counts=Counter(run.counts),
        )

    @property
    def cancelled(self) -> bool:
        """True once the visitor has asked to stop."""
        return self._cancel.is_set()

    def begin(self, done: int, **counts: int) -> None:
        """Called by the task when it knows what was done before."""
        self.done = self.taken_over = done
        self.counts = Counter(counts)

    def advance(self, **counts: int) -> None:
        """Called by the task after each item is safe; `counts` are added up by name.

        Raises
        ------
        Stopped
            If the job is to stop; the task lets it pass.
        """
        self.done += 1
        self.counts.update(counts)
        self.check()

    def check(self) -> None:
        """Raise `Stopped` if the job is to stop."""
        if self._cancel.is_set() or self._halt.is_set():
            raise Stopped


class JobQueue:
    """Runs in order of arrival on one worker thread.

    Parameters
    ----------
    store : RunStore
    max_queued : int
        Jobs that may wait or run.
    """

    def __init__(self, store: RunStore, *, max_queued: int = 8) -> None:
        self.store = store
        self.max_queued = max_queued
        self._jobs: dict[str, Job] = {}  # in order of arrival; only those that wait or run
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="job")

    def submit(self, run: Run, task: Callable[[Job], None]) -> Job:
        """Queue a new or unfinished run; the task is called with its job.

        Raises
        ------
        Busy
            If `max_queued` jobs wait or run already, or the run is being worked on.
        """
        job = Job.of(run)
        job.state, job.finished, job.error = QUEUED, None, None
        with self._lock:
            if run.id in self._jobs:
                raise Busy("This run is being worked on already.")
            if len(self._jobs) >= self.max_queued:
                self.store.release(run.id)
                raise Busy(f"{self.max_queued} jobs are waiting already. Try again in some minutes.")
            if not self.store.claim(run.id):
                raise Busy("This run is being worked on by another server.")
            self._jobs[job.id] = job
        try:
            self.store.update(run.id, state=QUEUED, finished=None, error=None)
            self._pool.submit(self._run, job, task)
        except Exception:
            self._forget(job)
            raise
        return job

    def get(self, run_id: str | None, *, owner: str | None = None) -> Job | None:
        """The job of a run, live or kept; None when there is none (any more).

        Raises
        ------
        StoreError
            If the run is kept, but damaged.
        """
        run = self.store.get(run_id, owner=owner)
        if run is None:
            return None
        with self._lock:
            job = self._jobs.get(run.id)
        if job is not None:
            job.title = run.name
            return job
        if run.damage:
            raise StoreError(f"This run is damaged: {run.damage}.")
        return Job.of(run)

    def progress(self, job: Job) -> Progress:
        """What a page shows of a job."""
        with self._lock:
            waiting = list(self._jobs)
        ahead = waiting.index(job.id) if job.state == QUEUED and job.id in waiting else 0
        here = (job.finished or time.time()) - job.started if job.started else 0.0
        fresh = job.done - job.taken_over
        rate = fresh / here if fresh > 0 and here > 0 else None
        left = (job.total - job.done) / rate if rate and job.state == RUNNING else None
        elapsed = job.worked + here
        return Progress(
            job.state, job.done, job.total, job.stage, rate, left, elapsed, ahead, dict(job.counts), job.error
        )

    def cancel(self, job: Job) -> None:
        """Ask a job to stop; a job that has not begun is cancelled at once."""
        with self._lock:
            live = self._jobs.get(job.id)
            if live is None:
                return
            live._cancel.set()
            if live.state != QUEUED:
                return
            live.state, live.finished = CANCELLED, time.time()
        self._end(live)

    def remove(self, job: Job) -> Deleted | None:
        """Cancel a job and delete its run with all its files; those of a running one go when it has stopped."""
        self.cancel(job)
        return self.store.delete(job.id)

    def close(self) -> None:
        """Stop the worker; whatever waits or runs is left for the next start to resume."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            job._halt.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.store.close()

    def _run(self, job: Job, task: Callable[[Job], None]) -> None:
        with self._lock:
            if job.state != QUEUED or job._halt.is_set():
                return
            job.state, job.started = RUNNING, time.time()
        state = DONE
        try:
            self.store.update(job.id, state=RUNNING, began=job.started)
            task(job)
        except Stopped:
            state = CANCELLED if job.cancelled else INTERRUPTED
        except Exception as error:  # noqa: BLE001 - the page shows it; the worker must live on
            if threading.main_thread().is_alive():
                _log.exception("a job of the kind %s failed", job.kind)
                job.error = str(error) if isinstance(error, JobError) else f"{type(error).__name__}: {error}"
                state = FAILED
            else:  # Python itself is ending and starts no more threads: not the run's fault
                state = INTERRUPTED
        # The state comes last: whoever sees it finds everything else in place.
        job.finished = time.time()
        self._end(job, state)

    def _end(self, job: Job, state: str = CANCELLED) -> None:
        """Write down how a job ended, show it, and give the run back."""
        changes = {"done": job.done, "counts": dict(job.counts), "error": job.error}
        if job.started and job.finished:
            changes["seconds"] = job.worked + job.finished - job.started
        try:
            ended = None if state == INTERRUPTED else job.finished
            self.store.update(job.id, state=state, finished=ended, **changes)
        except StoreError:  # for example a full disk: the next start finds the run unfinished and resumes it
            _log.exception("the end of a job could not be written")
        self._forget(job)
        job.state = state

    def _forget(self, job: Job) -> None:
        with self._lock:
            self._jobs.pop(job.id, None)
        with suppress(StoreError):
            self.store.release(job.id)
