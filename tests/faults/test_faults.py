"""What goes wrong under a server: no run is lost, nothing ends but what has to, and the visitor is told.

Each docstring is the line of the table in docs/reliability.md that `python -m benchmarks.faults` writes.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import jobs, resources, store, tasks
from dashboard.jobs import DONE, FAILED, INTERRUPTED, Job, JobQueue
from dashboard.settings import Settings, get_settings
from dashboard.store import BULK, CANCELLED, Run, RunStore, StoreError
from model import checkpoint
from model.detector import Detector
from model.imaging import decoding_by
from model.sandbox import Sandbox
from model.sources import from_folder
from tests.app.conftest import open_page, picture
from tests.app.test_runs import bulk_run, click
from tests.app.test_store import finish, kept, many, table

from .conftest import Disk


@pytest.fixture
def detector() -> Detector:
    return Detector.load(get_settings().default_checkpoint)


def work(queue: JobQueue, run: Run, detector: Detector, fault: Callable[[], None] = lambda: None) -> Job:
    """Have the queue work on a run until it ends; the fault comes when it has begun."""

    def task(job: Job) -> None:
        fault()
        queue.store.update(run.id, digest=tasks.perform(job, run, lambda: detector, Settings()))

    job = queue.submit(run, task)
    end = time.monotonic() + 60
    while not queue.progress(job).finished:
        assert time.monotonic() < end
        time.sleep(0.02)
    return job


def undisturbed(tmp_path: Path, detector: Detector) -> bytes:
    """The table of a run that nothing happened to."""
    own = RunStore(tmp_path / "undisturbed")
    run = kept(own, detector, from_folder(tmp_path / "many"))
    finish(own, run, detector)
    return table(run)


@pytest.mark.parametrize("leave", [0, 20_000, 60_000])
def test_disk_full(disk: Disk, tmp_path: Path, detector: Detector, leave: int) -> None:
    """The disk fills up while a run goes on: it fails with the reason; with room it ends with the same table."""
    inputs = many(tmp_path / "many")
    own = RunStore(disk.path / "runs")
    run = kept(own, detector, inputs)
    queue = JobQueue(own)
    job = work(queue, run, detector, lambda: disk.fill(leave=leave))
    assert job.state == FAILED
    assert job.error is not None and ("can be continued" in job.error or "full" in job.error)
    disk.empty()
    queue.close()
    again = RunStore(disk.path / "runs")  # the next start
    found = again.get(run.id)
    assert found is not None
    assert found.state == FAILED or again.interrupted()
    queue = JobQueue(again)
    assert work(queue, again.get(run.id), detector).state == DONE  # type: ignore[arg-type]
    queue.close()
    assert table(run) == undisturbed(tmp_path, detector)


def test_disk_full_while_handing_in(disk: Disk, monkeypatch: pytest.MonkeyPatch, app: AppTest) -> None:
    """The disk is full when pictures are handed in: the visitor is told, and no half run stays behind."""
    monkeypatch.setenv("REALITY_CHECK_DATA_DIR", str(disk.path))
    monkeypatch.setenv("REALITY_CHECK_MIN_FREE_MB", "0")
    get_settings.cache_clear()
    resources.job_queue.clear()
    open_page(app, "bulk")
    resources.job_queue()
    app.file_uploader(key="bulk_files").upload("one.png", picture(size=(400, 400)))
    app.run()
    disk.fill(leave=24_000)
    click(app, "Start")
    assert not app.exception
    assert app.error
    disk.empty()
    assert resources.job_queue().store.runs() == []
    assert not [path for path in (disk.path / "runs").iterdir() if path.is_dir()]
    bulk_run(app)


def test_store_read_only(disk: Disk, monkeypatch: pytest.MonkeyPatch, app: AppTest) -> None:
    """The run folder becomes read-only: pages say so, single pictures are still judged, no run is lost."""
    monkeypatch.setenv("REALITY_CHECK_DATA_DIR", str(disk.path))
    get_settings.cache_clear()
    monkeypatch.setenv("REALITY_CHECK_MIN_FREE_MB", "0")
    get_settings.cache_clear()
    resources.job_queue.clear()
    job = bulk_run(app)
    disk.lock()
    try:
        with pytest.raises((StoreError, OSError)):
            resources.job_queue().store.check()
        fresh = AppTest.from_file(app._script_path, default_timeout=60).run()
        assert not fresh.exception
        sample = next(button.key for button in fresh.button if button.key and button.key.startswith("sample_"))
        fresh.button(key=sample).click().run()
        assert not fresh.exception
        fresh.query_params["run"] = job.id
        open_page(fresh, "bulk")
        assert not fresh.exception
        if fresh.file_uploader:
            fresh.file_uploader(key="bulk_files").upload("two.png", picture(seed=3))
            fresh.run()
            if any(button.label == "Start" for button in fresh.button):
                click(fresh, "Start")
                assert not fresh.exception
                assert fresh.error
    finally:
        disk.lock(readonly=False)
    assert [run.id for run in resources.job_queue().store.runs()] == [job.id]
    again = AppTest.from_file(app._script_path, default_timeout=60).run()
    again.query_params["run"] = job.id
    assert not open_page(again, "bulk").warning


@pytest.mark.parametrize("seed", range(12))
def test_index_corrupted(tmp_path: Path, seed: int) -> None:
    """Bytes of the index of runs are overwritten, cut off or lost: every run is there again at the next start."""
    chance = random.Random(seed)
    own = RunStore(tmp_path / "runs")
    for number in range(8):
        run = own.create(BULK, f"run {number}", checkpoint="c", checkpoint_sha256="0", settings={}, owner="ada")
        own.update(run.id, state=CANCELLED, done=number)
    expected = {run.id: (run.name, run.owner, run.done) for run in own.runs()}
    own.close()
    path = own.folder / "runs.sqlite"
    data = bytearray(path.read_bytes())
    if seed % 3 == 0:
        del data[chance.randrange(len(data)) :]
    for _ in range(chance.choice((1, 30, 3000))):
        if data:
            data[chance.randrange(len(data))] = chance.randrange(256)
    path.write_bytes(data)
    for suffix in ("-wal", "-shm"):
        (own.folder / f"runs.sqlite{suffix}").unlink(missing_ok=True)
    try:
        found = {run.id: (run.name, run.owner, run.done) for run in RunStore(tmp_path / "runs").runs()}
    except StoreError as error:  # a version from the future: the operator is told, and nothing is touched
        assert "version" in str(error)
        return
    assert found.keys() >= expected.keys()
    # A flipped bit inside a text leaves the index sound: the run is there under a name that is misspelt.
    assert sum(found.get(key) == value for key, value in expected.items()) >= 7


def test_checkpoint_corrupted(tmp_path: Path, detector: Detector, app: AppTest) -> None:
    """A byte of the checkpoint changes: runs that began with the other wait, and go on when that one is back."""
    many(tmp_path / "many")
    own = resources.job_queue().store
    run = kept(own, detector, from_folder(tmp_path / "many"))
    own.release(run.id)
    path = Path(get_settings().default_checkpoint or "")
    sound = path.read_bytes()
    path.write_bytes(sound[:-3] + bytes([sound[-3] ^ 1]) + sound[-2:])
    job = resources.enqueue(resources.job_queue(), run)
    while not resources.job_queue().progress(job).finished:
        time.sleep(0.02)
    assert (job.state, "is not installed" in (job.error or "")) == (FAILED, True)
    path.write_bytes(sound[: len(sound) // 2])
    broken = AppTest.from_file(app._script_path, default_timeout=60).run()
    assert not broken.exception
    assert broken.error
    path.write_bytes(sound)
    os.utime(path, ns=(1, 1))
    job = resources.enqueue(resources.job_queue(), own.get(run.id))  # type: ignore[arg-type]
    while not resources.job_queue().progress(job).finished:
        time.sleep(0.02)
    assert job.state == DONE
    assert table(run) == undisturbed(tmp_path, detector)


def test_shipped_checkpoint_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is not the one that was shipped or pinned: the server refuses to use it."""
    path = Path(get_settings().default_checkpoint or "")
    info = checkpoint.read_info(path)
    monkeypatch.setattr(checkpoint, "WEIGHTS", path.parent)
    sums = path.parent / "SHA256SUMS"
    sums.write_text(f"{info.sha256}  {path.name}\n")
    checkpoint.verify(info)
    checkpoint.verify(info, info.sha256.upper())
    with pytest.raises(checkpoint.CheckpointError, match="pinned"):
        checkpoint.verify(info, "0" * 64)
    sums.write_text(f"{'0' * 64}  {path.name}\n")
    with pytest.raises(checkpoint.CheckpointError, match="not the one that was shipped"):
        checkpoint.verify(info)
    with pytest.raises(checkpoint.CheckpointError, match="not the one that was shipped"):
        resources.detector()


@pytest.mark.parametrize("jump", [-86400.0 * 400, -30.0, 30.0, 86400.0 * 400])
def test_clock_jumps(tmp_path: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    """The clock jumps back or forth by seconds or a year while a run goes on: it ends as if nothing had been."""
    inputs = many(tmp_path / "many")
    own = RunStore(tmp_path / "runs")
    run = kept(own, detector, inputs)
    started = time.monotonic()

    class Clock:
        monotonic, sleep, localtime, strftime = time.monotonic, time.sleep, time.localtime, time.strftime

        @staticmethod
        def time() -> float:
            return time.time() + (jump if time.monotonic() - started > 0.05 else 0.0)

    monkeypatch.setattr(jobs, "time", Clock)
    monkeypatch.setattr(store, "time", Clock)
    queue = JobQueue(own)
    job = work(queue, run, detector)
    shown = queue.progress(job)
    assert job.state == DONE
    assert shown.elapsed >= 0 and (shown.rate or 0) >= 0
    queue.close()
    found = own.get(run.id)
    assert found is not None and found.seconds >= 0
    assert own.interrupted() == []
    if jump < 0:
        assert own.tidy(1) == []
    assert table(run) == undisturbed(tmp_path, detector)


def test_decoder_killed(tmp_path: Path, detector: Detector) -> None:
    """Decoding processes are killed while a run goes on: at most the pictures in hand are reported broken."""
    inputs = many(tmp_path / "many", 40)
    own = RunStore(tmp_path / "runs")
    run, killed = kept(own, detector, inputs), 0
    queue = JobQueue(own)
    with Sandbox(helpers=2) as sandbox, decoding_by(sandbox):
        job = queue.submit(run, lambda job: None if tasks.perform(job, run, lambda: detector, Settings()) else None)
        while not queue.progress(job).finished:
            for helper in list(sandbox._idle):
                if killed < 5:
                    os.kill(helper._process.pid, signal.SIGKILL)
                    killed += 1
            time.sleep(0.01)
    queue.close()
    assert job.state == DONE
    assert killed
    frame = pd.read_parquet(run.table)
    assert frame["path"].nunique() == 40
    broken = frame["error"].notna() & (frame["path"] != "009.png")
    assert broken.sum() <= killed
    assert frame.loc[broken, "error"].str.contains("broke down").all()


_STARVED = """
import resource, sys
from pathlib import Path
from PIL import Image
import model
from model.detector import Detector
from model.sources import from_folder
detector = Detector.load(sys.argv[1])
sources = from_folder(sys.argv[2])
next(detector.classify_many(sources[:1]))
with open("/proc/self/statm") as file:
    taken = int(file.read().split()[0]) * resource.getpagesize()
ceiling = taken + 250 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
for result in detector.classify_many(sources):
    print(result.name, result.reason, flush=True)
"""


def test_out_of_memory(tmp_path: Path) -> None:
    """A picture needs more memory than there is: it is reported broken, and the pictures after it are judged."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    from PIL import Image

    from tests.support import encode

    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "c.png"):
        (folder / name).write_bytes(picture())
    (folder / "b.png").write_bytes(encode(Image.new("RGBA", (7000, 7000), (9, 9, 9, 9)), "PNG", compress_level=1))
    command = [sys.executable, "-c", _STARVED, str(get_settings().default_checkpoint), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["a.png", "b.png", "c.png"], done.stderr[-2000:]
    assert lines[1].split()[1] in ("too_much_memory", "failed", "undecodable")
    assert lines[0].split()[1] == lines[2].split()[1]


def test_server_ended_while_runs_wait(tmp_path: Path, detector: Detector) -> None:
    """The server ends in the middle of runs, again and again: each is taken up where it was, and all end whole."""
    inputs = many(tmp_path / "many")
    own = RunStore(tmp_path / "runs")
    runs = [kept(own, detector, inputs) for _ in range(3)]
    queue = JobQueue(own)
    for run in runs:
        queue.submit(run, lambda job, run=run: None if tasks.perform(job, run, lambda: detector, Settings()) else None)
    for pause in (0.05, 0.1, 0.2, 5.0):
        time.sleep(pause)
        queue.close()
        own = RunStore(tmp_path / "runs")
        queue = JobQueue(own)
        for run in own.interrupted():
            queue.submit(
                run, lambda job, run=run: None if tasks.perform(job, run, lambda: detector, Settings()) else None
            )
    end = time.monotonic() + 60
    while any(run.state != DONE for run in own.runs()):
        assert time.monotonic() < end, [run.state for run in own.runs()]
        assert not any(run.state == FAILED for run in own.runs())
        time.sleep(0.05)
    queue.close()
    assert {run.state for run in own.runs()} == {DONE}
    assert INTERRUPTED not in {run.state for run in own.runs()}
    whole = undisturbed(tmp_path, detector)
    assert all(table(run) == whole for run in runs)
