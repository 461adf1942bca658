from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dashboard.jobs import CANCELLED, DONE, FAILED, INTERRUPTED, PAUSED, QUEUED, RUNNING, Busy, Job, JobError, JobQueue
from dashboard.store import BULK, RunStore, StoreError

Task = Callable[[Job], None]


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[JobQueue]:
    queue = JobQueue(RunStore(tmp_path / "runs"), max_queued=3)
    yield queue
    queue.close()


def submit(queue: JobQueue, name: str, task: Task, *, total: int = 1, owner: str | None = None) -> Job:
    run = queue.store.create(BULK, name, checkpoint="tiny", checkpoint_sha256="0" * 64, settings={}, owner=owner)
    queue.store.update(run.id, total=total)
    run = queue.store.get(run.id)
    assert run is not None
    return queue.submit(run, task)


def nothing(job: Job) -> None:
    (job.folder / "predictions.parquet").touch()  # a run that is done has a table


def endless(job: Job) -> None:
    while True:
        time.sleep(0.005)
        job.advance(fake=1)


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def ended(queue: JobQueue, job: Job) -> Job:
    """The job as the store has it, once it is over."""
    wait(lambda: queue.progress(job).finished)
    kept = queue.get(job.id)
    assert kept is not None
    return kept


def test_a_task_reports_progress_which_is_kept(queue: JobQueue) -> None:
    def task(job: Job) -> None:
        for _ in range(4):
            job.advance(fake=1)
        nothing(job)

    job = submit(queue, "four", task, total=4)
    wait(lambda: queue.progress(job).finished)
    for now in (queue.progress(job), queue.progress(ended(queue, job))):
        assert (now.state, now.done, now.total, now.share, now.counts) == (DONE, 4, 4, 1.0, {"fake": 4})
        assert now.elapsed == pytest.approx(queue.progress(job).elapsed)
        assert now.elapsed > 0


def test_jobs_run_one_at_a_time_in_order(queue: JobQueue) -> None:
    gate, order = threading.Event(), []

    def first(job: Job) -> None:
        gate.wait(10)
        order.append(1)

    one = submit(queue, "first", first)
    two = submit(queue, "second", lambda job: order.append(2))
    wait(lambda: queue.progress(one).state == RUNNING)
    assert (queue.progress(two).state, queue.progress(two).ahead) == (QUEUED, 1)
    assert queue.get(two.id) is two
    gate.set()
    wait(lambda: queue.progress(two).finished)
    assert order == [1, 2]


def test_owners_take_turns_and_see_their_place(tmp_path: Path) -> None:
    queue = JobQueue(RunStore(tmp_path / "turns"), turn_seconds=0.05)
    working, order = threading.Lock(), []

    def counting(name: str, items: int) -> Task:
        def task(job: Job) -> None:
            for _ in range(items):
                assert working.acquire(blocking=False)  # nobody else works now
                time.sleep(0.01)
                order.append(name)
                working.release()
                job.advance()
            nothing(job)

        return task

    gate = threading.Event()

    def long(job: Job) -> None:
        gate.wait(10)
        counting("a1", 60)(job)

    first = submit(queue, "a1", long, total=60, owner="a")
    wait(lambda: queue.progress(first).state == RUNNING)
    second = submit(queue, "a2", counting("a2", 3), total=3, owner="a")
    third = submit(queue, "b", counting("b", 30), total=30, owner="b")
    assert [queue.progress(job).ahead for job in (first, third, second)] == [0, 1, 2]
    gate.set()
    wait(lambda: queue.progress(first).resting)
    wait(lambda: all(queue.progress(job).finished for job in (first, second, third)))
    queue.close()
    assert [job.state for job in (first, second, third)] == [DONE] * 3
    assert (order.count("a1"), order.count("a2"), order.count("b")) == (60, 3, 30)
    turns = [name for name, before in zip(order, [None, *order], strict=False) if name != before]
    assert turns[:4] == ["a1", "b", "a1", "b"]
    assert order.index("a2") > max(place for place, name in enumerate(order) if name == "a1")
    assert first.rested > 0.1
    assert first.seconds < first.finished - first.started - 0.1  # type: ignore[operator]


@pytest.mark.parametrize("halt", [False, True])
def test_a_job_that_rests_can_be_stopped(tmp_path: Path, *, halt: bool) -> None:
    queue = JobQueue(RunStore(tmp_path / "turns"), turn_seconds=0.05)
    gate = threading.Event()
    one = submit(queue, "one", endless, total=10**6, owner="a")
    wait(lambda: one.done > 0)
    other = submit(queue, "other", lambda job: bool(gate.wait(10)) and nothing(job), owner="b")
    wait(lambda: queue.progress(one).resting)
    if halt:
        threading.Timer(0.1, gate.set).start()
        queue.close()
        assert one.state == INTERRUPTED
    else:
        queue.cancel(one)
        wait(lambda: one.state == CANCELLED)
        assert queue.progress(other).state == RUNNING
        gate.set()
        wait(lambda: queue.progress(other).finished)
        queue.close()
    assert other.state == DONE


def test_a_running_job_stops_when_cancelled_and_can_be_continued(queue: JobQueue) -> None:
    job = submit(queue, "endless", endless, total=10**6)
    wait(lambda: job.done > 2)
    queue.cancel(Job.of(queue.store.get(job.id)))  # type: ignore[arg-type] # as another session has it
    kept = ended(queue, job)
    assert (kept.state, kept.done) == (CANCELLED, job.done)

    def rest(again: Job) -> None:
        again.begin(job.done, fake=job.done)
        again.advance(fake=1)
        nothing(again)

    run = queue.store.get(job.id)
    assert run is not None
    second = ended(queue, queue.submit(run, rest))
    assert (second.state, second.done, second.counts) == (DONE, job.done + 1, {"fake": job.done + 1})
    assert second.worked > run.seconds


def test_a_paused_job_gives_its_turn_to_others_and_goes_on_when_asked(queue: JobQueue) -> None:
    job = submit(queue, "long", endless, total=10**6, owner="a")
    wait(lambda: job.done > 2)
    other = submit(queue, "other", nothing, owner="a")
    queue.pause(job)
    kept = ended(queue, job)
    assert (kept.state, kept.done, kept.counts) == (PAUSED, job.done, {"fake": job.done})
    assert ended(queue, other).state == DONE
    for _ in range(queue.max_queued):  # it holds no place in the queue
        queue.pause(submit(queue, "x", endless, owner="b"))
    run = queue.store.get(job.id)
    assert run is not None

    def rest(again: Job) -> None:
        again.begin(job.done, fake=job.done)
        nothing(again)

    second = ended(queue, queue.submit(run, rest))
    assert (second.state, second.done) == (DONE, job.done)
    assert second.worked > run.seconds > 0


def test_a_job_that_waits_or_rests_is_paused_at_once(tmp_path: Path) -> None:
    queue = JobQueue(RunStore(tmp_path / "turns"), turn_seconds=0.05)
    gate = threading.Event()
    one = submit(queue, "one", endless, total=10**6, owner="a")
    wait(lambda: one.done > 0)
    other = submit(queue, "other", lambda job: bool(gate.wait(10)) and nothing(job), owner="b")
    waiting = submit(queue, "waiting", endless, owner="c")
    wait(lambda: queue.progress(one).resting)
    queue.pause(waiting)
    assert (queue.progress(waiting).state, queue.progress(waiting).done) == (PAUSED, 0)
    queue.pause(one)
    wait(lambda: one.state == PAUSED)
    assert queue.progress(other).state == RUNNING
    gate.set()
    assert ended(queue, other).state == DONE
    queue.close()
    assert waiting.done == 0


@pytest.mark.parametrize("ends", [False, True])
def test_a_paused_job_stays_paused_when_the_server_starts_again(tmp_path: Path, *, ends: bool) -> None:
    queue = JobQueue(RunStore(tmp_path / "runs"))
    gate, begun = threading.Event(), threading.Event()

    def slow(job: Job) -> None:
        begun.set()
        gate.wait(10)
        job.advance(fake=1)

    job = submit(queue, "x", slow, total=2)
    assert begun.wait(10)
    queue.pause(job)
    if ends:  # the server is stopped while the images in hand are judged
        threading.Timer(0.1, gate.set).start()
    else:
        gate.set()
        wait(lambda: job.state == PAUSED)
    queue.close()
    after = JobQueue(RunStore(tmp_path / "runs"))
    assert after.store.interrupted() == []
    kept = after.get(job.id)
    assert kept is not None
    assert (kept.state, kept.done) == (PAUSED, 1)
    after.close()


def test_a_job_that_is_being_paused_can_still_be_cancelled_and_removed(queue: JobQueue) -> None:
    gate = threading.Event()

    def slow(job: Job) -> None:
        gate.wait(10)
        job.advance()

    cancelled, removed = (submit(queue, "x", slow) for _ in range(2))
    for job in (cancelled, removed):
        queue.pause(job)
    queue.cancel(cancelled)
    assert queue.remove(removed) is not None
    gate.set()
    assert ended(queue, cancelled).state == CANCELLED
    assert not removed.folder.exists()


def test_the_rate_counts_this_attempt_only(queue: JobQueue) -> None:
    gate = threading.Event()

    def task(job: Job) -> None:
        job.begin(10**6)
        job.advance()
        gate.wait(10)

    job = submit(queue, "resumed", task, total=10**6 + 2)
    wait(lambda: job.done > 10**6)
    rate = queue.progress(job).rate
    gate.set()
    assert rate is not None
    assert rate < 10**5


def test_a_waiting_job_is_cancelled_at_once_and_never_runs(queue: JobQueue) -> None:
    gate = threading.Event()
    ran = []
    one = submit(queue, "first", lambda job: bool(gate.wait(10)) and None)
    two = submit(queue, "second", lambda job: ran.append(1))
    queue.cancel(two)
    assert queue.progress(two).state == CANCELLED
    gate.set()
    wait(lambda: queue.progress(one).finished)
    three = submit(queue, "third", nothing)
    wait(lambda: queue.progress(three).finished)
    assert ran == []


def test_a_failing_task_is_reported_and_the_worker_lives_on(queue: JobQueue) -> None:
    def fail(error: Exception) -> Task:
        def task(job: Job) -> None:
            raise error

        return task

    for error, shown in ((ValueError("no such thing"), "ValueError: no such thing"), (JobError("Plain."), "Plain.")):
        kept = ended(queue, submit(queue, "bad", fail(error)))
        assert (kept.state, kept.error) == (FAILED, shown)
    assert ended(queue, submit(queue, "good", nothing)).state == DONE


def test_a_full_queue_refuses(queue: JobQueue) -> None:
    gate = threading.Event()
    for _ in range(3):
        submit(queue, "x", lambda job: bool(gate.wait(10)) and None)
    with pytest.raises(Busy, match="waiting already"):
        submit(queue, "x", nothing)
    gate.set()


def test_a_run_is_worked_on_once(queue: JobQueue, tmp_path: Path) -> None:
    job = submit(queue, "x", endless)
    run = queue.store.get(job.id)
    assert run is not None
    with pytest.raises(Busy, match="being worked on already"):
        queue.submit(run, nothing)
    other = JobQueue(RunStore(tmp_path / "runs"))
    with pytest.raises(Busy, match="another server"):
        other.submit(run, nothing)
    other.close()
    assert not queue.progress(job).finished


def test_removing_a_running_job_deletes_its_files_when_it_has_stopped(queue: JobQueue) -> None:
    seen = []

    def task(job: Job) -> None:
        try:
            endless(job)
        finally:
            seen.append(job.folder.exists())  # still ours to read

    job = submit(queue, "x", task)
    wait(lambda: job.state == RUNNING and job.done > 0)
    deleted = queue.remove(job)
    assert deleted is not None
    assert queue.get(job.id) is None
    wait(lambda: not job.folder.exists())
    assert seen == [True]
    assert job.error is None


def test_a_run_that_is_deleted_before_it_is_queued_never_begins(queue: JobQueue) -> None:
    run = queue.store.create(BULK, "x", checkpoint="tiny", checkpoint_sha256="0" * 64, settings={})
    queue.remove(Job.of(run))  # by another tab, while this one still writes the uploads
    began = threading.Event()
    with pytest.raises(StoreError, match="deleted"):
        queue.submit(run, lambda job: began.set())
    assert not run.folder.exists()
    assert not began.wait(0.1)


def test_closing_leaves_jobs_for_the_next_start(tmp_path: Path) -> None:
    queue = JobQueue(RunStore(tmp_path / "runs"))
    running, waiting = submit(queue, "running", endless), submit(queue, "waiting", endless)
    wait(lambda: running.done > 2)
    queue.close()
    after = JobQueue(RunStore(tmp_path / "runs"))
    found = after.store.interrupted()
    assert [(run.id, run.state) for run in found] == [(running.id, INTERRUPTED), (waiting.id, INTERRUPTED)]
    assert found[0].done == running.done
    assert ended(after, after.submit(found[0], nothing)).state == DONE
    after.close()


def test_unknown_and_damaged_runs(queue: JobQueue) -> None:
    for unknown in (None, "", "guess"):
        assert queue.get(unknown) is None
    job = submit(queue, "x", lambda job: None)  # leaves no table
    wait(lambda: queue.progress(job).finished)
    with pytest.raises(StoreError, match="table of results is missing"):
        queue.get(job.id)


def test_a_store_that_cannot_be_written_does_not_stop_the_worker(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreError("The index of runs cannot be used (database or disk is full).")

    with monkeypatch.context() as patch:
        job = submit(queue, "x", lambda job: patch.setattr(queue.store, "update", full))
        wait(lambda: queue.progress(job).finished)
        assert queue.get(job.id).state == INTERRUPTED  # type: ignore[union-attr] - still full, and so it is all the same
    kept = queue.store.get(job.id)
    assert kept is not None and kept.state == RUNNING
    assert queue.unfinished("") == 0
    assert queue.get(job.id).state == INTERRUPTED  # type: ignore[union-attr] - nothing says that it ended
    assert [run.id for run in queue.store.interrupted()] == [job.id]  # and it is done again
    assert ended(queue, submit(queue, "next", nothing)).state == DONE


def test_a_run_that_nobody_works_on_any_more_can_be_continued(queue: JobQueue) -> None:
    other = RunStore(queue.store.folder)  # of another server
    run = other.create(BULK, "left", checkpoint="tiny", checkpoint_sha256="0" * 64, settings={}, owner="me")
    other.update(run.id, state=RUNNING, began=time.time())
    assert (queue.get(run.id).state, queue.unfinished("me")) == (RUNNING, 1)  # type: ignore[union-attr]
    other.close()  # it died
    assert [kept.state for kept in queue.runs(owner="me")] == [INTERRUPTED]  # in the list as when it is opened
    assert queue.unfinished("me") == 0
    left = queue.get(run.id)
    assert left is not None and left.state == INTERRUPTED
    kept = queue.store.get(run.id)
    assert kept is not None and kept.state == INTERRUPTED
    assert ended(queue, queue.submit(kept, nothing)).state == DONE


def test_a_run_that_has_just_ended_is_not_taken_for_left(queue: JobQueue) -> None:
    job = submit(queue, "x", nothing)
    before = queue.store.get(job.id)
    assert before is not None
    ended(queue, job)
    assert queue.store.interrupt(before) is None
    assert queue.get(job.id).state == DONE  # type: ignore[union-attr]
