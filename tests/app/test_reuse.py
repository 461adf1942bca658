"""What earlier runs of the same person judged is not judged again; nobody else's is even looked at."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

import model
from dashboard import resources, reuse, tasks
from dashboard.jobs import Job, Stopped
from dashboard.settings import Settings, get_settings
from dashboard.store import BULK, CANCELLED, DONE, EVALUATION, Run, RunStore
from model import bulk
from model.dataset import from_source_set
from model.sources import SourceSet, from_folder

from .conftest import archive, open_page, picture
from .test_pages import text_of
from .test_runs import bulk_run, click, job_of, until_finished
from .test_store import Fragile, batch, fragile, many, store, table

__all__ = ["batch", "store"]  # fixtures


def handed_in(store: RunStore, inputs: SourceSet, *, kind: str = BULK, owner: str | None = "ada") -> Run:
    detector = fragile()
    run = store.create(
        kind,
        "a run",
        checkpoint="tiny",
        checkpoint_sha256=detector.checkpoint.sha256,
        settings=tasks.recipe(detector, get_settings()),
        owner=owner,
    )
    tasks.keep_inputs(run, from_source_set(inputs) if kind == EVALUATION else inputs)
    run = store.update(run.id, total=len(inputs)) or run
    store.release(run.id)
    return run


def finish(store: RunStore, run: Run, detector: Fragile, settings: Settings | None = None) -> Job:
    job = Job.of(run)
    earlier = [other.table for other in reuse.earlier(store, run, settings or get_settings())]
    tasks.perform(job, run, lambda: detector, get_settings(), earlier=earlier)
    store.update(run.id, state=DONE, done=job.done, counts=dict(job.counts), known=job.known)
    return job


def judged(store: RunStore, run: Run, **options: Settings) -> int:
    """Images that reach the detector when the run is worked on."""
    detector = fragile()
    finish(store, run, detector, **options)
    return detector.judged


def named(run: Run) -> pd.DataFrame:
    return pd.read_parquet(run.table).set_index("path")


def test_only_what_is_new_or_changed_reaches_the_detector(store: RunStore, tmp_path: Path, batch: int) -> None:
    folder = tmp_path / "many"
    first = handed_in(store, many(folder))
    assert judged(store, first) == 22
    (folder / "003.png").write_bytes(picture(seed=103))
    (folder / "004.png").rename(folder / "renamed.png")
    (folder / "005.png").unlink()
    (folder / "new.png").write_bytes(picture(seed=104))
    shutil.copy(folder / "010.png", folder / "copied.png")
    inputs = from_folder(folder)
    second = handed_in(store, inputs)
    detector = fragile()
    job = finish(store, second, detector)
    assert detector.judged == 3  # the changed one, the new one, and the one that could not be read
    assert (job.done, job.known, sum(job.counts.values())) == (23, 20, 23)
    before, after = named(first), named(second)
    assert list(dict.fromkeys(after.index)) == [source.name for source in inputs]
    columns = [name for name in before if name != "path"]
    for now, then in (("renamed.png", "004.png"), ("copied.png", "010.png"), ("000.png", "000.png")):
        pd.testing.assert_frame_equal(
            after.loc[[now], columns].reset_index(drop=True),
            before.loc[[then], columns].reset_index(drop=True),
            check_exact=True,
        )
    assert after.loc["003.png", "sha256"] != before.loc["003.png", "sha256"]
    assert sorted(tasks.load_thumbnails(second)) == [n for n, source in enumerate(inputs) if source.name != "009.png"]
    assert bulk.identity(detector).items() <= after.iloc[0].to_dict().items()


def test_a_run_that_is_the_same_judges_nothing_and_says_the_same(store: RunStore, tmp_path: Path, batch: int) -> None:
    (tmp_path / "readable").mkdir()
    for number in range(9):
        (tmp_path / "readable" / f"{number}.png").write_bytes(picture(seed=number))
    inputs = from_folder(tmp_path / "readable")
    runs = [handed_in(store, inputs) for _ in range(3)]
    assert [judged(store, run) for run in runs] == [9, 0, 0]
    assert table(runs[0]) == table(runs[1]) == table(runs[2])
    assert [run.known for run in store.runs()] == [9, 9, 0]


def test_runs_from_before_runtimes_were_told_serve_those_of_pytorch(
    store: RunStore, tmp_path: Path, batch: int
) -> None:
    inputs = many(tmp_path / "many", 4)
    first, second = handed_in(store, inputs), handed_in(store, inputs)
    judged(store, first)
    old = {key: value for key, value in first.settings.items() if key != "runtime"}
    assert first.settings["runtime"] == "torch"
    store.update(first.id, settings=old)
    assert [run.id for run in reuse.earlier(store, second, get_settings())] == [first.id]


Change = Callable[[RunStore, Run, Run], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda store, first, second: store.update(second.id, checkpoint_sha256="1" * 64),
        lambda store, first, second: store.update(second.id, owner="eve"),
        lambda store, first, second: store.update(second.id, owner=None),
        lambda store, first, second: store.update(first.id, owner=None),
        lambda store, first, second: store.update(second.id, settings=first.settings | {"tier": "web"}),
        lambda store, first, second: store.update(second.id, settings=first.settings | {"precision": "bf16"}),
        lambda store, first, second: store.update(second.id, settings=first.settings | {"runtime": "openvino"}),
        lambda store, first, second: store.update(
            second.id, settings=first.settings | {"thresholds": {"real": 0.1, "fake": 0.9, "fpr": None, "custom": True}}
        ),
        lambda store, first, second: store.delete(first.id),
        lambda store, first, second: store.update(first.id, state=CANCELLED),
        lambda store, first, second: first.table.unlink(),
        lambda store, first, second: first.table.write_bytes(b"garbage"),
    ],
    ids=["checkpoint", "owner", "nobody's", "from nobody", "tier", "precision", "runtime", "thresholds", "deleted"]
    + ["unfinished", "gone", "damaged"],
)
def test_other_runs_do_not_serve(store: RunStore, tmp_path: Path, batch: int, change: Change) -> None:
    inputs = many(tmp_path / "many", 4)
    first, second = handed_in(store, inputs), handed_in(store, inputs)
    judged(store, first)
    change(store, first, second)
    second = store.get(second.id) or second
    assert judged(store, second) == 4
    assert (store.get(second.id) or second).known == 0


@pytest.mark.parametrize("column", ["threshold_fake", "runtime", "version"])
def test_what_the_table_says_counts_whatever_the_index_says(
    store: RunStore, tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    inputs = many(tmp_path / "many", 4)
    first = handed_in(store, inputs)
    with monkeypatch.context() as patch:
        if column == "version":
            patch.setattr(model, "__version__", "0.0.1")
        judged(store, first)
    frame = pd.read_parquet(first.table)
    if column != "version":
        frame[column] = 0.99 if column == "threshold_fake" else "onnx-fp32"
        frame.to_parquet(first.table)
    assert judged(store, handed_in(store, inputs)) == 4


def test_it_can_be_turned_off_and_is_bounded(
    store: RunStore, tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = many(tmp_path / "many", 4)
    first = handed_in(store, inputs)
    judged(store, first)
    assert judged(store, handed_in(store, inputs), settings=Settings(reuse_results=False)) == 4
    monkeypatch.setattr(reuse, "MAX_RUNS", 1)
    last = handed_in(store, inputs)
    newest = [run.id for run in store.runs()][1]
    assert [run.id for run in reuse.earlier(store, last, Settings())] == [newest] != [first.id]


def test_runs_of_others_serve_where_all_see_them(store: RunStore, tmp_path: Path, batch: int) -> None:
    inputs = many(tmp_path / "many", 4)
    judged(store, handed_in(store, inputs, owner="eve"))
    assert judged(store, handed_in(store, inputs)) == 4
    shared = Settings(shared_runs=True)
    assert judged(store, handed_in(store, inputs, owner="joe"), settings=shared) == 0
    assert judged(store, handed_in(store, inputs, owner=None), settings=shared) == 0


def test_labels_do_not_come_along(store: RunStore, tmp_path: Path, batch: int) -> None:
    for number in range(6):
        place = tmp_path / "set" / ("real" if number % 2 else "fake") / "camera"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(picture(seed=number, size=(260, 120)))
    inputs = from_folder(tmp_path / "set")
    first = handed_in(store, inputs, kind=EVALUATION)
    judged(store, first)
    assert set(named(first)["label"]) == {0, 1}
    plain = handed_in(store, inputs)
    assert judged(store, plain) == 0
    assert named(plain)[["label", "source"]].isna().all(axis=None)
    (tmp_path / "set" / "fake").rename(tmp_path / "set" / "x")
    (tmp_path / "set" / "real").rename(tmp_path / "set" / "fake")
    (tmp_path / "set" / "x").rename(tmp_path / "set" / "real")
    turned = handed_in(store, from_folder(tmp_path / "set"), kind=EVALUATION)
    assert judged(store, turned) == 0
    assert named(turned).loc["fake/camera/1.png", "label"].tolist() == [1, 1]
    assert named(turned).loc["fake/camera/1.png", "logit"].tolist() == (
        named(first).loc["real/camera/1.png", "logit"].tolist()
    )


@pytest.mark.parametrize("left", [0, 1, 6, 9])
@pytest.mark.parametrize("meanwhile", ["deleted", "another"])
def test_however_often_it_is_stopped_the_table_is_the_same(
    store: RunStore, tmp_path: Path, batch: int, left: int, meanwhile: str
) -> None:
    folder = tmp_path / "many"
    first = handed_in(store, many(folder, 12))
    judged(store, first)
    for number in range(10):
        (folder / f"{number}-new.png").write_bytes(picture(seed=200 + number))
    inputs = from_folder(folder)
    whole, pieces = handed_in(store, inputs, owner="ada"), handed_in(store, inputs, owner="bob")
    finish(store, whole, fragile())
    store.update(first.id, owner="bob")
    with pytest.raises(RuntimeError, match="power cut"):
        finish(store, pieces, fragile(left))
    if meanwhile == "deleted":
        store.delete(first.id)
    elif left > batch:  # something was judged: what another run has judged by now comes too late
        store.update(whole.id, owner="bob")
    rest = fragile()
    job = finish(store, pieces, rest)
    assert table(pieces) == table(whole)
    assert (job.done, job.known) == (22, 11)
    assert 11 - left <= rest.judged <= 11


def test_looking_for_earlier_results_can_be_stopped(store: RunStore, tmp_path: Path, batch: int) -> None:
    inputs = many(tmp_path / "many", 9)
    first, second = handed_in(store, inputs), handed_in(store, inputs)
    judged(store, first)
    for steps in (3, 14):  # while files are read, and while results are taken over

        class Impatient(Job):
            left = steps

            def rest(self) -> None:
                self.left -= 1
                if self.left == 0:
                    raise Stopped

        job = Impatient.of(second)
        detector = fragile()
        with pytest.raises(Stopped):
            tasks.perform(job, second, lambda detector=detector: detector, get_settings(), earlier=[first.table])
        assert (detector.judged, job.known) == (0, job.done)
        assert job.done == max(0, steps - 10)
    assert judged(store, second) == 0
    assert table(second) == table(first)


def test_the_page_says_how_many_were_judged_before(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = {f"{number}.png": picture(seed=number) for number in range(4)}
    bulk_run(app, "set.zip", archive(pictures))
    assert "judged before" not in text_of(app)
    click(app, "New run")
    job = bulk_run(app, "again.zip", archive(pictures | {"new.png": picture(seed=9)}))
    assert "4 of 5 were judged before" in text_of(app)
    assert {metric.label: metric.value for metric in app.metric}["Pictures"] == "5"
    assert (resources.job_queue().store.get(job.id) or job).known == 4
    open_page(app, "evaluate")
    labelled = {f"real/{name}": data for name, data in pictures.items()}
    app.file_uploader(key="evaluate_files").upload("set.zip", archive(labelled | {"fake/a.png": picture(seed=20)}))
    app.run()
    click(app, "Run the evaluation")
    until_finished(app, EVALUATION)
    assert not app.exception
    assert "4 of 5 were judged before" in text_of(app)
    monkeypatch.setenv("REALITY_CHECK_REUSE_RESULTS", "false")
    get_settings.cache_clear()
    click(app, "New evaluation")
    open_page(app, "bulk")
    click(app, "New run")
    bulk_run(app, "off.zip", archive(pictures))
    assert "judged before" not in text_of(app)
    assert job_of(app, BULK).known == 0
