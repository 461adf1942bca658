"""Bulk and evaluation as a visitor sees them, with the real queue and a real archive."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard import resources, start, tasks
from dashboard.jobs import Job
from dashboard.settings import get_settings
from dashboard.store import BULK, DONE, EVALUATION, PAUSED
from model.dataset import MANIFEST_SUFFIXES
from model.sources import SourceSet, from_folder

from .conftest import archive, open_page, picture
from .test_pages import text_of


def click(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def until_finished(app: AppTest, kind: str) -> AppTest:
    queue = resources.job_queue()
    end = time.monotonic() + 60
    while not queue.progress(job_of(app, kind)).finished:
        assert time.monotonic() < end, "the job did not finish"
        time.sleep(0.05)
    return app.run()


def job_of(app: AppTest, kind: str) -> Job:
    job = resources.job_queue().get(app.session_state[f"job_{kind}"])
    assert job is not None
    return job


def start_server_again() -> None:
    """Forget what lives in memory, as the end of the server would."""
    resources.job_queue().close()
    st.cache_resource.clear()


def delete_this(app: AppTest) -> AppTest:
    """Delete the run of the page, as asked."""
    (button,) = (button for button in app.button if button.label == "Delete this run for good")
    assert button.disabled
    next(box for box in app.checkbox if box.label == "I want this run deleted").check().run()
    return click(app, "Delete this run for good")


def bulk_run(app: AppTest, name: str = "one.png", data: bytes | None = None) -> Job:
    open_page(app, "bulk")
    app.file_uploader(key="bulk_files").upload(name, data or picture())
    app.run()
    click(app, "Start")
    until_finished(app, BULK)
    assert not app.exception
    return job_of(app, BULK)


def labelled_archive() -> bytes:
    members = {f"set/real/camera/{n}.png": picture(seed=n) for n in range(4)}
    members |= {f"set/fake/sdxl/{n}.png": picture(seed=n + 50) for n in range(4)}
    members["set/real/broken.jpg"] = b"\xff\xd8\xff nonsense"
    members["set/notes.txt"] = b"not a picture"
    return archive(members)


def test_a_zip_is_counted_run_and_shown(app: AppTest) -> None:
    open_page(app, "bulk")
    app.file_uploader(key="bulk_files").upload("set.zip", labelled_archive())
    app.run()
    assert not app.exception
    assert "**9 pictures** ready" in text_of(app)
    click(app, "Start")
    until_finished(app, BULK)
    assert not app.exception
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Pictures"] == "9"
    assert shown["Broken file"] == "1"
    table = app.dataframe[-1].value
    assert len(table) == 9
    broken = table[table["name"] == "broken.jpg"].iloc[0]
    assert list(broken["verdict"]) == ["Broken file"]
    assert "broken.jpg" in broken["why"]


def test_the_address_finds_a_run_again(app: AppTest) -> None:
    job = bulk_run(app)
    assert app.query_params["run"] == job.id
    for restart in (False, True):
        if restart:
            start_server_again()
        other = AppTest.from_file(app._script_path, default_timeout=60).run()
        other.query_params["run"] = job.id
        open_page(other, "bulk")
        assert not other.exception
        assert not other.warning
        assert {metric.label: metric.value for metric in other.metric}["Pictures"] == "1"
        next(button for button in other.button if button.label == "Explain this").click().run()
        assert other.session_state["picture"].data == picture()


def test_a_file_that_changed_is_not_shown_under_its_old_verdict(app: AppTest) -> None:
    job = bulk_run(app)
    (source,) = resources.result_of(job).sources  # type: ignore[union-attr]
    assert not any("has changed" in warning.value for warning in app.warning)
    source.location.write_bytes(picture(seed=9))
    app.run()
    assert any("has changed since it was judged" in warning.value for warning in app.warning)
    assert not any(button.label == "Explain this" for button in app.button)
    app.segmented_control(key=f"way_{job.id}").set_value("Gallery").run()
    app.toggle(key=f"heatmaps_{job.id}").set_value(True).run()
    assert not app.exception
    assert "this file has changed since it was judged" in text_of(app)
    assert not app.image
    app.query_params["image"] = "0"
    open_page(app, "explain")
    assert "this file has changed since it was judged" in app.warning[0].value
    assert app.session_state["picture"] is None


@pytest.mark.parametrize("name", ["bulk", "evaluate"])
def test_a_run_that_is_gone_says_so(app: AppTest, name: str) -> None:
    app.query_params["run"] = "gone"
    open_page(app, name)
    assert not app.exception
    assert "is gone" in app.warning[0].value


def test_a_run_of_the_other_page_is_not_shown(app: AppTest) -> None:
    job = bulk_run(app)
    other = AppTest.from_file(app._script_path, default_timeout=60).run()
    other.query_params["run"] = job.id
    open_page(other, "evaluate")
    assert not other.exception
    assert "belongs to another page" in other.warning[0].value


def test_a_damaged_run_says_so_and_does_not_spoil_the_list(app: AppTest) -> None:
    job = bulk_run(app)
    (job.folder / "predictions.parquet").unlink()
    app.run()
    assert not app.exception
    assert "table of results is missing" in app.error[0].value
    assert "damaged" in text_of(app)
    (job.folder / "predictions.parquet").write_bytes(b"garbage")
    st.cache_resource.clear()
    app.run()
    assert not app.exception
    assert "cannot be read" in app.error[0].value


def test_deleting_a_run_removes_its_files_and_says_what_went(app: AppTest) -> None:
    job = bulk_run(app)
    assert [path.name for path in (job.folder / "uploads").iterdir()] == ["000000.bin"]
    delete_this(app)
    assert not app.exception
    assert not job.folder.exists()
    assert resources.job_queue().get(job.id) is None
    assert "1 uploaded file" in app.toast[0].value
    app.query_params["run"] = job.id
    app.run()
    assert "is gone" in app.warning[0].value


def listed(app: AppTest) -> list[str]:
    return [button.key.removeprefix("open_") for button in app.button if button.key and button.key.startswith("open_")]


def test_kept_runs_are_listed_opened_renamed_and_deleted(app: AppTest) -> None:
    first = bulk_run(app, "first.png")
    click(app, "New run")
    second = bulk_run(app, "second.png")
    click(app, "New run")
    assert listed(app) == [second.id, first.id]
    assert "tiny" in text_of(app)
    app.text_input(key=f"name_{first.id}").set_value("  Case 7 *\n")  # the field is left by clicking the button
    app.button(key=f"rename_{first.id}").click().run()
    assert resources.job_queue().store.get(first.id).name == "Case 7 *"  # type: ignore[union-attr]
    app.button(key=f"open_{first.id}").click().run()
    assert not app.exception
    assert "Case 7 \\*" in text_of(app)
    assert app.query_params["run"] == first.id
    click(app, "New run")
    assert app.button(key=f"delete_{second.id}").disabled
    app.checkbox(key=f"sure_{second.id}").check().run()
    app.button(key=f"delete_{second.id}").click().run()
    assert not app.exception
    assert listed(app) == [first.id]
    assert not second.folder.exists()
    open_page(app, "evaluate")
    assert listed(app) == []


def test_two_visitors_run_at_once_and_each_sees_their_own(app: AppTest) -> None:
    other = AppTest.from_file(app._script_path, default_timeout=60).run()
    gate = hold_the_queue()
    for visitor, name in ((app, "mine.png"), (other, "yours.png")):
        open_page(visitor, "bulk")
        visitor.file_uploader(key="bulk_files").upload(name, picture(seed=len(name)))
        visitor.run()
        click(visitor, "Start")
    assert "1 before it" in text_of(app)
    assert "2 before it" in text_of(other)
    gate.set()
    for visitor, name, foreign in ((app, "mine.png", "yours"), (other, "yours.png", "mine")):
        until_finished(visitor, BULK)
        assert not visitor.exception
        assert visitor.dataframe[-1].value["name"].tolist() == [name]
        assert foreign not in text_of(visitor)


def held_at_the_fourth() -> tuple[threading.Event, threading.Event, Callable[..., None]]:
    """In place of `Job.advance`: sets the first event when the fourth picture is judged, and waits for the second."""
    reached, go = threading.Event(), threading.Event()
    advance = Job.advance

    def slowly(job: Job, shown: tasks.Judged, **counts: int) -> None:
        if job.done == 3:
            reached.set()
            go.wait(30)
        advance(job, shown, **counts)

    return reached, go, slowly


def test_a_cancelled_run_shows_what_it_has_and_goes_on(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALITY_CHECK_BATCH_SIZE", "1")
    get_settings.cache_clear()
    reached, go, slowly = held_at_the_fourth()

    with monkeypatch.context() as patch:
        patch.setattr(Job, "advance", slowly)
        open_page(app, "bulk")
        app.file_uploader(key="bulk_files").upload("set.zip", labelled_archive())
        app.run()
        click(app, "Start")
        assert reached.wait(60)
        app.run()
        assert "Judged last" in text_of(app)
        shown = next(table.value for table in app.dataframe if "p_fake" in table.value)
        assert len(shown) == 3 and shown["picture"].str.startswith("data:image/").all()
        click(app, "Cancel")
        go.set()
        until_finished(app, BULK)
    assert not app.exception
    assert "Cancelled after 4 of 9" in app.warning[0].value
    assert {metric.label: metric.value for metric in app.metric}["Pictures"] == "4"
    kept = next(table.value for table in app.dataframe if "p_fake" in table.value)
    both = ["folder", "name", "picture", "p_fake", "verdict"]
    last = kept.merge(shown[["folder", "name"]]).sort_values("name", ascending=False, ignore_index=True)
    pd.testing.assert_frame_equal(shown[both], last[both])
    click(app, "Continue")
    until_finished(app, BULK)
    assert not app.exception
    assert not app.warning
    assert {metric.label: metric.value for metric in app.metric}["Pictures"] == "9"
    assert not [button for button in app.button if button.label == "Continue"]


@pytest.mark.parametrize("kind", [BULK, EVALUATION])
def test_a_paused_run_waits_through_a_restart_until_its_owner_continues(
    app: AppTest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("REALITY_CHECK_BATCH_SIZE", "1")
    get_settings.cache_clear()
    reached, go, slowly = held_at_the_fourth()
    page, button, again = {
        BULK: ("bulk", "Start", "New run"),
        EVALUATION: ("evaluate", "Run the evaluation", "New evaluation"),
    }[kind]
    with monkeypatch.context() as patch:
        patch.setattr(Job, "advance", slowly)
        open_page(app, page)
        app.file_uploader(key=f"{page}_files").upload("set.zip", labelled_archive())
        app.run()
        click(app, button)
        assert reached.wait(60)
        app.run()
        click(app, "Pause")
        assert [button.disabled for button in app.button if button.label in ("Pause", "Cancel")] == [True, True]
        go.set()
        until_finished(app, kind)
    run_id = app.session_state[f"job_{kind}"]
    for restart in (False, True):
        if restart:
            start_server_again()
            app.run()
        assert not app.exception
        assert "Paused after 4 of 9" in app.info[0].value
        assert job_of(app, kind).state == PAUSED
    click(app, again)
    assert "paused" in text_of(app)
    app.button(key=f"open_{run_id}").click().run()
    click(app, "Continue")
    until_finished(app, kind)
    assert not app.exception
    assert job_of(app, kind).state == DONE
    assert "9 pictures" in text_of(app) or {metric.label: metric.value for metric in app.metric}["Pictures"] == "9"


def test_paused_runs_do_not_get_around_the_limit_of_waiting_runs(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALITY_CHECK_OWNER_QUEUED_JOBS", "1")
    get_settings.cache_clear()
    gate = hold_the_queue()
    open_page(app, "bulk")
    for name in ("one.png", "two.png"):
        app.file_uploader(key="bulk_files").upload(name, picture())
        app.run()
        click(app, "Start")
        assert not app.error
        if name == "one.png":
            click(app, "Pause")
            click(app, "New run")
    second = app.session_state["job_bulk"]
    first = next(run for run in resources.job_queue().store.runs(kind=BULK) if run.id != second)
    other = AppTest.from_file(app._script_path, default_timeout=60).run()
    other.query_params["run"] = first.id
    open_page(other, "bulk")
    click(other, "Continue")
    assert "wait or run already" in other.toast[0].value
    assert resources.job_queue().store.get(first.id).state == PAUSED  # type: ignore[union-attr]
    gate.set()


def test_an_interrupted_run_goes_on_when_the_server_starts_again(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = hold_the_queue()
    open_page(app, "evaluate")
    app.file_uploader(key="evaluate_files").upload("set.zip", labelled_archive())
    app.run()
    click(app, "Run the evaluation")
    run_id = app.session_state["job_evaluation"]
    threading.Timer(0.2, gate.set).start()
    start_server_again()
    monkeypatch.setenv("REALITY_CHECK_RESUME_RUNS", "false")
    get_settings.cache_clear()
    app.run()
    assert not app.exception
    assert "Interrupted" in app.warning[0].value
    assert [button for button in app.button if button.label == "Continue"]
    start_server_again()
    monkeypatch.setenv("REALITY_CHECK_RESUME_RUNS", "true")
    get_settings.cache_clear()
    resources.job_queue()
    until_finished(app, EVALUATION)
    assert not app.exception
    assert app.session_state["job_evaluation"] == run_id
    assert "9 pictures" in text_of(app)


def test_runs_that_are_too_old_go_at_start(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    job = bulk_run(app)
    resources.job_queue().store.update(job.id, finished=time.time() - 3 * 86400)
    monkeypatch.setenv("REALITY_CHECK_KEEP_DAYS", "2")
    get_settings.cache_clear()
    start_server_again()
    app.run()
    assert "is gone" in app.warning[0].value
    assert not job.folder.exists()


def hold_the_queue() -> threading.Event:
    """Something else runs until the event is set."""
    gate = threading.Event()
    queue = resources.job_queue()
    run = queue.store.create("other", "x", checkpoint="", checkpoint_sha256="", settings={})
    queue.submit(run, lambda job: bool(gate.wait(30)) and None)
    return gate


def test_filter_by_verdict_keeps_only_that_verdict(app: AppTest) -> None:
    open_page(app, "bulk")
    app.file_uploader(key="bulk_files").upload("set.zip", labelled_archive())
    app.run()
    click(app, "Start")
    until_finished(app, BULK)
    app.pills[0].set_value(["broken"]).run()
    assert app.dataframe[-1].value["name"].tolist() == ["broken.jpg"]


def test_labels_are_explained_before_an_evaluation_runs(app: AppTest) -> None:
    open_page(app, "evaluate")
    app.file_uploader(key="evaluate_files").upload("set.zip", labelled_archive())
    app.run()
    assert not app.exception
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown == {"Real": "5", "AI-generated": "4", "Left out": "1"}
    table = app.dataframe[0].value
    assert dict(zip(table["Folder"], table["Taken as"].map(list), strict=True)) == {
        "set/fake": ["AI-generated"],
        "set/real": ["Real photograph"],
    }


def test_unknown_labels_are_refused_with_the_folder_name(app: AppTest) -> None:
    open_page(app, "evaluate")
    app.file_uploader(key="evaluate_files").upload("set.zip", archive({"holiday/a.png": picture()}))
    app.run()
    assert not app.exception
    assert "holiday" in app.error[0].value
    assert not [button for button in app.button if button.label == "Run the evaluation"]


@pytest.fixture
def evaluated(app: AppTest) -> AppTest:
    open_page(app, "evaluate")
    app.file_uploader(key="evaluate_files").upload("set.zip", labelled_archive())
    app.run()
    click(app, "Run the evaluation")
    return until_finished(app, EVALUATION)


def test_one_threshold_moves_every_figure_without_another_run(
    evaluated: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = evaluated
    assert not app.exception
    job_id = app.session_state["job_evaluation"]
    monkeypatch.setattr(tasks, "perform", None)
    slider = app.slider(key=f"threshold_{job_id}")
    assert slider.value == pytest.approx(0.6)
    slider.set_value(0.0).run()
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["AI-generated found"] == "100.0 %"
    assert shown["False alarms"] == "100.0 %"
    app.slider(key=f"threshold_{job_id}").set_value(1.0).run()
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["AI-generated found"] == "0.0 %"
    assert shown["Precision"] == "undefined"
    assert not app.exception


def test_downloads_hold_the_predictions(evaluated: AppTest) -> None:
    result = resources.result_of(job_of(evaluated, EVALUATION))
    assert isinstance(result, tasks.EvaluationResult)
    frame = pd.read_parquet(io.BytesIO(tasks.parquet_bytes(result.predictions)))
    assert sorted(frame["label"].unique()) == [0, 1]
    assert tasks.csv_bytes(result.predictions).startswith(b"path,")
    assert b'"roc_auc"' in tasks.json_bytes(result.metrics)
    report = tasks.report_bytes(result)
    assert report.lstrip().lower().startswith(b"<!doctype html")
    assert b"http://" not in report.replace(b"http://www.w3.org", b"")


def test_a_server_folder_is_evaluated(app: AppTest) -> None:
    open_page(app, "evaluate")
    app.session_state["evaluate_way"] = "Server"
    app.run()
    app.selectbox(key="evaluate_place").select("served").run()
    assert not app.exception
    assert {metric.label: metric.value for metric in app.metric} == {"Real": "3", "AI-generated": "3", "Left out": "0"}
    click(app, "Run the evaluation")
    until_finished(app, EVALUATION)
    assert not app.exception
    assert "6 pictures" in text_of(app)


@pytest.mark.parametrize("suffix", MANIFEST_SUFFIXES)
def test_every_manifest_that_the_command_reads_is_offered_and_read(app: AppTest, app_home: Path, suffix: str) -> None:
    table = pd.DataFrame({"path": ["real/group/real-0.png", "fake/group/fake-0.png"], "label": ["real", "fake"]})
    place = app_home / "served" / f"list{suffix}"
    if suffix in (".parquet", ".pq"):
        table.to_parquet(place, index=False)
    else:
        table.to_csv(place, index=False)
    open_page(app, "evaluate")
    app.session_state["evaluate_way"] = "Server"
    app.run()
    app.selectbox(key="evaluate_place").select(f"served/list{suffix}").run()
    assert not app.exception
    assert {metric.label: metric.value for metric in app.metric}["AI-generated"] == "1"


@pytest.mark.parametrize(("name", "button"), [("bulk", "Start"), ("evaluate", "Run the evaluation")])
def test_a_server_folder_is_read_once_for_many_clicks(
    app: AppTest, app_home: Path, monkeypatch: pytest.MonkeyPatch, name: str, button: str
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> SourceSet:
        read.append(path)
        return from_folder(path)

    monkeypatch.setattr(start, "from_folder", counted)
    open_page(app, name)
    app.session_state[f"{name}_way"] = "Server"
    app.run()
    app.selectbox(key=f"{name}_place").select("served").run()
    app.run()
    assert len(read) == 1
    (app_home / "served" / "real" / "new.png").write_bytes(picture(seed=99))
    os.utime(app_home / "served", ns=(0, 0))  # as a new file right there would
    app.run()
    assert len(read) == 2
    click(app, button)
    assert not app.exception
    (run,) = resources.job_queue().store.runs()
    assert (len(read), run.total) == (2, 7)


def test_the_bundled_samples_can_be_evaluated(app: AppTest) -> None:
    open_page(app, "evaluate")
    app.session_state["evaluate_way"] = "Server"
    app.run()
    app.selectbox(key="evaluate_place").select("Bundled samples").run()
    assert not app.exception
    assert not app.error
    shown = {metric.label: int(metric.value) for metric in app.metric}
    assert min(shown.values()) > 0


def evaluate_archive(app: AppTest, members: dict[str, bytes]) -> AppTest:
    open_page(app, "evaluate")
    app.file_uploader(key="evaluate_files").upload("set.zip", archive(members))
    app.run()
    click(app, "Run the evaluation")
    return until_finished(app, EVALUATION)


@pytest.mark.parametrize("label", ["real", "fake"])
def test_one_class_alone_is_measured_as_far_as_it_can_be(app: AppTest, label: str) -> None:
    evaluate_archive(app, {f"{label}/{number}.png": picture(seed=number) for number in range(4)})
    assert not app.exception
    assert "Curves need both" in text_of(app)
    assert {metric.label: metric.value for metric in app.metric}["ROC AUC"] == "undefined"


def test_a_set_without_any_usable_face_says_so(app: AppTest) -> None:
    white = picture(colour=(255, 255, 255))
    evaluate_archive(app, {"real/a.png": white, "fake/b.png": white})
    assert not app.exception
    assert "nothing to measure" in app.warning[0].value


def test_a_run_cancelled_before_it_began_shows_no_figures(app: AppTest) -> None:
    gate = hold_the_queue()
    open_page(app, "bulk")
    app.file_uploader(key="bulk_files").upload("one.png", picture())
    app.run()
    click(app, "Start")
    assert "1 before it" in text_of(app)
    click(app, "Cancel")
    gate.set()
    app.run()
    assert not app.exception
    assert "Cancelled after 0 of 1" in app.warning[0].value
    assert not app.metric


def test_a_full_queue_is_explained(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources.job_queue(), "max_queued", 0)
    open_page(app, "bulk")
    app.file_uploader(key="bulk_files").upload("one.png", picture())
    app.run()
    click(app, "Start")
    assert not app.exception
    assert "Try again" in app.error[0].value
    assert resources.job_queue().store.runs() == []
    assert [path for path in resources.job_queue().store.folder.iterdir() if path.is_dir()] == []


def test_no_error_leaves_a_run_behind(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed")

    monkeypatch.setattr(tasks, "keep_inputs", fails)
    open_page(app, "bulk")
    app.file_uploader(key="bulk_files").upload("one.png", picture())
    app.run()
    click(app, "Start")
    assert app.exception
    store = resources.job_queue().store
    assert store.runs() == []
    assert [path for path in store.folder.iterdir() if path.is_dir()] == []


def test_hostile_file_names_stay_text(app: AppTest) -> None:
    name = "**bold** [x](https://example.org) :red[y].png"
    open_page(app, "bulk")
    app.file_uploader(key="bulk_files").upload(name, picture())
    app.run()
    click(app, "Start")
    until_finished(app, BULK)
    assert not app.exception
    assert not any("[x](https" in element.value for element in app.markdown)
