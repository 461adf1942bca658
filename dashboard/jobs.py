"""One background queue: kept runs are worked on beside the pages, one at a time, can be watched, paused and cancelled.

Owners take turns: while runs of several wait, each is worked on for some seconds, then rests where it is until the
others had as much. The runs of one owner go in order of arrival.

The worker never calls Streamlit; pages poll the job's `progress`. What a job is and how it ended stands in the run
store (`dashboard.store`); only what changes from second to second lives in memory. A job that is stopped, by its
visitor or by the end of the server, can be continued: its task resumes from what lies in the run's folder. A paused job
is one that was stopped to be continued: it holds no place in the queue, and begins again only when its visitor asks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dashboard.store import (
    CANCELLED,
    DONE,
    FAILED,
    INTERRUPTED,
    PAUSED,
    QUEUED,
    RUNNING,
    Deleted,
    Run,
    RunStore,
    StoreError,
)

__all__ = [
    "CANCELLED",
    "DONE",
    "FAILED",
    "INTERRUPTED",
    "PAUSED",
    "QUEUED",
    "RUNNING",
    "Busy",
    "Job",
    "JobError",
    "JobQueue",
]

_LIVE = (QUEUED, RUNNING)
TURN_SECONDS = 20.0  # for which a run may keep the runs of others waiting
LATEST = 8  # items that a page shows of a job that goes on
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
        Items per second since the job began to run, the turns of others included.
    seconds_left : float or None
        Estimate from the rate so far.
    elapsed : float
        Seconds worked, earlier attempts included.
    ahead : int
        Jobs that have a turn before this one's next.
    resting : bool
        It has begun, and others have their turn.
    counts : dict of str to int
        What the task counted, e.g. verdicts.
    known : int
        Of `done`, items that earlier runs had done.
    latest : tuple
        What the task says of the items that it did last, the newest first.
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
    resting: bool = False
    known: int = 0
    latest: tuple[Any, ...] = ()

    @property
    def share(self) -> float:
        """Part done, in [0, 1]."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def finished(self) -> bool:
        return self.state not in _LIVE


@dataclass
class Job:
    """A run in the queue, or one that was kept. Pages read its `progress`."""

    id: str
    kind: str
    title: str
    total: int
    folder: Path
    owner: str | None = None
    state: str = QUEUED
    done: int = 0
    stage: str = ""
    started: float | None = None
    finished: float | None = None
    worked: float = 0.0  # seconds, in earlier attempts
    rested: float = 0.0  # seconds of this attempt in which others had their turn
    resting_since: float | None = None
    taken_over: int = 0  # items that were done before this attempt
    known: int = 0  # items that earlier runs had done
    error: str | None = None
    counts: Counter[str] = field(default_factory=Counter)
    latest: tuple[Any, ...] = ()
    asked: str | None = None  # the state in which its visitor wants it to stop: CANCELLED or PAUSED
    _halt: threading.Event = field(default_factory=threading.Event)
    _give_way: Callable[[Job], None] | None = None

    @classmethod
    def of(cls, run: Run) -> Job:
        """A kept run as a job."""
        return cls(
            run.id,
            run.kind,
            run.name,
            run.total,
            run.folder,
            owner=run.owner,
            state=run.state,
            done=run.done,
            finished=run.finished,
            worked=run.seconds,
            known=run.known or 0,
            error=run.error,
            counts=Counter(run.counts),
        )

    @property
    def stopping(self) -> bool:
        """True once the job is to stop, for its visitor or for the end of the server."""
        return self.asked is not None or self._halt.is_set()

    @property
    def seconds(self) -> float:
        """Seconds worked, earlier attempts included; never less than those, as clocks may be put back."""
        if not self.started:
            return self.worked
        end = self.resting_since or self.finished or time.time()
        return self.worked + max(0.0, end - self.started - self.rested)

    def begin(self, done: int, **counts: int) -> None:
        """Called by the task when it knows what was done before."""
        self.done = self.taken_over = done
        self.counts = Counter(counts)

    def advance(self, shown: Any = None, **counts: int) -> None:
        """Called by the task after each item is safe; `counts` are added up by name. Then as `rest`.

        `shown` is what a page may show of the item while the job goes on.
        """
        self.done += 1
        if shown is not None:
            self.latest = (shown, *self.latest)[:LATEST]
        self.counts.update(counts)
        self.rest()

    def rest(self) -> None:
        """Called by the task between two steps.

        Returns when it is this job's turn, which may take as long as others work.

        Raises
        ------
        Stopped
            If the job is to stop; the task lets it pass.
        """
        self.check()
        if self._give_way is not None:
            self._give_way(self)

    def check(self) -> None:
        """Raise `Stopped` if the job is to stop."""
        if self.stopping:
            raise Stopped


class JobQueue:
    """Runs on threads of which one works at a time.

    Parameters
    ----------
    store : RunStore
    max_queued : int
        Jobs that may wait or run.
    turn_seconds : float
        For which a job may work while jobs of others wait.
    """

    def __init__(self, store: RunStore, *, max_queued: int = 8, turn_seconds: float = TURN_SECONDS) -> None:
        self.store = store
        self.max_queued = max_queued
        self.turn_seconds = turn_seconds
        self._jobs: dict[str, Job] = {}  # in order of arrival; only those that wait or run
        self._lock = threading.Lock()
        self._turns = threading.Condition(self._lock)
        self._holder: str | None = None  # the job whose turn it is
        self._since = 0.0  # when its turn began, on the monotonic clock
        self._served: dict[str | None, float] = {}  # by owner, when the last turn ended
        self._closed = False
        self._pool = ThreadPoolExecutor(max_queued, thread_name_prefix="job")

    @property
    def working(self) -> bool:
        """Whether the worker takes jobs; False once the queue was closed."""
        return not self._closed

    def submit(self, run: Run, task: Callable[[Job], None]) -> Job:
        """Queue a new or unfinished run; the task is called with its job.

        Raises
        ------
        Busy
            If `max_queued` jobs wait or run already, or the run is being worked on.
        StoreError
            If the run was deleted meanwhile.
        """
        job = Job.of(run)
        job.state, job.finished, job.error = QUEUED, None, None
        job._give_way = self._give_way
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
            if self.store.update(run.id, state=QUEUED, finished=None, error=None) is None:
                raise StoreError("This run was deleted before it could begin.")
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
            run = self._as_it_is(run)
        if job is not None:
            job.title = run.name
            return job
        if run.damage:
            raise StoreError(f"This run is damaged: {run.damage}.")
        return Job.of(run)

    def runs(self, *, kind: str | None = None, owner: str | None = None) -> list[Run]:
        """Kept runs, the newest first; one that nobody works on any more is interrupted."""
        runs = self.store.runs(kind=kind, owner=owner)
        with self._lock:
            return [self._as_it_is(run) for run in runs]

    def unfinished(self, owner: str) -> int:
        """How many runs of an owner wait or run, here or on another server."""
        return sum(run.state in _LIVE for run in self.runs(owner=owner))

    def _as_it_is(self, run: Run) -> Run:
        """A kept run; interrupted if it should wait or run and nobody works on it. With the lock: nobody may begin."""
        if run.state not in _LIVE or run.id in self._jobs:
            return run
        try:
            return self.store.interrupt(run) or run
        except StoreError:  # the disk may still be full: it cannot be written down, and is true all the same
            return replace(run, state=INTERRUPTED)

    def progress(self, job: Job) -> Progress:
        """What a page shows of a job."""
        with self._lock:
            line = [waiting.id for waiting in self._line()]
        resting = job.resting_since is not None
        ahead = line.index(job.id) if (job.state == QUEUED or resting) and job.id in line else 0
        here = max(0.0, (job.finished or time.time()) - job.started) if job.started else 0.0  # clocks may be put back
        fresh = job.done - job.taken_over
        rate = fresh / here if fresh > 0 and here > 0 else None
        left = (job.total - job.done) / rate if rate and job.state == RUNNING else None
        return Progress(
            job.state,
            job.done,
            job.total,
            job.stage,
            rate,
            left,
            job.seconds,
            ahead,
            dict(job.counts),
            job.error,
            resting,
            job.known,
            job.latest,
        )

    def cancel(self, job: Job) -> None:
        """Ask a job to stop; a job that has not begun is cancelled at once."""
        self._stop(job, CANCELLED)

    def pause(self, job: Job) -> None:
        """Ask a job to stop until it is submitted again; a job that has not begun is paused at once."""
        self._stop(job, PAUSED)

    def _stop(self, job: Job, state: str) -> None:
        with self._lock:
            live = self._jobs.get(job.id)
            if live is None:
                return
            live.asked = state
            self._turns.notify_all()
            if live.state != QUEUED:
                return
            live.state, live.finished = state, time.time()
        self._end(live, state)

    def remove(self, job: Job) -> Deleted | None:
        """Cancel a job and delete its run with all its files; those of a running one go when it has stopped."""
        self.cancel(job)
        return self.store.delete(job.id)

    def close(self) -> None:
        """Stop the worker; whatever waits or runs is left for the next start to resume."""
        with self._lock:
            self._closed = True
            jobs = list(self._jobs.values())
            for job in jobs:
                job._halt.set()
            self._turns.notify_all()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.store.close()

    def _run(self, job: Job, task: Callable[[Job], None]) -> None:
        with self._turns:
            self._wait_for_turn(job)
            if job.state != QUEUED or job.stopping:
                return
            job.state, job.started = RUNNING, time.time()
        state = DONE
        try:
            self.store.update(job.id, state=RUNNING, began=job.started)
            task(job)
        except Stopped:
            state = job.asked or INTERRUPTED
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

    def _line(self) -> list[Job]:
        """Live jobs by their next turn: first one of each owner, that of whoever was served longest ago ahead."""
        ranks: Counter[str | None] = Counter()
        line = []
        for place, job in enumerate(self._jobs.values()):
            served = self._served.get(job.owner, 0.0)
            line.append(((job.id != self._holder, ranks[job.owner], served, place), job))
            ranks[job.owner] += 1
        return [job for _, job in sorted(line, key=lambda entry: entry[0])]

    def _wait_for_turn(self, job: Job) -> None:
        """Until the turn is this job's, or the job is to stop."""
        self._turns.wait_for(lambda: job.stopping or (self._holder is None and self._line()[0] is job))
        if not job.stopping:
            self._holder, self._since = job.id, time.monotonic()

    def _end_turn(self, job: Job) -> None:
        if self._holder == job.id:
            self._holder = None
            self._served[job.owner] = time.monotonic()
        self._turns.notify_all()

    def _give_way(self, job: Job) -> None:
        """Rest a job while others wait and its turn is over."""
        with self._turns:
            if time.monotonic() - self._since < self.turn_seconds:
                return
            if all(other.owner == job.owner for other in self._jobs.values()):
                return
            job.resting_since = time.time()
            self._end_turn(job)
            self._wait_for_turn(job)
            job.rested += max(0.0, time.time() - job.resting_since)
            job.resting_since = None
        job.check()

    def _end(self, job: Job, state: str) -> None:
        """Write down how a job ended, show it, and give the run back."""
        changes = {"done": job.done, "counts": dict(job.counts), "known": job.known, "error": job.error}
        if job.started and job.finished:
            changes["seconds"] = job.seconds
        try:
            ended = None if state == INTERRUPTED else job.finished
            self.store.update(job.id, state=state, finished=ended, **changes)
        except StoreError:  # for example a full disk: whoever asks for the run next finds it interrupted
            _log.exception("the end of a job could not be written")
        self._forget(job)
        job.state = state

    def _forget(self, job: Job) -> None:
        with self._turns:
            self._jobs.pop(job.id, None)
            self._end_turn(job)
            if not self._jobs:
                self._served.clear()
        with suppress(StoreError):
            self.store.release(job.id)
