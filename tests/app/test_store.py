from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from dashboard import tasks
from dashboard.jobs import CANCELLED, DONE, FAILED, INTERRUPTED, PAUSED, RUNNING, Job, JobError, JobQueue, Stopped
from dashboard.settings import Settings, get_settings
from dashboard.store import BULK, EVALUATION, MIGRATIONS, Run, RunStore, StoreError, write_atomically
from model import bulk, imaging
from model.dataset import from_source_set
from model.detector import READ_AHEAD, Detector
from model.sandbox import SandboxError
from model.sources import Source, SourceSet, from_folder, from_zip

from .conftest import ROOT, archive, picture


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


def create(store: RunStore, name: str = "a run", kind: str = BULK, *, detector: Detector | None = None) -> Run:
    settings = {} if detector is None else tasks.recipe(detector, Settings())
    digest = "0" * 64 if detector is None else detector.checkpoint.sha256
    return store.create(kind, name, checkpoint="tiny", checkpoint_sha256=digest, settings=settings)


def again(store: RunStore) -> RunStore:
    """The store as another process opens it."""
    return RunStore(store.folder)


# --- the index


def test_a_run_is_found_again_as_it_was(store: RunStore) -> None:
    run = create(store, "ümläut '; DROP TABLE run; --")
    run = store.update(run.id, total=5, done=3, counts={"fake": 2, "real": 1}, state=RUNNING, began=1.5)
    assert run is not None
    assert again(store).get(run.id) == run
    assert (run.name, run.counts, run.damage) == ("ümläut '; DROP TABLE run; --", {"fake": 2, "real": 1}, None)


def test_ids_cannot_be_guessed_and_may_stand_in_an_address(store: RunStore) -> None:
    ids = {create(store).id for _ in range(20)}
    assert len(ids) == 20
    assert all(
        len(key) >= 22 and set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
        for key in ids
    )
    for unknown in (None, "", "..", "../runs", "x" * 22, "' OR 1=1 --"):
        assert store.get(unknown) is None
        assert store.delete(unknown or "") is None


def test_only_this_user_may_read(store: RunStore) -> None:
    run = create(store)
    assert [path.stat().st_mode & 0o777 for path in (store.folder, run.folder)] == [0o700, 0o700]


def test_the_newest_comes_first_by_kind_and_owner(store: RunStore) -> None:
    first, second = create(store, "first"), create(store, "second", EVALUATION)
    store.update(first.id, owner="ada")
    assert [run.name for run in store.runs()] == ["second", "first"]
    assert [run.name for run in store.runs(kind=BULK)] == ["first"]
    assert [run.name for run in store.runs(owner="ada")] == ["first"]
    assert store.get(second.id, owner="ada") is None
    assert store.get(first.id, owner="ada") is not None


def test_what_a_run_is_cannot_be_changed(store: RunStore) -> None:
    run = create(store)
    for name in ("id", "kind", "created", "nonsense"):
        with pytest.raises(TypeError, match=name):
            store.update(run.id, **{name: "x"})
    assert store.update("gone", name="x") is None


def test_a_thousand_runs_are_listed_quickly(store: RunStore) -> None:
    run = create(store, "0")
    with sqlite3.connect(store.folder / "runs.sqlite") as index:
        columns = [row[1] for row in index.execute("PRAGMA table_info(run)") if row[1] not in ("id", "name")]
        for number in range(1, 1000):
            key = f"{number:022d}"
            (store.folder / key).mkdir()
            others = ", ".join(columns)
            query = f"INSERT INTO run (id, name, {others}) SELECT ?, ?, {others} FROM run WHERE id = ?"
            index.execute(query, (key, str(number), run.id))
    index.close()
    start = time.process_time()
    assert len(store.runs()) == 1000
    assert time.process_time() - start < 0.5


def test_many_writers_lose_nothing(store: RunStore) -> None:
    stores = [store, again(store), again(store)]
    made: list[str] = []

    def write(own: RunStore, number: int) -> None:
        for _ in range(5):
            run = create(own, str(number))
            own.update(run.id, done=number)
            own.release(run.id)
            made.append(run.id)

    threads = [threading.Thread(target=write, args=(stores[number % 3], number)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {run.id: run for run in store.runs()}
    assert sorted(found) == sorted(made)
    assert len(made) == 30
    assert all(run.name == str(run.done) for run in found.values())


# --- claims, deletion, retention


def test_a_claim_is_of_one_process_and_comes_free(store: RunStore) -> None:
    run, other = create(store), again(store)
    assert store.claim(run.id)
    assert not other.claim(run.id)
    assert other.interrupted() == []
    store.release(run.id)
    assert [found.state for found in other.interrupted()] == [INTERRUPTED]
    assert other.claim(run.id)
    assert not store.claim(run.id)


def test_time_of_a_lost_attempt_is_counted_to_its_last_sign_of_life(store: RunStore) -> None:
    run = create(store)
    store.update(run.id, state=RUNNING, began=time.time() - 100, seconds=7.0)
    end = time.time() - 40
    for path in run.folder.iterdir():
        os.utime(path, (end, end))
    store.close()
    (found,) = again(store).interrupted()
    assert found.seconds == pytest.approx(67, abs=1)


def test_deleting_says_what_went_and_leaves_server_folders_alone(store: RunStore, app_home: Path) -> None:
    run, other = create(store, "mine"), create(store, "other")
    (run.uploads / "000000.bin").write_bytes(b"x" * 1000)
    (run.uploads / "000001.bin").write_bytes(b"x" * 500)
    (run.folder / "predictions.parquet.journal").write_bytes(b"y" * 200)
    tasks.keep_inputs(run, from_folder(app_home / "served"))
    store.release(run.id)
    deleted = store.delete(run.id)
    assert deleted is not None
    assert (deleted.name, deleted.uploads) == ("mine", 2)
    assert deleted.size > 1700
    assert not run.folder.exists()
    assert [kept.id for kept in store.runs()] == [other.id]
    assert len(from_folder(app_home / "served")) == 6
    store.close()
    assert run.id.encode() not in (store.folder / "runs.sqlite").read_bytes()


def test_a_deletion_that_was_cut_short_is_finished_at_the_next_start(store: RunStore) -> None:
    run = create(store)
    store.delete(run.id)  # held: goes when it is given back, which the process did not live to do
    assert store.get(run.id) is None
    assert run.folder.exists()
    store._claims.popitem()[1].close()
    after = again(store)
    assert after.interrupted() == []
    after.tidy()
    assert not run.folder.exists()


def test_a_folder_that_cannot_be_deleted_holds_up_nothing(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held, *others = (create(store, name) for name in ("held", "one", "two"))
    for run in (held, *others):
        store.update(run.id, state=CANCELLED, finished=1.0)
        store.release(run.id)
    rmtree = shutil.rmtree

    def refused(folder: Path) -> None:
        if folder == held.folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(folder / "uploads" / "secret.png"))
        rmtree(folder)

    monkeypatch.setattr(shutil, "rmtree", refused)
    assert sorted(deleted.name for deleted in store.tidy(7)) == ["one", "two"]
    assert store.tidy() == []  # it is marked by now
    assert store.runs() == []
    assert [path.name for path in store.folder.iterdir() if path.is_dir()] == [held.id]
    assert "cannot be deleted (Permission denied)" in caplog.text
    assert "secret" not in caplog.text and held.id not in caplog.text
    monkeypatch.undo()
    store.tidy()
    assert not held.folder.exists()


def test_tidying_leaves_a_deleted_run_to_whoever_still_works_on_it(store: RunStore) -> None:
    run = create(store)
    store.delete(run.id)
    store.tidy()
    assert run.folder.exists()
    store.release(run.id)
    assert not run.folder.exists()


def test_old_runs_go_only_when_that_is_set_and_never_while_worked_on(store: RunStore) -> None:
    old, young, busy = create(store, "old"), create(store, "young"), create(store, "busy")
    for run, state, days in ((old, CANCELLED, 8), (young, CANCELLED, 6), (busy, RUNNING, 8)):
        store.update(run.id, state=state, finished=time.time() - days * 86400)
    store.release(old.id)
    assert store.tidy() == []
    assert [deleted.name for deleted in store.tidy(7)] == ["old"]
    assert {run.name for run in store.runs()} == {"young", "busy"}


# --- damage


def test_damaged_runs_are_listed_with_the_reason(store: RunStore) -> None:
    gone, empty, garbled = create(store, "gone"), create(store, "empty"), create(store, "garbled")
    store.close()
    for path in sorted(gone.folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    gone.folder.rmdir()
    store.update(empty.id, state=DONE)
    with sqlite3.connect(store.folder / "runs.sqlite") as index:
        index.execute("UPDATE run SET settings = '{' WHERE id = ?", (garbled.id,))
    index.close()
    found = {run.name: run.damage or "" for run in store.runs()}
    assert "folder is missing" in found["gone"]
    assert "table of results is missing" in found["empty"]
    assert "cannot be read" in found["garbled"]
    assert [run.name for run in store.interrupted()] == ["garbled"]  # the lost one can never be resumed
    for run in store.runs():
        store.delete(run.id)
    assert store.runs() == []


@pytest.mark.parametrize("damage", ["garbage", "cut", "missing"])
def test_a_damaged_index_is_made_again_from_the_runs(store: RunStore, damage: str) -> None:
    run = create(store, "precious")
    run = store.update(run.id, state=PAUSED, done=3, counts={"fake": 3}, known=1)
    lost = create(store, "lost")
    store.close()
    (lost.folder / "run.json").write_text("{")
    index = store.folder / "runs.sqlite"
    if damage == "missing":
        index.unlink()
    else:
        data = index.read_bytes()
        index.write_bytes(b"no database " * 1000 if damage == "garbage" else data[: len(data) // 2])
    found = {kept.id: kept for kept in again(store).runs()}
    assert found[run.id] == run  # type: ignore[union-attr]
    assert (found[lost.id].state, found[lost.id].name) == (FAILED, "(unknown)")
    assert len(list(store.folder.glob("runs.sqlite.damaged-*"))) == (damage != "missing")


def test_an_index_of_an_older_program_is_brought_up_to_date(store: RunStore) -> None:
    run = create(store, "old")
    store.close()
    with sqlite3.connect(store.folder / "runs.sqlite") as index:
        index.execute("ALTER TABLE run DROP COLUMN known")
        index.execute("PRAGMA user_version = 2")
    index.close()
    after = again(store)
    found = after.get(run.id)
    assert found == run
    assert after.update(run.id, state=PAUSED, known=3).known == 3  # type: ignore[union-attr]
    assert list(store.folder.glob("*.damaged-*")) == []


def test_an_index_of_a_newer_program_is_left_alone(store: RunStore) -> None:
    create(store)
    with sqlite3.connect(store.folder / "runs.sqlite") as index:
        index.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    index.close()
    with pytest.raises(StoreError, match="newer program"):
        again(store)
    assert list(store.folder.glob("*.damaged-*")) == []


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        RunStore(tmp_path / "file" / "runs")


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


# --- what a run leaves, and its resumption


@pytest.fixture
def detector() -> Detector:
    return Detector.load(get_settings().default_checkpoint)


@pytest.fixture
def batch(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("REALITY_CHECK_BATCH_SIZE", "4")
    get_settings.cache_clear()
    return 4


def kept(store: RunStore, detector: Detector, inputs: SourceSet, kind: str = BULK) -> Run:
    run = create(store, kind=kind, detector=detector)
    tasks.keep_inputs(run, from_source_set(inputs) if kind == EVALUATION else inputs)
    found = store.update(run.id, total=len(inputs))
    assert found is not None
    return found


def many(folder: Path, count: int = 22) -> SourceSet:
    """Pictures of one face or two, one without any, and one that cannot be read."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        size = (260, 120) if number % 5 == 0 else (120, 120)
        data = picture(seed=number, size=size) if number != 7 else picture(colour=(255, 255, 255))
        (folder / f"{number:03d}.png").write_bytes(data if number != 9 else b"no picture")
    return from_folder(folder)


def table(run: Run) -> bytes:
    frame = pd.read_parquet(run.table).drop(columns="elapsed_ms")
    return tasks.csv_bytes(frame)


def finish(store: RunStore, run: Run, detector: Detector) -> Job:
    job = Job.of(run)
    digest = tasks.perform(job, run, lambda: detector, Settings())
    store.update(run.id, state=DONE, done=job.done, counts=dict(job.counts), digest=digest)
    return job


def test_an_evaluation_can_be_cancelled_while_its_set_is_audited(
    store: RunStore, detector: Detector, app_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = kept(store, detector, from_folder(app_home / "served"), EVALUATION)
    job = Job.of(run)
    seen = []

    def look(data: bytes, side: int) -> imaging.Glance:
        seen.append(data)
        job.asked = CANCELLED
        return imaging.glance_here(data, side)

    monkeypatch.setattr("model.audit._facts.glance", look)
    with pytest.raises(Stopped):
        tasks.perform(job, run, lambda: detector, Settings())
    assert len(seen) == 1
    assert not run.metrics.exists()


def test_images_are_those_of_the_results(store: RunStore, detector: Detector, tmp_path: Path) -> None:
    inputs = many(tmp_path / "many")
    run = kept(store, detector, inputs)
    job = finish(store, run, detector)
    result = tasks.load_result(store.get(run.id), Settings())  # type: ignore[arg-type]
    assert isinstance(result, tasks.BulkResult)
    expected = list(detector.classify_many(inputs))
    for row, image in zip(result.images.itertuples(), expected, strict=True):
        assert (row.name, row.verdict, row.faces, row.width, row.bytes) == (
            image.name, image.verdict, len(image.faces), image.width, image.size_bytes
        )  # fmt: skip
        assert row.code == image.reason
        assert row.reason == (image.error or image.reason)
        assert row.p_fake == image.p_fake or image.p_fake is None
    assert job.counts["errors"] == 1
    assert job.done == sum(job.counts.values()) == len(inputs)
    assert sorted(result.thumbnails) == [number for number in range(22) if number != 9]
    assert [source.read() for source in result.sources] == [source.read() for source in inputs]


def test_uploads_are_noted_by_their_place_in_the_run(store: RunStore, detector: Detector, tmp_path: Path) -> None:
    run = create(store, detector=detector)
    (run.uploads / "000000.zip").write_bytes(archive({"a.png": picture(), "b/c.png": picture(seed=1)}))
    (run.uploads / "000001.bin").write_bytes(picture(seed=2))
    inputs = SourceSet(
        [*from_zip(run.uploads / "000000.zip"), Source("d.png", run.uploads / "000001.bin")], [("e", "no")]
    )
    tasks.keep_inputs(run, inputs)
    store.close()
    moved = store.folder.rename(tmp_path / "elsewhere")
    found = tasks.load_inputs(RunStore(moved).get(run.id), Settings())  # type: ignore[arg-type]
    assert [(source.name, source.read()) for source in found.sources] == [
        ("a.png", picture()), ("b/c.png", picture(seed=1)), ("d.png", picture(seed=2))
    ]  # fmt: skip
    assert found.skipped == [("e", "no")]


def test_a_file_whose_name_is_no_unicode_is_found_again(store: RunStore, detector: Detector, app_home: Path) -> None:
    (app_home / "served" / os.fsdecode(b"th\xe9.png")).write_bytes(picture(seed=5))
    inputs = from_folder(app_home / "served")
    run = kept(store, detector, inputs)
    found = tasks.load_inputs(run, Settings()).sources
    assert [source.read() for source in found] == [source.read() for source in inputs]
    frame = pd.read_parquet(run.folder / "inputs.parquet")
    frame = frame[frame["name"].str.isascii()]
    frame["location"] = frame["location"].map(os.fsdecode)  # as runs of earlier versions kept them
    frame.to_parquet(run.folder / "inputs.parquet")
    assert len([source.read() for source in tasks.load_inputs(run, Settings()).sources]) == 6


def test_pictures_of_a_folder_that_was_closed_cannot_be_read(
    store: RunStore, detector: Detector, app_home: Path
) -> None:
    run = kept(store, detector, from_folder(app_home / "served"))
    run = store.update(run.id, origin=str(app_home / "served"))  # type: ignore[assignment]
    finish(store, run, detector)
    for roots, readable in (((app_home / "served",), True), ((), False)):
        result = tasks.load_result(store.get(run.id), Settings(folder_roots=roots))  # type: ignore[arg-type]
        assert isinstance(result, tasks.BulkResult)
        assert len(result.images) == 6
        if readable:
            assert result.sources[0].read()
        else:
            with pytest.raises(ValueError, match="not open to visitors"):
                result.sources[0].read()
    run = kept(store, detector, from_folder(app_home / "served"))
    run = store.update(run.id, origin=str(app_home / "served"))  # type: ignore[assignment]
    with pytest.raises(JobError, match="not open to visitors"):
        tasks.perform(Job.of(run), run, lambda: detector, Settings(folder_roots=()))


class Fragile(Detector):
    """A detector that ends the attempt after some images and notes what shared a forward pass."""

    left = 10**9
    judged = 0

    def classify_many(self, sources, **options):  # type: ignore[no-untyped-def]
        for result in super().classify_many(sources, **options):
            if self.left == 0:
                raise RuntimeError("power cut")
            self.left -= 1
            self.judged += 1
            yield result

    def score(self, crops):  # type: ignore[no-untyped-def]
        """As if a score depended on its batch: what resumes in other batches gives other figures."""
        evidence, logits = super().score(crops)
        shift = 1e-3 * float(sum(crop.sum() for crop in crops))
        return evidence, logits + shift


def fragile(left: int = 10**9) -> Fragile:
    found = Fragile.load(get_settings().default_checkpoint)
    assert isinstance(found, Fragile)
    found.left = left
    return found


@pytest.mark.parametrize("left", [0, 1, 5, 13, 21])
@pytest.mark.parametrize("kind", [BULK, EVALUATION])
def test_a_resumed_run_is_the_undisturbed_one_to_the_last_bit(
    store: RunStore, tmp_path: Path, batch: int, left: int, kind: str
) -> None:
    (tmp_path / "set").mkdir()
    many(tmp_path / "set" / "real", 14)
    many(tmp_path / "set" / "fake", 8)
    inputs = from_folder(tmp_path / "set")
    whole, pieces = (kept(store, fragile(), inputs, kind) for _ in range(2))
    finish(store, whole, fragile())
    with pytest.raises(RuntimeError, match="power cut"):
        tasks.perform(Job.of(pieces), pieces, lambda: fragile(left), Settings())
    assert not pieces.table.exists()
    rest = fragile()
    job = finish(store, pieces, rest)
    assert table(pieces) == table(whole)
    assert len(inputs) - left <= rest.judged <= len(inputs) - left + READ_AHEAD
    assert rest.judged < len(inputs) or left < READ_AHEAD
    assert (job.done, dict(job.counts)) == (len(inputs), store.get(whole.id).counts)  # type: ignore[union-attr]
    assert store.get(pieces.id).digest == store.get(whole.id).digest  # type: ignore[union-attr]
    if kind == EVALUATION:
        assert pieces.metrics.read_bytes() == whole.metrics.read_bytes()
        assert pd.read_parquet(pieces.table)["label"].tolist().count(0) >= 14


def test_batches_that_were_complete_are_not_judged_again(store: RunStore, tmp_path: Path, batch: int) -> None:
    inputs = many(tmp_path / "many")
    run = kept(store, fragile(), inputs)
    with pytest.raises(RuntimeError, match="power cut"):
        tasks.perform(Job.of(run), run, lambda: fragile(20), Settings())
    rest = fragile()
    finish(store, run, rest)
    assert 2 <= rest.judged <= 2 + batch


def test_files_that_are_tried_again_are_counted_once(
    store: RunStore, tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(tmp_path / "many", 12)
    for index in range(6):
        (tmp_path / "many" / f"0{index}_broken.png").write_bytes(b"no image")
    inputs = from_folder(tmp_path / "many")
    run = kept(store, fragile(), inputs)
    with pytest.raises(RuntimeError, match="power cut"):
        tasks.perform(Job.of(run), run, lambda: fragile(12), Settings())
    done = []
    advance = Job.advance

    def noted(job: Job, shown: tasks.Judged, **counts: int) -> None:
        advance(job, shown, **counts)
        done.append((job.done, job.counts["errors"]))

    monkeypatch.setattr(Job, "advance", noted)
    job = finish(store, run, fragile())
    assert max(done) == (job.done, job.counts["errors"]) == (len(inputs), 7)


def test_a_resumed_run_can_be_stopped_while_it_looks_for_what_is_done(
    store: RunStore, tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = kept(store, fragile(), many(tmp_path / "many"))
    with pytest.raises(RuntimeError, match="power cut"):
        tasks.perform(Job.of(run), run, lambda: fragile(20), Settings())
    job, looked = Job.of(run), []

    def asked(source: tasks.ImageSource) -> None:
        looked.append(source.name)
        job.asked = PAUSED

    monkeypatch.setattr(bulk, "digest_of", asked)
    with pytest.raises(Stopped):
        tasks.perform(job, run, fragile, Settings())
    assert 1 <= len(looked) <= bulk._READERS < len(bulk.journalled(run.table))


def test_a_run_stops_where_no_picture_could_be_decoded_any_more(store: RunStore, tmp_path: Path, batch: int) -> None:
    class Full:
        left = 12

        def start(self) -> None:
            if self.left == 0:
                raise SandboxError("No process for decoding can be started (no room).")

        def decode(self, data: bytes, limits: imaging.Limits) -> imaging.DecodedImage:
            self.start()
            self.left -= 1
            return imaging.decode_here(data, limits)

        def miniature(self, data: bytes, side: int, *, crop: bool) -> Image.Image:
            self.start()
            return imaging.miniature_here(data, side, crop=crop)

        def glance(self, data: bytes, side: int) -> imaging.Glance:
            return imaging.glance_here(data, side)

    inputs = many(tmp_path / "many")
    run = kept(store, fragile(), inputs)
    with (
        imaging.decoding_by(Full()),
        pytest.raises(JobError, match="can be started .no room.. What was judged is kept"),
    ):
        tasks.perform(Job.of(run), run, fragile, Settings())
    job = finish(store, run, fragile())
    assert (job.done, job.counts["errors"]) == (len(inputs), 1)  # the one that is no picture


def test_a_cancelled_run_shows_what_it_has(store: RunStore, tmp_path: Path, batch: int) -> None:
    inputs = many(tmp_path / "many")
    for kind in (BULK, EVALUATION):
        if kind == EVALUATION:
            inputs = from_folder((tmp_path / "many").rename(tmp_path / "real"))
        run = kept(store, fragile(), inputs, kind)
        assert tasks.load_result(run, Settings()) is None
        with pytest.raises(RuntimeError, match="power cut"):
            tasks.perform(Job.of(run), run, lambda: fragile(5), Settings())
        run = store.update(run.id, state=CANCELLED)  # type: ignore[assignment]
        result = tasks.load_result(run, Settings())
        if kind == EVALUATION:
            assert result is None  # figures on part of a set would mislead
        else:
            assert isinstance(result, tasks.BulkResult)
            assert result.images["name"].tolist() == [f"{number:03d}.png" for number in range(5)]


def test_a_full_disk_stops_the_run_so_that_it_can_go_on(
    store: RunStore, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = many(tmp_path / "many")
    run, whole = kept(store, detector, inputs), kept(store, detector, inputs)
    finish(store, whole, detector)
    replace = os.replace

    def full(source: str, target: str | Path) -> None:
        if str(target).endswith("predictions.parquet"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(JobError, match="No space left on device.*can be continued"):
        patch.setattr(os, "replace", full)
        tasks.perform(Job.of(run), run, lambda: detector, Settings())
    finish(store, run, detector)
    assert table(run) == table(whole)


@pytest.mark.parametrize("name", ["predictions.parquet", "inputs.parquet", "inputs.json", "metrics.json"])
def test_a_run_with_damaged_files_says_so(store: RunStore, detector: Detector, app_home: Path, name: str) -> None:
    run = kept(store, detector, from_folder(app_home / "served"), EVALUATION)
    finish(store, run, detector)
    (run.folder / name).write_bytes(b"garbage")
    run = store.get(run.id)  # type: ignore[assignment]
    with pytest.raises(StoreError, match="damaged"):
        tasks.load_result(run, Settings())


def test_a_run_that_was_cut_off_says_how_much_was_judged(store: RunStore, tmp_path: Path, batch: int) -> None:
    inputs = many(tmp_path / "many")
    early, late, damaged = (kept(store, fragile(), inputs) for _ in range(3))
    for run, ends in ((early, 9), (late, None), (damaged, None)):
        store.update(run.id, state=RUNNING, began=time.time(), done=2)
        if ends is None:
            tasks.perform(Job.of(run), run, fragile, Settings())
            continue
        with pytest.raises(RuntimeError, match="power cut"):
            tasks.perform(Job.of(run), run, partial(fragile, ends), Settings())
    damaged.table.unlink()
    (damaged.folder / "predictions.parquet.journal").mkdir()
    store.close()  # the process died before it could write down anything
    found = {run.id: (run.state, run.done, run.total) for run in again(store).interrupted()}
    assert found == {run.id: (INTERRUPTED, done, 22) for run, done in ((early, 9), (late, 22), (damaged, 2))}


def test_an_upload_that_was_not_complete_is_explained(store: RunStore, detector: Detector) -> None:
    run = create(store, detector=detector)
    with pytest.raises(JobError, match="before all pictures were handed in"):
        tasks.perform(Job.of(run), run, lambda: detector, Settings())


# --- a server that is killed

WORKER = """
import sys
import time
from pathlib import Path
from dashboard import resources, tasks
from dashboard.settings import get_settings
from dashboard.store import BULK
from model.sources import from_folder

queue = resources.job_queue()
detector = resources.detector()
inputs = from_folder(Path(sys.argv[1]))
for name in sys.argv[2:]:
    run = queue.store.create(
        BULK, name, checkpoint=detector.checkpoint.name, checkpoint_sha256=detector.checkpoint.sha256,
        settings=tasks.recipe(detector, get_settings()), origin=sys.argv[1],
    )
    tasks.keep_inputs(run, inputs)
    resources.enqueue(queue, queue.store.update(run.id, total=len(inputs)))
time.sleep(600)
"""


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)


def times(journal: Path) -> list[float]:
    """Time of each image in a journal that may be cut off anywhere."""
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    return [json.loads(line)["rows"][0]["elapsed_ms"] for line in lines]


@pytest.mark.slow
def test_a_killed_server_is_started_again_and_finishes_the_same_table(app_home: Path, tmp_path: Path) -> None:
    """A worker process is killed amid the first of two runs; the real server, started on the same data, ends both."""
    from tests.support import draw_face, encode

    folder = app_home / "served" / "many"
    folder.mkdir()
    for number in range(60):
        face = draw_face(160, skin=(225 - number, 175 - number // 2, 150))
        (folder / f"{number:03d}.png").write_bytes(encode(face))
    environment = os.environ | {"REALITY_CHECK_BATCH_SIZE": "4", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    store, log = RunStore(app_home / "data" / "runs"), tmp_path / "log"
    with log.open("wb") as stream:
        command = [sys.executable, "-c", WORKER, str(folder), "interrupted", "waiting"]
        worker = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stream, stderr=stream)
    until(lambda: len(store.runs()) == 2, worker, log)
    run = next(run for run in store.runs() if run.name == "interrupted")
    until(lambda: len(times(run.folder / "predictions.parquet.journal")) >= 17, worker, log)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    before = times(run.folder / "predictions.parquet.journal")
    assert 17 <= len(before) < 60
    assert store.get(run.id).state == RUNNING  # type: ignore[union-attr]

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "dashboard" / "app.py"), "--server.port", str(port)]
    with log.open("wb") as stream:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stream, stderr=stream)
    try:
        until(lambda: {run.state for run in store.runs()} == {DONE}, server, log)
    finally:
        server.terminate()
        server.wait(60)
    first, second = (next(run for run in store.runs() if run.name == name) for name in ("interrupted", "waiting"))
    assert table(first) == table(second)
    after = pd.read_parquet(first.table)["elapsed_ms"].tolist()
    assert len(after) == 60
    assert after[:12] == before[:12]  # whole batches were taken over, not judged again
    assert first.digest == second.digest is not None
    assert first.seconds > 0
    assert not (first.folder / "predictions.parquet.journal").exists()


@pytest.mark.parametrize("paused", [False, True])
def test_a_stopped_queue_or_a_paused_run_goes_on_to_the_same_table(
    store: RunStore, tmp_path: Path, batch: int, *, paused: bool
) -> None:
    inputs = many(tmp_path / "many")
    whole = kept(store, fragile(), inputs)
    finish(store, whole, fragile())
    run = kept(store, fragile(), inputs)
    halfway, go = threading.Event(), threading.Event()

    class Slow(Fragile):
        def classify_many(self, sources, **options):  # type: ignore[no-untyped-def]
            for number, result in enumerate(super().classify_many(sources, **options)):
                if number == 9:
                    halfway.set()
                    go.wait(20)
                yield result

    def work(detector: Detector) -> Callable[[Job], None]:
        return lambda job: bool(tasks.perform(job, run, lambda: detector, Settings())) and None

    queue = JobQueue(store)
    job = queue.submit(run, work(Slow.load(get_settings().default_checkpoint)))
    assert halfway.wait(60)
    if paused:
        queue.pause(job)
    closing = threading.Thread(target=queue.close)
    closing.start()
    time.sleep(0.1)
    go.set()
    closing.join(60)
    after = JobQueue(again(store))
    found = after.store.interrupted()
    assert [other.id for other in found] == ([] if paused else [run.id])  # what is paused waits to be asked
    left = after.store.get(run.id)
    assert left is not None
    assert left.state == (PAUSED if paused else INTERRUPTED)
    assert 9 <= left.done < 22
    shown = tasks.load_result(left, Settings())
    assert isinstance(shown, tasks.BulkResult)
    assert len(shown.images) == left.done
    job = after.submit(left, work(fragile()))
    end = time.monotonic() + 60
    while not after.progress(job).finished:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert after.progress(job).error is None
    assert table(run) == table(whole)
    after.close()


def test_the_list_of_inputs_is_json_and_parquet(store: RunStore, detector: Detector, app_home: Path) -> None:
    run = kept(store, detector, from_folder(app_home / "served"), EVALUATION)
    about = json.loads((run.folder / "inputs.json").read_text())
    assert about["folders"]["folder"] == ["fake", "real"]
    assert pd.read_parquet(run.folder / "labels.parquet")["label"].tolist() == [1, 1, 1, 0, 0, 0]
