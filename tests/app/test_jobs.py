from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dashboard.jobs import CANCELLED, DONE, FAILED, QUEUED, RUNNING, Busy, Job, JobQueue


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[JobQueue]:
    queue = JobQueue(tmp_path / "spool", max_queued=3, keep=2)
    yield queue
    queue.close()


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_task_reports_progress_and_its_result(queue: JobQueue) -> None:
    def task(job: Job) -> str:
        for _ in range(4):
            job.advance(fake=1)
        return "done"

    job = queue.submit("bulk", "four", 4, queue.new_folder(), task)
    wait(lambda: queue.progress(job).finished)
    now = queue.progress(job)
    assert (now.state, now.done, now.share, now.counts) == (DONE, 4, 1.0, {"fake": 4})
    assert job.result == "done"
    assert queue.get(job.id) is job


def test_jobs_run_one_at_a_time_in_order(queue: JobQueue) -> None:
    gate, order = threading.Event(), []

    def first(job: Job) -> None:
        gate.wait(10)
        order.append(1)

    one = queue.submit("bulk", "first", 1, queue.new_folder(), first)
    two = queue.submit("bulk", "second", 1, queue.new_folder(), lambda job: order.append(2))
    wait(lambda: queue.progress(one).state == RUNNING)
    assert (queue.progress(two).state, queue.progress(two).ahead) == (QUEUED, 1)
    gate.set()
    wait(lambda: queue.progress(two).finished)
    assert order == [1, 2]


def test_a_running_job_stops_when_cancelled_and_keeps_what_it_has(queue: JobQueue) -> None:
    def task(job: Job) -> int:
        while not job.cancelled:
            time.sleep(0.005)
            job.advance()
        return job.done

    job = queue.submit("bulk", "endless", 10**6, queue.new_folder(), task)
    wait(lambda: job.done > 2)
    queue.cancel(job)
    wait(lambda: queue.progress(job).finished)
    assert queue.progress(job).state == CANCELLED
    assert job.result == job.done


def test_a_waiting_job_is_cancelled_at_once_and_never_runs(queue: JobQueue) -> None:
    gate = threading.Event()
    ran = []
    one = queue.submit("bulk", "first", 1, queue.new_folder(), lambda job: gate.wait(10))
    two = queue.submit("bulk", "second", 1, queue.new_folder(), lambda job: ran.append(1))
    queue.cancel(two)
    assert queue.progress(two).state == CANCELLED
    gate.set()
    wait(lambda: queue.progress(one).finished)
    three = queue.submit("bulk", "third", 1, queue.new_folder(), lambda job: None)
    wait(lambda: queue.progress(three).finished)
    assert ran == []


def test_a_failing_task_is_reported_and_the_worker_lives_on(queue: JobQueue) -> None:
    def task(job: Job) -> None:
        raise ValueError("no such thing")

    job = queue.submit("bulk", "bad", 1, queue.new_folder(), task)
    wait(lambda: queue.progress(job).finished)
    assert queue.progress(job).state == FAILED
    assert queue.progress(job).error == "ValueError: no such thing"
    other = queue.submit("bulk", "good", 1, queue.new_folder(), lambda job: 7)
    wait(lambda: queue.progress(other).finished)
    assert other.result == 7


def test_a_full_queue_refuses_and_removes_the_folder(queue: JobQueue) -> None:
    gate = threading.Event()
    for _ in range(3):
        queue.submit("bulk", "x", 1, queue.new_folder(), lambda job: gate.wait(10))
    folder = queue.new_folder()
    with pytest.raises(Busy, match="waiting already"):
        queue.submit("bulk", "x", 1, folder, lambda job: None)
    assert not folder.exists()
    gate.set()


def test_old_jobs_are_forgotten_with_their_files(queue: JobQueue) -> None:
    jobs = []
    for number in range(4):
        job = queue.submit("bulk", str(number), 1, queue.new_folder(), lambda job: None)
        jobs.append(job)
        wait(lambda: queue.progress(jobs[-1]).finished)
    queue.prune()
    assert [queue.get(job.id) is not None for job in jobs] == [False, False, True, True]
    assert [job.folder.exists() for job in jobs] == [False, False, True, True]


def test_removing_a_running_job_deletes_its_files_when_it_has_stopped(queue: JobQueue) -> None:
    def task(job: Job) -> None:
        while not job.cancelled:
            time.sleep(0.005)
        assert job.folder.exists()  # still ours to read

    job = queue.submit("bulk", "x", 1, queue.new_folder(), task)
    wait(lambda: job.state == RUNNING)
    queue.remove(job)
    assert queue.get(job.id) is None
    wait(lambda: not job.folder.exists())
    assert job.error is None


def test_closing_leaves_no_files(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "spool")
    job = queue.submit("bulk", "x", 1, queue.new_folder(), lambda job: None)
    wait(lambda: queue.progress(job).finished)
    queue.close()
    assert list((tmp_path / "spool").iterdir()) == []


def test_unknown_ids_find_nothing(queue: JobQueue) -> None:
    assert queue.get(None) is None
    assert queue.get("") is None
    assert queue.get("guess") is None


def test_files_that_a_crash_left_behind_are_removed_once_old(queue: JobQueue) -> None:
    old, young = queue.spool / "job-old", queue.spool / "job-young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "000000.bin").write_bytes(b"x")
    day_ago = time.time() - 24 * 3600
    os.utime(old, (day_ago, day_ago))
    queue.prune()
    assert not old.exists()
    assert young.exists()
