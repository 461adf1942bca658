"""A finished bulk run looked through: search, gallery, near-duplicates and export, with a hundred thousand pictures."""

from __future__ import annotations

import gc
import io
import time
import weakref
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest

from dashboard import export, resources, tasks
from dashboard.alike import FILE, Fingerprints
from dashboard.jobs import Job
from dashboard.people import LOCAL
from dashboard.review import BROKEN, ORDERS, Review, table_of
from dashboard.settings import Settings
from dashboard.store import BULK, CANCELLED, DONE, EVALUATION, Run, StoreError
from dashboard.tasks import BulkResult, images_of, json_bytes, parquet_bytes
from dashboard.widgets import run_gallery
from model.detector import Detector
from model.imaging import miniature
from model.sources import MemorySource, SourceError, from_folder

from .conftest import ROOT, open_page, picture
from .synthetic import Plan, predictions_of
from .test_pages import text_of
from .test_runs import delete_this

HOSTILE = "../../<i>y **bold** [x](mailto:a) :red[z].png"


def photograph(seed: int, side: int = 120) -> bytes:
    """A smooth picture, which survives being saved again."""
    noise = np.random.default_rng(seed).integers(0, 200, (12, 12, 3), dtype=np.uint8)
    return encoded(Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC))


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def results(names: list[str], p: list[float | None] | None = None, sha: list[str] | None = None) -> pd.DataFrame:
    """Results of so many pictures with a face each, or without one where there is no probability."""
    frame = predictions_of(Plan(real=len(names), fake=0, unscored=0)).drop(columns=["group", "light"])
    frame["path"], frame["label"], frame["source"] = names, np.nan, None
    if p is not None:
        frame["p_fake"] = p
        frame["logit"] = np.log(frame["p_fake"] / (1 - frame["p_fake"]))
        kinds = np.where(frame["p_fake"] >= 0.6, "fake", np.where(frame["p_fake"] <= 0.4, "real", "inconclusive"))
        frame["verdict"] = np.where(frame["p_fake"].isna(), "not_applicable", kinds)
        frame.loc[frame["p_fake"].isna(), "reason"] = "no_face"
        frame.loc[frame["p_fake"].isna(), "faces"] = 0
    if sha is not None:
        frame["sha256"] = sha
    return frame


@dataclass
class Named:
    name: str

    def read(self, max_bytes: int = 0) -> bytes:
        raise SourceError(f"{self.name}: is gone.")


def review_of(frame: pd.DataFrame, folder: Path = Path("nowhere")) -> Review:
    return Review(BulkResult(frame, images_of(frame), {}, [Named(name) for name in frame["path"].unique()]), folder)


def keep(pictures: dict[str, bytes], p: list[float | None], *, prints: bool = True) -> Run:
    """A finished bulk run in the store with its pictures."""
    store, info = resources.job_queue().store, resources.checkpoint()
    run = store.create(
        BULK,
        "review",
        checkpoint=info.name,
        checkpoint_sha256=info.sha256,
        settings={
            "thresholds": {"real": 0.4, "fake": 0.6, "fpr": 0.01, "custom": False},
            "precision": "fp32",
            "tier": "clean",
            "batch_size": 8,
        },
        owner=LOCAL,
    )
    run.uploads.mkdir(parents=True, exist_ok=True)
    digests, noted = [], Fingerprints.none(len(pictures))
    for number, data in enumerate(pictures.values()):
        (run.uploads / f"{number}.bin").write_bytes(data)
        digests.append(tasks.hashlib.sha256(data).hexdigest())
        noted.note(number, miniature(data, tasks.LOOK, crop=False))
    frame = results(list(pictures), p, digests)
    places = [f"uploads/{number}.bin" for number in range(len(pictures))]
    inputs = pd.DataFrame({"name": list(pictures), "location": places, "member": None})
    (run.folder / "inputs.json").write_bytes(json_bytes({"skipped": []}))
    (run.folder / "inputs.parquet").write_bytes(parquet_bytes(inputs))
    run.table.write_bytes(parquet_bytes(frame))
    if prints:
        noted.save(run.folder)
    done = store.update(run.id, state=DONE, finished=run.created, done=len(frame), total=len(frame))
    store.release(run.id)
    assert done is not None
    return done


def visit(run: Run) -> AppTest:
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60).run()
    app.query_params["run"] = run.id
    open_page(app, "bulk")
    assert not app.exception
    return app


def family() -> dict[str, bytes]:
    """Three of one picture, one of which is a byte for byte copy, and another picture."""
    first = photograph(1)
    smaller = encoded(Image.open(io.BytesIO(first)).resize((90, 90)), "JPEG")
    return {"a/first.png": first, "a/smaller.jpg": smaller, "b/other.png": photograph(2), "b/copy.png": first}


def names(app: AppTest) -> list[str]:
    return app.dataframe[-1].value["name"].tolist()


def button(app: AppTest, label: str) -> AppTest:
    return next(entry for entry in app.button if entry.label == label).click().run()


# --- what is looked for ---------------------------------------------------------------------------


def test_names_and_digests_are_found_with_one_field() -> None:
    digests = [f"{number:064x}" for number in (0xABCDEF << 232, 1, 2, 3)]
    review = review_of(results(["set/One.png", "set/two.png", "abcdef.png", "x.png"], sha=digests))
    assert review.rows(text="ONE").tolist() == [0]
    assert review.rows(text=digests[0][:6].upper()).tolist() == [0, 2]  # by its digest, and by its name
    assert review.rows(text=digests[0]).tolist() == [0]
    assert review.rows(text=digests[0][:5]).tolist() == [2]  # too short for a digest
    assert review.rows(text="set/").tolist() == [0, 1]
    assert review.rows(text=".*").tolist() == []
    assert review.rows(text="  ").tolist() == [0, 1, 2, 3]


def test_every_order_keeps_pictures_without_a_score_last() -> None:
    review = review_of(results(["b", "a", "d", "c"], [0.2, None, 0.9, 0.5]))
    assert review.counts == {"real": 1, "not_applicable": 1, "fake": 1, "inconclusive": 1}
    found = {order: review.rows(order=order).tolist() for order in ORDERS}
    assert found == {
        "Most suspicious": [2, 3, 0, 1],
        "Least suspicious": [0, 3, 2, 1],
        "Name": [1, 0, 3, 2],
        "As handed in": [0, 1, 2, 3],
    }
    assert review.rows(kinds=["real", "fake"], order="Most suspicious").tolist() == [2, 0]


def test_a_file_that_is_no_picture_is_broken_and_says_why() -> None:
    frame = results(["a.png", "b.png"], [0.9, None])
    frame.loc[1, ["reason", "error", "format", "sha256"]] = ["truncated", "b.png: ends too early.", "", ""]
    table = table_of(review_of(frame).result)
    assert table["kind"].tolist() == ["fake", BROKEN]
    assert table["why"].tolist() == ["", "b.png: ends too early."]


def test_a_picture_that_failed_after_it_was_decoded_is_broken_too() -> None:
    frame = results(["a.png", "b.png", "c.png"], [0.9, None, None])
    frame.loc[1, ["reason", "error", "format"]] = ["failed", "b.png: could not be judged.", "PNG"]
    assert tasks._counts(images_of(frame)) == {"fake": 1, "errors": 1, "not_applicable": 1}
    table = table_of(review_of(frame).result)
    assert table["kind"].tolist() == ["fake", BROKEN, "not_applicable"]
    assert table["why"].tolist()[1] == "b.png: could not be judged."


def test_pictures_of_a_stopped_run_are_those_of_their_rows() -> None:
    frame = results(["c", "a"], [0.9, 0.1])  # in the order in which they were judged
    sources = [Named(name) for name in "abc"]
    assert table_of(BulkResult(frame, images_of(frame), {}, sources))["position"].tolist() == [2, 0]  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="damaged"):
        table_of(BulkResult(frame, images_of(frame), {}, sources[:2]))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    count = 100_000
    p = np.random.default_rng(0).random(count)
    p[::50] = np.nan
    return results([f"set/{number:06}.png" for number in range(count)], list(p))


def test_choices_among_a_hundred_thousand_cost_next_to_nothing(many: pd.DataFrame) -> None:
    review = review_of(many)
    start = time.process_time()
    for order in ORDERS:
        review.rows(kinds=["fake"], order=order)
        review.rows(text="0123", order=order)
        review.rows(text="00000f", order=order)
    assert time.process_time() - start < 2  # twelve choices
    rows = review.rows(order="Most suspicious")
    start = time.process_time()
    assert len(review.groups().fold(rows)) == len(rows)
    assert time.process_time() - start < 3


def test_a_page_on_a_hundred_thousand_answers_at_once(many: pd.DataFrame) -> None:
    run = keep({"set/000000.png": photograph(0)}, [0.9])
    inputs = pd.DataFrame({"name": many["path"], "location": "uploads/0.bin", "member": None})
    (run.folder / "inputs.parquet").write_bytes(parquet_bytes(inputs))
    run.table.write_bytes(parquet_bytes(many))
    app = visit(run)
    for change in (
        lambda: app.selectbox(key=f"order_{run.id}").select("Name"),
        lambda: app.pills(key=f"kinds_{run.id}").set_value(["fake"]),
        lambda: app.text_input(key=f"text_{run.id}").set_value("0123"),
        lambda: app.segmented_control(key=f"way_{run.id}").set_value("Gallery"),
    ):
        start = time.process_time()
        change().run()
        assert time.process_time() - start < 3  # well below one second where the processor is not shared
        assert not app.exception
    assert len(app.get("page_link")) >= run_gallery.PAGE


# --- table and gallery ----------------------------------------------------------------------------


def test_the_gallery_shows_the_same_pictures_with_verdict_and_explanation(app_home: Path) -> None:
    run = keep(family(), [0.9, 0.7, 0.1, None])
    app = visit(run)
    assert names(app) == ["first.png", "smaller.jpg", "other.png", "copy.png"]
    app.segmented_control(key=f"way_{run.id}").set_value("Gallery").run()
    assert not app.exception
    shown = text_of(app)
    assert ":orange-badge[AI-generated]  \n**90.0 %**" in shown
    assert ":gray-badge[Not applicable]" in shown
    links = [link.proto for link in app.get("page_link") if link.proto.label == "Explain"]
    assert [f"run={run.id}&image={place}" in link.query_string for place, link in enumerate(links)] == [True] * 4
    app.pills(key=f"kinds_{run.id}").set_value(["real"]).run()
    assert ":blue-badge[Real photograph]  \n**10.0 %**" in text_of(app)
    assert ":orange-badge" not in text_of(app)
    assert "Blue is evidence" not in text_of(app)
    app.toggle(key=f"heatmaps_{run.id}").set_value(True).run()
    assert not app.exception
    assert "Blue is evidence" in text_of(app)


def test_another_choice_begins_at_its_first_page(app_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_gallery, "PAGE", 3)
    run = keep({f"{number}.png": photograph(number) for number in range(8)}, [0.9] * 4 + [0.1] * 4)
    app = visit(run)
    app.segmented_control(key=f"way_{run.id}").set_value("Gallery").run()
    app.pagination[0].set_value(3).run()
    assert [caption.help for caption in app.caption if caption.help] == ["6.png", "7.png"]
    app.pills(key=f"kinds_{run.id}").set_value(["fake"]).run()
    assert not app.exception
    assert [caption.help for caption in app.caption if caption.help] == ["0.png", "1.png", "2.png"]


def test_a_selection_does_not_pass_to_the_picture_that_takes_its_place(app_home: Path) -> None:
    run = keep(family(), [0.9, 0.7, 0.1, 0.2])
    app = visit(run)
    app.session_state[app.dataframe[-1].key] = {"selection": {"rows": [1]}}
    app.run()
    assert "**a/smaller.jpg**" in text_of(app)
    app.selectbox(key=f"order_{run.id}").select("Least suspicious").run()
    assert names(app) == ["other.png", "copy.png", "smaller.jpg", "first.png"]
    assert "**b/other.png**" in text_of(app) and "**b/copy.png**" not in text_of(app)


def test_a_picture_that_is_gone_leaves_its_card(app_home: Path) -> None:
    run = keep(family(), [0.9, 0.7, 0.1, 0.2])
    (run.uploads / "2.bin").unlink()
    app = visit(run)
    app.segmented_control(key=f"way_{run.id}").set_value("Gallery").run()
    assert not app.exception
    assert "can no longer be read" in text_of(app)


# --- near-duplicates ------------------------------------------------------------------------------


def test_a_tab_does_not_hold_runs_that_it_showed(app_home: Path) -> None:
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60).run()
    shown = []
    for seed in range(2):
        run = keep({f"{seed}.png": photograph(seed)}, [0.5])
        app.query_params["run"] = run.id
        open_page(app, "bulk")
        assert names(app) == [f"{seed}.png"]
        review = resources.review_of(Job.of(run))
        assert review is not None
        shown += [weakref.ref(review), weakref.ref(review.result)]
        del review
    open_page(app, "about")
    resources.forget_result()
    gc.collect()
    assert [reference() for reference in shown] == [None] * 4


def test_which_parts_decide_is_shown_per_verdict_on_request(app_home: Path) -> None:
    run = keep({f"{seed}.png": photograph(seed) for seed in range(3)}, [0.01, 0.02, 0.99])
    app = visit(run)
    assert "mean log-odds" not in text_of(app).lower()
    app.session_state[f"regions_{run.id}"] = True
    app.run()
    assert not app.exception
    frame = next(table.value for table in app.dataframe if "log_odds" in table.value)
    assert dict(zip(frame["group"], frame["images"], strict=True)) == {"Real photograph": 2, "AI-generated": 1}


def test_near_duplicates_stand_behind_the_first_one_and_can_be_seen(app_home: Path) -> None:
    run = keep(family(), [0.1, 0.9, 0.5, 0.2])
    app = visit(run)
    app.toggle(key=f"grouped_{run.id}").set_value(True).run()
    assert not app.exception
    assert names(app) == ["smaller.jpg", "other.png"]
    assert app.dataframe[-1].value["alike"].tolist() == [2, 0]
    assert "nothing was kept" not in text_of(app)
    app.pills(key=f"kinds_{run.id}").set_value(["real"]).run()
    assert names(app) == ["copy.png"]
    button(app, "and 2 alike")
    assert names(app) == ["smaller.jpg", "copy.png", "first.png"]  # whatever their verdict
    button(app, "Like copy.png")
    assert names(app) == ["copy.png"]
    app.segmented_control(key=f"way_{run.id}").set_value("Gallery").run()
    button(app, "and 2 alike")
    assert len([link for link in app.get("page_link") if link.proto.label == "Explain"]) == 3
    app.toggle(key=f"grouped_{run.id}").set_value(False).run()
    assert not [entry for entry in app.button if entry.label.startswith("Like ")]


def test_an_open_group_stays_that_of_its_picture_when_the_rows_move(app_home: Path) -> None:
    run = keep(family(), [0.1, 0.9, 0.5, 0.2])
    app = visit(run)
    app.toggle(key=f"grouped_{run.id}").set_value(True).run()
    button(app, "and 2 alike")
    assert sorted(names(app)) == ["copy.png", "first.png", "smaller.jpg"]
    table = pd.read_parquet(run.table)
    table.iloc[[0, 2, 1, 3]].to_parquet(run.table, index=False)  # as a run that went on may have them
    resources.forget_result()
    app.run()
    assert not app.exception
    assert sorted(names(app)) == ["copy.png", "first.png", "smaller.jpg"]
    table[table["path"] != "a/smaller.jpg"].to_parquet(run.table, index=False)
    resources.forget_result()
    app.run()
    assert not app.exception
    assert sorted(names(app)) == ["copy.png", "other.png"]  # its picture is not there: all groups again


def test_a_button_in_the_gallery_is_that_of_its_picture(app_home: Path) -> None:
    run = keep(family(), [0.1, 0.9, 0.5, 0.2])
    app = visit(run)
    app.toggle(key=f"grouped_{run.id}").set_value(True)
    app.segmented_control(key=f"way_{run.id}").set_value("Gallery").run()
    assert app.button(key=f"group_{run.id}_1").label == "and 2 alike"
    app.pills(key=f"kinds_{run.id}").set_value(["real"]).run()
    assert app.button(key=f"group_{run.id}_3").label == "and 2 alike"


@pytest.mark.parametrize("damage", [False, True])
def test_runs_without_fingerprints_say_so_and_group_identical_files(app_home: Path, damage: bool) -> None:
    run = keep(family(), [0.9, 0.7, 0.1, 0.2], prints=False)
    if damage:
        (run.folder / FILE).write_bytes(b"garbage")
    app = visit(run)
    app.toggle(key=f"grouped_{run.id}").set_value(True).run()
    assert not app.exception
    assert names(app) == ["first.png", "smaller.jpg", "other.png"]
    assert "Of 4 pictures nothing was kept" in text_of(app)


def test_the_job_notes_a_fingerprint_of_every_readable_picture(
    app_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "MAX_THUMBNAILS", 1)
    folder = tmp_path / "set"
    folder.mkdir()
    for number, data in enumerate([photograph(0), photograph(1), b"no picture", photograph(1)]):
        (folder / f"{number}.png").write_bytes(data)
    store, detector = resources.job_queue().store, Detector.load(resources.checkpoint().path)
    for kind in (BULK, EVALUATION):
        inputs = from_folder(folder)
        run = store.create(
            kind,
            "job",
            checkpoint="tiny",
            checkpoint_sha256=detector.checkpoint.sha256,
            settings=tasks.recipe(detector, Settings()),
        )
        tasks.keep_inputs(run, inputs)
        tasks.classify(Job.of(run), run, lambda: detector, inputs.sources)
        noted = Fingerprints.load(run.folder, 4)
        if kind == EVALUATION:  # its audit looks at the files itself
            assert not noted.known.any()
            continue
        assert list(tasks.load_thumbnails(run)) == [0]
        assert noted.known.tolist() == [True, True, False, True]
        assert (noted.hashes[1] == noted.hashes[3]).all()
        assert (noted.hashes[1] != noted.hashes[0]).any()
        groups = Review(tasks.load_result(store.update(run.id, state=DONE), Settings()), run.folder).groups()  # type: ignore[arg-type]
        assert groups.leader.tolist() == [0, 1, 2, 1]
        assert groups.unknown == 0


@pytest.mark.parametrize(("state", "stem"), [(DONE, "review"), (CANCELLED, "review-partial")])
def test_downloads_of_a_run_that_is_not_finished_are_named_so(
    app_home: Path, monkeypatch: pytest.MonkeyPatch, state: str, stem: str
) -> None:
    run = keep(family(), [0.9, 0.7, 0.1, 0.2])
    resources.job_queue().store.update(run.id, state=state)
    offered: list[str] = []
    monkeypatch.setattr(st, "download_button", lambda *_, file_name, **__: offered.append(file_name))
    visit(run)
    assert offered == [f"{stem}.csv", f"{stem}.parquet"]


# --- export ---------------------------------------------------------------------------------------


def exported(
    pictures: dict[str, bytes | None], p: list[float | None], detector: Detector | None = None
) -> tuple[zipfile.ZipFile, export.Contents]:
    """An export of all pictures; those that are None have gone since they were judged."""
    digests = [tasks.hashlib.sha256(data or b"").hexdigest() for data in pictures.values()]
    frame = results(list(pictures), p, digests)
    frame["bytes"] = [len(data or b"") for data in pictures.values()]
    sources = [Named(name) if data is None else MemorySource(name, data) for name, data in pictures.items()]
    review = Review(BulkResult(frame, images_of(frame), {}, sources), Path("nowhere"))  # type: ignore[arg-type]
    buffer = io.BytesIO()
    contents = export.write(
        buffer, review.result, review.frame.iloc[review.rows(order="Most suspicious")], detector=detector
    )
    return zipfile.ZipFile(buffer), contents


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "C:\\x\\y.png", "a\nb.png", HOSTILE, "=1+1.png"])
def test_no_name_of_a_visitor_becomes_a_path_or_a_formula(app_home: Path, name: str) -> None:
    archive, _ = exported({name: photograph(0)}, [0.9], resources.detector())
    assert archive.namelist() == ["pictures/000001.png", "reports/000001.html", "results.csv"]
    assert archive.read("pictures/000001.png") == photograph(0)
    assert b"<i>" not in archive.read("reports/000001.html")
    table = pd.read_csv(io.BytesIO(archive.read("results.csv")))
    assert table["picture"].tolist() == ["pictures/000001.png"]
    assert not table["path"].str.startswith("=").any()


def test_rows_come_in_the_order_of_the_pictures_with_all_their_faces(app_home: Path) -> None:
    frame = results(["a", "b", "b", "c"], [0.2, 0.3, 0.9, 0.7])
    frame["faces"] = [1, 2, 2, 1]
    review = review_of(frame)
    buffer = io.BytesIO()
    contents = export.write(buffer, review.result, review.frame.iloc[review.rows(kinds=["fake"], order="Name")])
    table = pd.read_csv(io.BytesIO(zipfile.ZipFile(buffer).read("results.csv")))
    assert table["path"].tolist() == ["b", "b", "c"]
    assert table["picture"].isna().all()
    assert [name for name, _ in contents.left_out] == ["b", "c"]


def test_what_is_gone_or_changed_is_named_and_stops_nothing(app_home: Path) -> None:
    archive, contents = exported({"gone.png": None, "here.png": photograph(1)}, [0.9, 0.8])
    assert archive.namelist() == ["pictures/000002.png", "results.csv", "left_out.txt"]
    assert archive.read("left_out.txt").decode() == "gone.png: is gone.\n"
    assert (contents.pictures, contents.reports) == (1, 0)
    frame = results(["new.png"], [0.9], ["0" * 64])
    review = Review(BulkResult(frame, images_of(frame), {}, [MemorySource("new.png", b"x")]), Path("nowhere"))
    buffer = io.BytesIO()
    export.write(buffer, review.result, review.frame)
    assert b"has changed" in zipfile.ZipFile(buffer).read("left_out.txt")


def test_limits_are_kept_and_stated(app_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MAX_REPORTS", 1)
    monkeypatch.setattr(export, "MAX_PICTURES", 2)
    archive, contents = exported(
        {f"{number}.png": photograph(number) for number in range(3)}, [0.9, 0.8, 0.7], resources.detector()
    )
    assert archive.namelist()[:3] == ["pictures/000001.png", "reports/000001.html", "pictures/000002.png"]
    left_out = archive.read("left_out.txt").decode()
    assert left_out.startswith("2.png: an export holds 2 pictures")
    assert "1 more pictures have no report" in left_out
    assert (contents.pictures, contents.reports, contents.unreported) == (2, 1, 1)
    monkeypatch.setattr(export, "MAX_BYTES", 150)
    archive, contents = exported({"large.png": photograph(0), "small.png": b"x"}, [0.9, 0.8])
    assert [name for name, _ in contents.left_out] == ["large.png"]
    assert len(pd.read_csv(io.BytesIO(archive.read("results.csv")))) == 2


def test_flagged_pictures_are_exported_on_request(app_home: Path) -> None:
    run = keep(family(), [0.9, 0.7, 0.1, 0.2])
    (run.uploads / "1.bin").unlink()
    app = visit(run)
    app.session_state[f"export_{run.id}"] = True
    app.run()
    assert not app.exception
    assert "Called AI-generated (2)" in app.segmented_control[-1].options
    button(app, "Make the ZIP file")
    assert not app.exception
    assert "Holds 1 picture and 1 report." in text_of(app)
    assert "smaller.jpg" in text_of(app)
    assert "Save the ZIP file" in app.get("download_button")[-1].proto.label
    made = app.session_state["export"][1]
    archive = zipfile.ZipFile(io.BytesIO(made.read()))
    assert archive.namelist() == ["pictures/000001.png", "reports/000001.html", "results.csv", "left_out.txt"]
    assert sorted(path.name for path in run.folder.iterdir() if "zip" in path.name) == []
    app.toggle(key=f"export_reports_{run.id}").set_value(False).run()
    assert "Holds 1 picture" not in text_of(app)
    app.toggle(key=f"export_reports_{run.id}").set_value(True).run()
    assert "Holds 1 picture" in text_of(app)
    app.pills(key=f"kinds_{run.id}").set_value(["real"]).run()
    assert "Holds 1 picture" not in text_of(app)
    delete_this(app)
    assert app.session_state["export"] is None


def test_an_export_without_its_checkpoint_has_no_reports(app_home: Path) -> None:
    run = keep({"one.png": photograph(0)}, [0.9])
    resources.job_queue().store.update(run.id, name="x")
    app = visit(run)
    app.session_state[f"export_{run.id}"] = True
    app.run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resources, "checkpoints", list)
        button(app, "Make the ZIP file")
        assert not app.exception
        assert "There are no reports" in text_of(app)
        assert "Holds 1 picture." in text_of(app)


def test_hostile_names_stay_text_everywhere(app_home: Path) -> None:
    run = keep({HOSTILE: picture(), "copy/" + HOSTILE: picture()}, [0.9, 0.8])
    (run.uploads / "1.bin").unlink()
    app = visit(run)
    app.session_state[f"export_{run.id}"] = True
    for way in ("Table", "Gallery"):
        app.segmented_control(key=f"way_{run.id}").set_value(way)
        app.toggle(key=f"grouped_{run.id}").set_value(True).run()
        assert not app.exception
        button(app, "and 1 alike")
        button(app, "Make the ZIP file")
        labels = [entry.label for entry in app.button]
        assert not any("[x](mailto" in text or "**bold**" in text for text in [text_of(app), *labels])
        button(app, next(label for label in labels if label.startswith("Like ")))
