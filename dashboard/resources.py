"""What all sessions of this process share: loaded networks, the kept runs and the background queue.

Whether a visitor may see a run is asked before its results are fetched here: `dashboard.session.owner`.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from pathlib import Path

import streamlit as st

from dashboard import reuse, tasks
from dashboard.jobs import Busy, Job, JobError, JobQueue
from dashboard.measured import Measured
from dashboard.review import Review
from dashboard.settings import get_settings
from dashboard.store import DONE, Run, RunStore, StoreError
from dashboard.tasks import BulkResult, EvaluationResult
from model.calibration import Thresholds
from model.checkpoint import WEIGHTS, CheckpointError, CheckpointInfo, read_info, resolve, verify
from model.detector import Detector
from model.metrics import Comparison, compare
from model.runtimes import AUTO, RuntimeRefusedError

_log = logging.getLogger(__name__)

MANY = 20_000  # images from which a comparison is resampled less often


def detector(name: str | None = None) -> Detector:
    """The shared detector of a bundled checkpoint, or of the configured default.

    Raises
    ------
    model.checkpoint.CheckpointError
        If there is no such checkpoint or it is refused.
    model.runtimes.RuntimeRefusedError
        If the configured runtime is not installed or does not agree with PyTorch on it.
    """
    info = checkpoint(name)
    settings = get_settings()
    verify(info, settings.default_checkpoint_sha256 if name is None else None)
    runtime: str = settings.runtime
    if runtime == AUTO:
        runtime = _quickest(str(info.path), info.sha256, settings.precision, settings.threads)
    return _load(str(info.path), info.sha256, runtime, settings.precision, settings.threads)


def checkpoint(name: str | None = None) -> CheckpointInfo:
    """Header and digest of a checkpoint; the file is hashed again only when it changed."""
    path = resolve(name or get_settings().default_checkpoint)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path.name} does not exist; see the setting default_checkpoint")
    status = path.stat()
    return _read(str(path), status.st_mtime_ns, status.st_size)


def checkpoints() -> list[CheckpointInfo]:
    """The configured default, then every other bundled checkpoint that can be read."""
    found: list[CheckpointInfo] = []
    with suppress(CheckpointError):  # the models page reports an unusable default apart
        found.append(checkpoint())
    for path in sorted(WEIGHTS.glob("*.safetensors")):
        try:
            info = checkpoint(path.stem)
        except CheckpointError:
            continue
        if all(info.sha256 != other.sha256 for other in found):
            found.append(info)
    return found


def installed(sha256: str) -> CheckpointInfo | None:
    """The one of `checkpoints` with this SHA-256."""
    return next((info for info in checkpoints() if info.sha256 == sha256), None)


def detector_of(run: Run) -> Detector:
    """The detector that a run began with: its checkpoint, runtime, precision and thresholds.

    Raises
    ------
    dashboard.jobs.JobError
        If that checkpoint is not here any more, or cannot be computed in that way.
    """
    info = installed(run.checkpoint_sha256)
    if info is None:
        raise JobError(
            f"The checkpoint {run.checkpoint} ({run.checkpoint_sha256[:12]} …) that this run began with is not "
            "installed."
        )
    runtime, precision = run.settings.get("runtime", "torch"), run.settings["precision"]
    try:
        loaded = _load(str(info.path), info.sha256, runtime, precision, get_settings().threads)
    except RuntimeRefusedError as error:
        raise JobError(f"This run began with {runtime} in {precision}: {error}") from error
    return loaded.with_thresholds(Thresholds(**run.settings["thresholds"]))


@st.cache_resource(show_spinner=False)
def job_queue() -> JobQueue:
    """The one background queue of this process, with what the last one left unfinished."""
    settings = get_settings()
    store = RunStore(settings.data_dir / "runs")
    store.tidy(settings.keep_days)
    queue = JobQueue(store, max_queued=settings.max_queued_jobs)
    for run in store.interrupted():
        if settings.resume_runs:
            with suppress(Busy):  # another server was faster, or the queue is full: the run can be continued by hand
                enqueue(queue, run)
    return queue


def enqueue(queue: JobQueue, run: Run) -> Job:
    """Queue a new or unfinished run; `dashboard.jobs.Busy` if it cannot be."""

    def task(job: Job) -> None:
        settings = get_settings()
        earlier = reuse.earlier(queue.store, run, settings)
        digest = tasks.perform(
            job, run, partial(detector_of, run), settings, earlier=[other.table for other in earlier]
        )
        queue.store.update(run.id, digest=digest)

    return queue.submit(run, task)


def result_of(job: Job) -> BulkResult | EvaluationResult | None:
    """What a finished or stopped run has to show; see `dashboard.tasks.load_result`."""
    return _result(job.id, job.state, job.finished)


def review_of(job: Job) -> Review | None:
    """A bulk run that has something to show, prepared to be looked through; `dashboard.store.StoreError` if damaged."""
    return _review(job.id, job.state, job.finished)


def measured_of(job: Job) -> Measured:
    """A finished evaluation, prepared for a threshold that moves.

    Raises
    ------
    dashboard.store.StoreError
        If the run is not a finished evaluation, or damaged.
    """
    return _measured(job.id, job.state, job.finished)


def comparison_of(a: Job, b: Job, threshold_a: float, threshold_b: float) -> Comparison:
    """Two finished evaluations on the images that both scored, each at a threshold.

    Raises
    ------
    dashboard.store.StoreError
        As for `measured_of`.
    model.metrics.MetricsError
        If they cannot be compared.
    """
    return _comparison(a.id, a.finished, b.id, b.finished, threshold_a, threshold_b)


def forget_result() -> None:
    """Drop the results of all runs from memory; those that are asked for again are read again."""
    for kept in (_result, _review, _measured, _comparison):
        kept.clear()


@st.cache_resource(max_entries=4, show_spinner="Opening the run …")
def _result(run_id: str, state: str, finished: float | None) -> BulkResult | EvaluationResult | None:
    run = job_queue().store.get(run_id)  # state and time are part of the key: a run may be continued
    return None if run is None else tasks.load_result(run, get_settings())


@st.cache_resource(max_entries=4, show_spinner="Opening the run …")
def _review(run_id: str, state: str, finished: float | None) -> Review | None:
    result, run = _result(run_id, state, finished), job_queue().store.get(run_id)
    return Review(result, run.folder) if run is not None and isinstance(result, BulkResult) else None


@st.cache_resource(max_entries=4, show_spinner="Preparing the figures …")
def _measured(run_id: str, state: str, finished: float | None) -> Measured:
    result = _result(run_id, state, finished)
    if not isinstance(result, EvaluationResult):
        raise StoreError("This run has no figures: it did not finish, or is no evaluation.")
    return Measured(result)


@st.cache_resource(max_entries=4, show_spinner="Comparing the two runs …")
def _comparison(
    a: str, finished_a: float | None, b: str, finished_b: float | None, threshold_a: float, threshold_b: float
) -> Comparison:
    one, other = (_measured(run_id, DONE, ended) for run_id, ended in ((a, finished_a), (b, finished_b)))
    many = max(len(one.scored), len(other.scored)) > MANY
    return compare(
        one.result.predictions,
        other.result.predictions,
        threshold_a=threshold_a,
        threshold_b=threshold_b,
        resamples=200 if many else 1000,
    )


@st.cache_resource(max_entries=8, show_spinner=False)
def _read(path: str, modified: int, size: int) -> CheckpointInfo:  # modified and size are part of the key
    return read_info(Path(path))


@st.cache_resource(max_entries=2, show_spinner="Loading the network …")
def _load(path: str, sha256: str, runtime: str, precision: str, threads: int) -> Detector:  # digest: part of the key
    return Detector.load(path, runtime=runtime, precision=precision, threads=threads)


@st.cache_resource(max_entries=8, show_spinner="Measuring what is quickest …")
def _quickest(path: str, sha256: str, precision: str, threads: int) -> str:
    choice = Detector.load(path, runtime=AUTO, precision=precision, threads=threads).choice
    assert choice is not None
    _log.info("%s: %s", Path(path).stem, choice)
    return choice.runtime.name
