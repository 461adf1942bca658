"""Bulk and evaluation as a visitor sees them, with the real queue and a real archive."""

from __future__ import annotations

import io
import threading
import time

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import resources, tasks

from .conftest import archive, open_page, picture
from .test_pages import text_of


def click(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def until_finished(app: AppTest, kind: str) -> AppTest:
    queue = resources.job_queue()
    job = queue.get(app.session_state[f"job_{kind}"])
    assert job is not None
    end = time.monotonic() + 60
    while not queue.progress(job).finished:
        assert time.monotonic() < end, "the job did not finish"
        time.sleep(0.05)
    return app.run()


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
    until_finished(app, "bulk")
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
    open_page(app, "bulk")
    app.file_uploader(key="bulk_files").upload("one.png", picture())
    app.run()
    click(app, "Start")
    until_finished(app, "bulk")
    job_id = app.session_state["job_bulk"]

    other = AppTest.from_file(app._script_path, default_timeout=60).run()
    other.query_params["job"] = job_id
    open_page(other, "bulk")
    assert not other.exception
    assert {metric.label: metric.value for metric in other.metric}["Pictures"] == "1"


def test_a_run_that_is_gone_says_so(app: AppTest) -> None:
    app.query_params["job"] = "gone"
    open_page(app, "bulk")
    assert "is gone" in app.warning[0].value


def test_deleting_a_run_removes_its_files(app: AppTest) -> None:
    open_page(app, "bulk")
    app.file_uploader(key="bulk_files").upload("one.png", picture())
    app.run()
    click(app, "Start")
    until_finished(app, "bulk")
    job = resources.job_queue().get(app.session_state["job_bulk"])
    assert job is not None
    assert list(job.folder.iterdir())
    click(app, "Delete this run")
    assert not job.folder.exists()
    assert resources.job_queue().get(job.id) is None


def test_filter_by_verdict_keeps_only_that_verdict(app: AppTest) -> None:
    open_page(app, "bulk")
    app.file_uploader(key="bulk_files").upload("set.zip", labelled_archive())
    app.run()
    click(app, "Start")
    until_finished(app, "bulk")
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
    return until_finished(app, "evaluate")


def test_one_threshold_moves_every_figure_without_another_run(
    evaluated: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = evaluated
    assert not app.exception
    job_id = app.session_state["job_evaluate"]
    monkeypatch.setattr(tasks, "classify", None)
    slider = app.slider(key=f"threshold_{job_id}")
    assert slider.value == pytest.approx(0.6)
    slider.set_value(0.0).run()
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["AI-generated found"] == "100.0 %"
    assert shown["False alarms"] == "100.0 %"
    app.slider(key=f"threshold_{job_id}").set_value(1.0).run()
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["AI-generated found"] == "0.0 %"
    assert shown["Precision"] == "–"
    assert not app.exception


def test_errors_can_be_explained(evaluated: AppTest) -> None:
    app = evaluated
    app.slider(key=f"threshold_{app.session_state['job_evaluate']}").set_value(0.0).run()
    app.session_state["evaluation_cell"] = "FP"
    app.run()
    buttons = [button for button in app.button if button.label == "Explain"]
    assert len(buttons) == 4  # the four readable real pictures
    buttons[0].click().run()
    assert not app.exception
    assert app.session_state["picture"].name.endswith(".png")


def test_downloads_hold_the_predictions(evaluated: AppTest) -> None:
    job = resources.job_queue().get(evaluated.session_state["job_evaluate"])
    assert job is not None
    frame = pd.read_parquet(io.BytesIO(tasks.parquet_bytes(job.result.predictions)))
    assert sorted(frame["label"].unique()) == [0, 1]
    assert tasks.csv_bytes(job.result.predictions).startswith(b"path,")
    assert b'"roc_auc"' in tasks.json_bytes(job.result.metrics)
    report = tasks.report_bytes(job.result)
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
    until_finished(app, "evaluate")
    assert not app.exception
    assert "6 pictures" in text_of(app)


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
    return until_finished(app, "evaluate")


@pytest.mark.parametrize("label", ["real", "fake"])
def test_one_class_alone_is_measured_as_far_as_it_can_be(app: AppTest, label: str) -> None:
    evaluate_archive(app, {f"{label}/{number}.png": picture(seed=number) for number in range(4)})
    assert not app.exception
    assert "Curves need both" in text_of(app)
    assert {metric.label: metric.value for metric in app.metric}["ROC AUC"] == "–"


def test_a_set_without_any_usable_face_says_so(app: AppTest) -> None:
    white = picture(colour=(255, 255, 255))
    evaluate_archive(app, {"real/a.png": white, "fake/b.png": white})
    assert not app.exception
    assert "nothing to measure" in app.warning[0].value


def test_a_run_cancelled_before_it_began_shows_no_figures(app: AppTest) -> None:
    gate = threading.Event()
    queue = resources.job_queue()
    queue.submit("other", "x", 1, queue.new_folder(), lambda job: gate.wait(30))
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


def test_hostile_file_names_stay_text(app: AppTest) -> None:
    name = "**bold** [x](https://example.org) :red[y].png"
    open_page(app, "bulk")
    app.file_uploader(key="bulk_files").upload(name, picture())
    app.run()
    click(app, "Start")
    until_finished(app, "bulk")
    assert not app.exception
    assert not any("[x](https" in element.value for element in app.markdown)
