"""The Evaluate page: one threshold, exactly the images behind a figure, and a view that lives in the address."""

from __future__ import annotations

import csv
import gc
import hashlib
import io
import json
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from hypothesis import given
from hypothesis import strategies as hypothesis
from streamlit.testing.v1 import AppTest, local_script_runner

from dashboard import charts, relabel, report, resources, session, tasks, words
from dashboard.jobs import Job, JobError
from dashboard.measured import Measured
from dashboard.people import LOCAL
from dashboard.store import Run, StoreError
from dashboard.view import CELLS, LEAST_PREVALENCE, ORDERS, PARAMETERS, Selection, View, finding_key
from dashboard.widgets.evaluation import calibration, confusion, groups
from dashboard.widgets.evaluation import relabel as relabel_widget
from dashboard.widgets.evaluation.curves import near
from dashboard.widgets.evaluation.figures import figure_text
from model import metrics
from model.dataset import LabelledSet, from_manifest
from model.regions import LABELS, REGIONS

from .conftest import ROOT, open_page, picture
from .synthetic import FINDING, Plan, keep
from .test_pages import text_of

shares = hypothesis.floats(0, 1)
texts = hypothesis.text(max_size=20)
TABS = ("Errors", "Curves", "Calibration", "Costs", "Groups", "Regions")


def kept(plan: Plan = Plan(), **options: object) -> Run:  # noqa: B008 - frozen
    return keep(resources.job_queue().store, plan, owner=LOCAL, picture=picture(), **options)  # type: ignore[arg-type]


def visit(run: Run, **params: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60).run()
    for name, value in {"run": run.id, **params}.items():
        app.query_params[name] = value
    open_page(app, "evaluate")
    assert not app.exception
    return app


def measured(run: Run) -> Measured:
    return resources.measured_of(Job.of(run))


def shown(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def pictures(app: AppTest) -> list[str]:
    """Names of the images in the gallery, in its order."""
    return [caption.help for caption in app.caption if caption.help and caption.help.endswith(".png")]


@given(
    hypothesis.builds(
        View,
        threshold=hypothesis.none() | shares,
        cost_fp=hypothesis.floats(0.1, 1e6),
        cost_fn=hypothesis.floats(0, 1e6),
        prevalence=hypothesis.none() | hypothesis.floats(0.001, 0.999),
        selection=hypothesis.builds(
            Selection,
            cell=hypothesis.sampled_from(("", *CELLS)),
            low=hypothesis.none() | shares,
            sure=hypothesis.none() | shares,
            column=texts,
            value=texts,
            text=texts,
        ),
        by=texts,
        order=hypothesis.sampled_from(ORDERS),
        page=hypothesis.integers(1, 10**6),
        other=texts,
    )
)
def test_a_view_survives_its_address(view: View) -> None:
    params = view.to_params()
    assert View.from_params(params) == view
    assert params.keys() <= PARAMETERS


@given(hypothesis.dictionaries(hypothesis.sampled_from(sorted(PARAMETERS)), texts | hypothesis.just("nan")))
def test_nonsense_in_the_address_gives_a_usable_view(params: dict[str, str]) -> None:
    view = View.from_params(params)
    assert view.threshold is None or 0 <= view.threshold <= 1
    assert view.page >= 1
    assert view.order in ORDERS
    metrics.Costs(view.cost_fp, view.cost_fn, view.prevalence or 0.5)


def test_the_default_view_leaves_the_address_alone() -> None:
    assert View().to_params() == {}


def test_page_figures_are_those_of_metrics_json(app_home: Path) -> None:
    run = kept()
    figures = json.loads(run.metrics.read_text())
    app = visit(run)
    now = shown(app)
    for label, name in (
        ("AI-generated found", "recall"),
        ("False alarms", "fpr"),
        ("Specificity", "specificity"),
        ("Accuracy", "accuracy"),
        ("Balanced accuracy", "balanced_accuracy"),
        ("Precision", "precision"),
        ("F1", "f1"),
        ("PPV in use", "ppv"),
        ("NPV in use", "npv"),
        ("Equal error rate", "eer"),
    ):
        assert now[label] == figure_text(figures[name])[0], label
    assert now["ROC AUC"] == f"{figures['roc_auc']['value']:.3f}"
    assert now["Mean cost"] == f"{figures['cost']['at_threshold']['value']:.3f}"
    at = measured(run).at(View())
    for name in at.keys() & figures.keys():
        assert at[name] == figures[name], name


def test_findings_come_first_with_code_meaning_and_advice(app_home: Path) -> None:
    app = visit(kept())
    text = text_of(app)
    assert "RC002" in " ".join(expander.label for expander in app.expander)
    assert "Store all pictures the same way" in text
    assert [entry.value for entry in app.subheader][:2] == ["Can these figures be trusted?", "Whatever the threshold"]
    next(button for button in app.button if button.label == "Show 2 pictures of it").click().run()
    assert set(pictures(app)) <= {"real/camera/000000.png", "real/camera/000001.png"}
    assert pictures(app)
    assert app.query_params["only_finding"] == finding_key(FINDING)


def test_pictures_of_a_finding_are_its_own_and_not_those_of_its_code(app_home: Path) -> None:
    own = measured(kept(Plan(unscored=0)))
    other = FINDING | {"title": "The file gives the label away inside a source", "images": [str(own.names[5])]}
    own.figures = own.figures | {"audit": [FINDING, other]}
    for finding in (FINDING, other):
        rows = own.rows(View(selection=Selection(finding=finding_key(finding))))
        assert set(own.names[rows]) == set(finding["images"])
    assert len(own.rows(View(selection=Selection(finding="RC002")))) == 3  # an older address names the code


def test_a_clean_audit_does_not_claim_what_may_not_have_been_checked() -> None:
    def page() -> None:
        from dashboard.widgets.evaluation import audit

        audit.findings("job", [])

    (box,) = AppTest.from_function(page).run().success
    assert "no overlap" not in box.value
    assert "can only be checked where the checkpoint says" in box.value


@pytest.mark.parametrize(("given", "held"), [("1e-9", LEAST_PREVALENCE), ("0.9999999", 1 - LEAST_PREVALENCE)])
def test_a_prevalence_that_the_field_cannot_show_is_brought_to_its_limit(
    app_home: Path, given: str, held: float
) -> None:
    assert View.from_params({"prevalence": given}).prevalence == held
    run = kept()
    assert measured(run).prevalence(View(prevalence=float(given))) == held
    assert visit(run, prevalence=given).number_input(key=f"prevalence_{run.id}").value == pytest.approx(100 * held)


def test_threshold_moves_every_figure_and_the_address(app_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = kept()
    app = visit(run)
    monkeypatch.setattr(tasks, "perform", None)
    app.number_input(key=f"threshold_number_{run.id}").set_value(0.123456789).run()
    assert not app.exception
    expected = measured(run).scored.rates(0.123456789)
    assert shown(app)["AI-generated found"] == figure_text(expected["recall"].to_dict())[0]
    assert app.query_params["threshold"] == "0.123456789"
    assert app.slider(key=f"threshold_{run.id}").value == pytest.approx(0.1235, abs=1e-4)
    again = visit(run, threshold="0.123456789")
    assert shown(again) == shown(app)


def test_presets_keep_every_digit(app_home: Path) -> None:
    run = kept()
    app = visit(run)
    pills = app.pills(key=f"preset_{run.id}")
    assert pills.options == [
        "Shipped",
        "0.5",
        "1 % false alarms",
        "0.5 % false alarms",
        "Equal errors (EER)",
        "Lowest cost",
    ]
    assert pills.value == "Shipped"
    scored = measured(run).scored
    exact = metrics.threshold_at_fpr(scored.y, scored.p, target=0.01)
    pills.set_value("1 % false alarms").run()
    assert app.query_params["threshold"] == repr(exact)
    assert app.pills(key=f"preset_{run.id}").value == "1 % false alarms"
    app.pills(key=f"preset_{run.id}").set_value("Shipped").run()
    assert "threshold" not in app.query_params


def test_costs_and_prevalence_move_predictive_values_and_cost(app_home: Path) -> None:
    run = kept()
    app = visit(run)
    before = shown(app)
    app.number_input(key=f"prevalence_{run.id}").set_value(1.0).run()
    app.number_input(key=f"cost_fn_{run.id}").set_value(20.0).run()
    now = shown(app)
    expected = measured(run).scored.at(0.6, metrics.Costs(1, 20, 0.01))
    assert now["PPV in use"] == figure_text(expected["ppv"])[0] != before["PPV in use"]
    assert now["Mean cost"] == figure_text(expected["cost"]["at_threshold"], share=False)[0]
    assert now["AI-generated found"] == before["AI-generated found"]
    app.number_input(key=f"cost_fp_{run.id}").set_value(0.0).run()
    app.number_input(key=f"cost_fn_{run.id}").set_value(0.0).run()
    assert not app.exception
    assert app.number_input(key=f"cost_fn_{run.id}").value == 20.0


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_shows_exactly_its_images_by_certainty(app_home: Path, cell: str) -> None:
    run = kept()
    app = visit(run, threshold="0.3", only_cell=cell, order="certain")
    frame = measured(run).scored.images
    fake, flagged = frame["label"] == 1, frame["p_fake"] >= 0.3
    own = frame[(fake == (cell in ("TP", "FN"))) & (flagged == (cell in ("TP", "FP")))]
    assert len(own) > 0
    certain = own.sort_values("p_fake", ascending=cell in ("FN", "TN"), kind="stable")["path"].tolist()
    assert pictures(app) == certain[:12]
    assert f"{len(own)} picture" in text_of(app)


def test_a_card_says_what_its_picture_is_and_how_it_was_judged(app_home: Path) -> None:
    run = kept()
    for cell, title in (("FP", "False alarm"), ("TN", "Real not flagged")):
        marks = (":green[:material/check:]", ":red[:material/close:]")
        cards = [entry.value for entry in visit(run, only_cell=cell).markdown if entry.value.startswith(marks)]
        assert cards
        assert all(card.endswith(title) for card in cards)


def test_search_order_and_pages(app_home: Path) -> None:
    run = kept()
    app = visit(run, order="name")
    names = sorted(measured(run).names)
    assert pictures(app) == names[:12]
    app = visit(run, order="name", page="2")
    assert pictures(app) == names[12:24]
    app.text_input(key=f"text_{run.id}").set_value("SDXL").run()
    assert pictures(app) == [name for name in names if "sdxl" in name][:12]
    assert "page" not in app.query_params
    app.text_input(key=f"text_{run.id}").set_value("nothing of the kind").run()
    assert "No scored picture matches" in app.info[0].value


def test_what_is_clicked_selects_exactly_that(app_home: Path) -> None:
    own = measured(kept())
    p, y = own.scored.p, own.scored.y

    def rows(changes: dict[str, object] | None) -> set[int]:
        assert changes is not None
        return set(own.rows(View().but(**changes)).tolist())

    edges = np.linspace(0, 1, 41)
    counts = np.histogram(p[y == 1], bins=edges)[0]
    for bar in (0, 39, int(counts.argmax())):
        found = rows(confusion.of_bar([1, edges[bar], edges[bar + 1], int(counts[bar])]))
        assert len(found) == counts[bar]
    for entry in own.reliability.itertuples():
        found = rows(calibration.of_bin([entry.images, entry.score_low, entry.score_high]))
        assert len(found) == entry.images
    risk = own.risk_coverage(View())
    point = risk.iloc[len(risk) // 2]
    assert len(rows(calibration.of_certainty(point["confidence"]))) == round(point["coverage"] * 120)
    assert rows(groups.of_group("group")(["sdxl", 20])) == set(own.scored.groups_of("group")["sdxl"].all.places)
    around = rows(near(own)(0.5))
    assert len(around) == 48
    far = sorted(abs(p - 0.5))
    assert max(abs(p[list(around)] - 0.5)) <= far[80]
    for nonsense in (None, "x", [], {}):
        assert confusion.of_cell("x") is None
        assert confusion.of_bar(nonsense) is None
        assert near(own)(nonsense) is None


@pytest.mark.parametrize("tab", TABS)
def test_a_tab_of_the_browser_does_not_hold_evaluations_that_it_showed(app_home: Path, tab: str) -> None:
    run, other = kept(), kept()
    app = visit(run, other=other.id)
    app.session_state[f"tabs_{run.id}"] = tab
    app.run()
    assert not app.exception
    shown = [weakref.ref(measured(one)) for one in (run, other)]
    assert all(reference() is not None for reference in shown)
    for name in list(app.query_params):
        del app.query_params[name]
    open_page(app, "about")
    resources.forget_result()
    gc.collect()
    assert [reference() for reference in shown] == [None, None]


def test_heatmaps_are_made_on_request_by_the_detector_of_the_run(app_home: Path) -> None:
    info = resources.checkpoint()
    run = kept(Plan(real=3, fake=3, unscored=0, checkpoint=info.name, checkpoint_sha256=info.sha256))
    app = visit(run)
    assert "Blue is evidence" not in text_of(app)
    app.toggle(key=f"heatmaps_{run.id}").set_value(True).run()
    assert not app.exception
    assert not app.warning
    assert "Blue is evidence" in text_of(app)


def test_heatmaps_of_a_checkpoint_that_is_gone_say_so(app_home: Path) -> None:
    run = kept(Plan(checkpoint="lost", checkpoint_sha256="f" * 64))
    app = visit(run)
    app.toggle(key=f"heatmaps_{run.id}").set_value(True).run()
    assert "lost" in app.warning[0].value
    assert "not installed" in app.warning[0].value


def test_most_wrong_first_puts_confident_errors_on_top(app_home: Path) -> None:
    own = measured(kept())
    rows = own.rows(View(order="wrong"))
    wrong = (own.scored.p[rows] >= 0.6) != (own.scored.y[rows] == 1)
    assert wrong[: wrong.sum()].all()


def test_groups_of_any_column_with_mean_and_worst(app_home: Path) -> None:
    run = kept()
    assert measured(run).columns == ["group", "source", "light"]
    app = visit(run, by="light")
    app.session_state[f"tabs_{run.id}"] = "Groups"
    app.run()
    assert not app.exception
    over = measured(run).scored.groups(0.6, "light")[1]
    assert f"lowest **{figure_text(over['recall']['min'])[0]}**" in text_of(app)
    assert over["recall"]["min"]["group"] in ("indoors", "outdoors")


def test_which_regions_decide_is_shown_per_group(app_home: Path) -> None:
    run = kept()
    app = visit(run)
    app.session_state[f"tabs_{run.id}"] = "Regions"
    app.run()
    assert not app.exception
    frame = next(table.value for table in app.dataframe if "log_odds" in table.value)
    own = measured(run)
    assert set(frame["group"]) == set(own.scored.groups_of("group"))
    assert frame["label"].nunique() == len(REGIONS)
    sdxl = own.result.predictions.query("group == 'sdxl' and logit.notna()")
    shown = frame[(frame["group"] == "sdxl") & (frame["label"] == LABELS["nose"])]
    assert shown["log_odds"].item() == pytest.approx(sdxl["ledger_nose"].mean())


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize("plan", [Plan(), Plan(real=0), Plan(fake=0), Plan(real=1, fake=2, unscored=0)])
def test_every_tab_stands_on_degenerate_sets(app_home: Path, tab: str, plan: Plan) -> None:
    run = kept(plan)
    app = visit(run)
    app.session_state[f"tabs_{run.id}"] = tab
    app.run()
    assert not app.exception
    now = shown(app)
    if not plan.real:
        assert now["False alarms"] == now["ROC AUC"] == now["Specificity"] == "undefined"
        assert "no real images" in " ".join(metric.delta for metric in app.metric)
    if not plan.fake:
        assert now["AI-generated found"] == now["Equal error rate"] == "undefined"
        assert "no AI images" in " ".join(metric.delta for metric in app.metric)
    assert (words.ONE_CLASS in text_of(app)) == (not (plan.real and plan.fake))


def test_a_set_without_any_score_says_so(app_home: Path) -> None:
    app = visit(kept(Plan(real=3, fake=3, unscored=6)))
    assert "nothing to measure" in app.warning[0].value


def test_an_image_opens_in_explain_and_the_way_back_keeps_the_view(app_home: Path) -> None:
    run = kept()
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60).run()
    for name, value in {"run": run.id, "image": "3", "threshold": "0.25", "only_cell": "FP"}.items():
        app.query_params[name] = value
    open_page(app, "explain")
    assert not app.exception
    assert app.session_state["picture"].name == measured(run).result.bulk.sources[3].name.rsplit("/")[-1]
    link = next(element for element in app.get("page_link") if "Back" in element.proto.label)
    assert "threshold=0.25" in link.proto.query_string
    assert "only_cell=FP" in link.proto.query_string
    assert f"run={run.id}" in link.proto.query_string


@pytest.mark.parametrize("image", ["x", "-1", "99999", "²"])
def test_an_image_that_is_not_in_the_run_says_so(app_home: Path, image: str) -> None:
    run = kept()
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60).run()
    app.query_params["run"], app.query_params["image"] = run.id, image
    open_page(app, "explain")
    assert not app.exception
    assert "no image number" in app.warning[0].value


def test_a_dead_link_leaves_the_picture_of_the_tab_alone(app_home: Path) -> None:
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60).run()
    mine = session.Picture("mine.png", picture(), hashlib.sha256(picture()).hexdigest())
    app.session_state["picture"] = mine
    app.query_params["run"], app.query_params["image"] = "gone", "0"
    open_page(app, "explain")
    assert "is gone" in app.warning[0].value
    app.run()
    assert not app.warning
    assert app.session_state["picture"] == mine


def test_somebody_elses_run_is_not_opened_in_explain(app_home: Path) -> None:
    run = keep(resources.job_queue().store, Plan(), owner="somebody", picture=picture())
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60).run()
    app.query_params["run"], app.query_params["image"] = run.id, "0"
    open_page(app, "explain")
    assert "is gone" in app.warning[0].value
    assert app.session_state["picture"] is None


def test_two_runs_are_compared_with_a_paired_test(app_home: Path) -> None:
    first = kept(Plan(name="first"))
    second = kept(Plan(name="second", shift=1.5, tier="web"))
    app = visit(first, other=second.id)
    expected = metrics.compare(
        measured(first).result.predictions, measured(second).result.predictions, resamples=20
    ).figures
    now = shown(app)
    assert now["Only A right"] == str(expected["agreement"]["only_a"])
    assert now["Only B right"] == str(expected["agreement"]["only_b"])
    assert "McNemar" in text_of(app)
    assert "tier web" in text_of(app)
    tables = [frame.value for frame in app.dataframe]
    assert any("Tier" in table and table["Tier"].tolist() == ["clean", "web"] for table in tables)
    apart = next(table for table in tables if "Right" in table and "Truth" in table)
    assert len(apart) == expected["agreement"]["disagree"]


def test_curves_of_a_comparison_are_of_the_pictures_that_both_runs_scored(
    app_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = kept(Plan(name="first", unscored=20)), kept(Plan(name="second", real=45, fake=40, shift=1.5))
    drawn = []
    two_curves = charts.two_curves

    def noted(a: pd.DataFrame, b: pd.DataFrame, x: str, y: str, *more: Any) -> object:
        drawn.append((x, a, b))
        return two_curves(a, b, x, y, *more)

    monkeypatch.setattr(charts, "two_curves", noted)
    visit(first, other=second.id)
    images = resources.comparison_of(Job.of(first), Job.of(second), 0.5, 0.5).images
    assert len(images) < 85
    for x, *curves in drawn:
        frame = metrics.roc_frame if x == "fpr" else metrics.pr_frame
        for curve, scores in zip(curves, (images["p_a"], images["p_b"]), strict=True):
            pd.testing.assert_frame_equal(curve, frame(images["label"], scores))
    assert [x for x, *_ in drawn] == ["fpr", "recall"]


def test_checkpoints_of_one_name_are_told_apart(app_home: Path) -> None:
    first, second = kept(Plan(name="first")), kept(Plan(name="second", checkpoint_sha256="1" * 64))
    app = visit(first, other=second.id)
    text = text_of(app).replace("\\", "")
    assert "A is **tiny (00000000 …)** at" in text and "B is **tiny (11111111 …)** at" in text
    table = next(frame.value for frame in app.dataframe if "Tier" in frame.value)
    assert table["Checkpoint"].tolist() == ["tiny (00000000 …)", "tiny (11111111 …)"]
    assert "tiny (11111111 …) · tier" in app.selectbox(key=f"other_{first.id}").options[0]


def test_a_comparison_at_the_threshold_above_follows_it(app_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = kept(Plan(name="first")), kept(Plan(name="second", shift=1.5))
    app = visit(first, other=second.id)
    app.segmented_control(key=f"compare_threshold_{first.id}").set_value("shared").run()
    assert not app.exception
    assert "at 0.6000, B is" in text_of(app)
    app.slider(key=f"threshold_{first.id}").set_value(0.25)
    for fragment in list(app._fragment_storage._fragments):  # as a browser does: the fragment of the slider alone
        part = partial(local_script_runner.RerunData, fragment_id=fragment)
        with monkeypatch.context() as patch:
            patch.setattr(local_script_runner, "RerunData", part)
            patch.setattr(st, "page_link", lambda *_, **__: None)  # the test runner knows pages after whole runs alone
            app.run()
        if any(slider.key == f"threshold_{first.id}" for slider in app.slider):
            break
    assert not app.exception
    assert not app.title
    assert "at 0.2500, B is" in text_of(app)
    assert "at 0.2500." in text_of(app)


def test_runs_with_other_labels_are_not_on_the_same_pictures(app_home: Path) -> None:
    run, same, other = kept(Plan(name="mine")), kept(Plan(name="same")), kept(Plan(name="corrected"))
    labels = pd.read_parquet(other.folder / "labels.parquet")
    labels.loc[0, ["label", "label_name"]] = [1, "fake"]
    labels.to_parquet(other.folder / "labels.parquet", index=False)
    app = visit(run)
    table = next(frame.value for frame in app.dataframe if "Tier" in frame.value)
    assert table["Run"].tolist() == ["mine", "same"]
    marks = {option.split(" · ")[0]: option.split(" · ")[-1] for option in app.selectbox(key=f"other_{run.id}").options}
    assert marks == {"same": "same pictures", "corrected": "other labels"}
    resources.job_queue().store.delete(same.id)
    assert not any("Tier" in frame.value for frame in visit(run).dataframe)


def test_a_file_that_changed_is_not_shown_as_the_picture_that_was_measured(app_home: Path) -> None:
    run = kept()
    for source in measured(run).result.bulk.sources:
        source.location.write_bytes(picture(seed=1))  # type: ignore[attr-defined]
    app = visit(run)
    app.toggle(key=f"heatmaps_{run.id}").set_value(True).run()
    assert not app.exception
    assert text_of(app).count("this file has changed since it was judged") == 12
    assert not app.image


def test_a_picture_of_the_visitors_own_is_not_taken_for_that_of_the_run(app_home: Path) -> None:
    run = kept()
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60).run()
    address = {"run": run.id, "image": "3"}

    def explain() -> session.Picture:
        for name, value in address.items():
            app.query_params[name] = value
        open_page(app, "explain")
        assert not app.exception
        return app.session_state["picture"]

    theirs = explain()
    mine = session.Picture("mine.png", picture(seed=1), hashlib.sha256(picture(seed=1)).hexdigest())
    app.session_state["picture"] = mine  # chosen on Classify
    assert explain() == theirs
    app.session_state["picture"] = mine
    measured(run).result.bulk.sources[3].location.unlink()  # type: ignore[attr-defined]
    assert explain() == mine
    assert "mine.png" in text_of(app)
    assert app.warning


def test_no_probability_in_a_table_reads_as_certain(app_home: Path) -> None:
    first, second = kept(Plan(name="first", shift=20)), kept(Plan(name="second", shift=25))
    app = visit(first, other=second.id)
    app.session_state[f"compare_kind_{first.id}_{second.id}"] = "neither"
    app.run()
    table = next(frame.value for frame in app.dataframe if "Truth" in frame.value)
    assert measured(first).scored.p.max() > words.UNCERTAIN[1]
    assert set(table["A"]) == set(table["B"]) == {words.UNCERTAIN[1]}


def test_corrections_make_a_new_run_and_leave_the_old_one(app_home: Path) -> None:
    run = kept()
    before = {path.name: path.read_bytes() for path in run.folder.iterdir() if path.is_file()}
    own = measured(run)
    wrong, gone = str(own.names[0]), str(own.names[1])
    changes = {wrong: relabel.Correction(label="fake", group="found"), gone: relabel.Correction(label=relabel.LEFT_OUT)}
    labelled = relabel.corrected(own.result.labelled, changes)
    assert len(labelled) == len(own.result.labelled) - 1
    table = relabel.manifest(labelled).set_index("path")
    assert table.loc[wrong, ["label", "group"]].tolist() == ["fake", "found"]
    assert gone not in table.index
    queue = resources.job_queue()
    new = relabel.copy_run(queue.store, run, own.result, labelled)
    assert {path.name: path.read_bytes() for path in run.folder.iterdir() if path.name in before} == before
    assert pd.read_parquet(new.table)["p_fake"].notna().sum() == len(own.scored) - (gone in set(own.names))
    queue.store.delete(run.id)  # the new run has its own pictures
    result = tasks.load_inputs(new, resources.get_settings())
    assert all(source.read().startswith(picture()) for source in result.sources)
    queue.store.release(new.id)


@pytest.mark.parametrize("content", [b"PAR1 no more", b"", None])
def test_a_damaged_run_leaves_no_corrected_one_that_waits_for_ever(app_home: Path, content: bytes | None) -> None:
    run = kept(Plan(real=4, fake=4, unscored=0))
    own, queue = measured(run), resources.job_queue()
    labelled = relabel.corrected(own.result.labelled, {str(own.names[0]): relabel.Correction(label="fake")})
    damaged = run.folder / "inputs.parquet"
    damaged.unlink()
    if content is not None:
        damaged.write_bytes(content)
    with pytest.raises(StoreError) as refused:
        relabel.copy_run(queue.store, run, own.result, labelled)
    assert str(run.folder) not in str(refused.value)
    assert [entry.id for entry in queue.store.runs()] == [run.id]
    assert [path.name for path in queue.store.folder.iterdir() if path.is_dir()] == [run.id]


def test_no_error_leaves_a_corrected_run_behind(app_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object) -> None:
        raise KeyError("position")

    run = kept(Plan(real=4, fake=4, unscored=0))
    own, queue = measured(run), resources.job_queue()
    monkeypatch.setattr(tasks, "keep_thumbnails", defect)
    with pytest.raises(KeyError):
        relabel.copy_run(queue.store, run, own.result, own.result.labelled)
    assert [entry.id for entry in queue.store.runs()] == [run.id]


def test_a_corrected_run_needs_neither_its_version_nor_its_checkpoint(app_home: Path) -> None:
    run = kept(Plan(real=4, fake=4, unscored=0))  # of a version that is not this one
    own = measured(run)
    first, *_ = map(str, own.names)
    tasks.keep_thumbnails(run, {0: "data:first", 1: "data:second"})
    labelled = relabel.corrected(own.result.labelled, {first: relabel.Correction(label=relabel.LEFT_OUT)})
    queue = resources.job_queue()
    new = relabel.copy_run(queue.store, run, own.result, labelled)
    assert tasks.load_thumbnails(new) == {0: "data:second"}
    with pytest.raises(JobError, match="not installed"):
        resources.detector_of(new)
    tasks.perform(Job.of(new), new, partial(resources.detector_of, new), resources.get_settings())
    found = json.loads(new.metrics.read_text("utf-8"))
    assert (found["n_real"], found["n_fake"]) == (3, 4)
    queue.store.release(new.id)


def test_a_manifest_of_corrections_is_read_back(app_home: Path, tmp_path: Path) -> None:
    own = measured(kept(Plan(real=4, fake=4, unscored=0)))
    name = str(own.names[0])
    labelled = relabel.corrected(own.result.labelled, {name: relabel.Correction(label="fake")})
    root = resources.job_queue().store.folder / own.result.bulk.sources[0].location.parts[-5]  # type: ignore[attr-defined]
    table = tmp_path / "manifest.csv"
    table.write_bytes(relabel.manifest_csv(labelled))
    found = from_manifest(table, root=root / "uploads")
    assert found.counts == {"real": 3, "fake": 5}
    assert found.frame.set_index("name").loc[name, "label"] == 1


def test_a_manifest_of_corrections_runs_nothing_in_a_spreadsheet(tmp_path: Path) -> None:
    names = ["=1+1.png", "real/a.png", "'-2.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    rows = {"name": names, "label": 0, "label_name": "real", "group": "=cmd()", "source": "s", "@extra": "+1"}
    table = tmp_path / "manifest.csv"
    table.write_bytes(relabel.manifest_csv(LabelledSet([], pd.DataFrame(rows), pd.DataFrame(), [])))
    cells = [cell for line in csv.reader(table.read_text("utf-8").splitlines()) for cell in line]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@")]
    assert [source.name for source in from_manifest(table).sources] == names


def test_labels_are_corrected_in_the_page(app_home: Path) -> None:
    run = kept()
    app = visit(run)
    app.session_state[f"relabel_{run.id}"] = True
    app.run()
    assert not app.exception
    assert "Nothing is corrected yet" in text_of(app)


def test_a_group_that_nobody_touched_is_not_corrected() -> None:
    shown = pd.DataFrame({"name": ["a", "b", "c"], "label_name": "fake", "group": ["style  gan", " x", "x"]})
    edited = pd.DataFrame({"Label": "AI-generated", "Group": ["style  gan", " x", "  new   group "]})
    changes: dict[str, relabel.Correction] = {}
    relabel_widget._note(edited, shown, changes)
    assert changes == {"c": relabel.Correction(group="new group")}


def test_a_full_queue_leaves_no_corrected_run_behind(app_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = kept()
    queue = resources.job_queue()
    app = visit(run)
    app.session_state[f"relabel_{run.id}"] = True
    app.session_state[f"corrections_{run.id}"] = {str(measured(run).names[0]): relabel.Correction(label="fake")}
    monkeypatch.setattr(relabel_widget, "_note", lambda *_: None)
    app.run()
    monkeypatch.setattr(queue, "max_queued", 0)
    app.button(key=f"relabel_run_{run.id}").click().run()
    assert "Try again" in app.error[0].value
    assert [left.id for left in queue.store.runs()] == [run.id]
    assert [path.name for path in queue.store.folder.iterdir() if path.is_dir()] == [run.id]


def test_report_and_downloads_state_the_same_figures(app_home: Path) -> None:
    run = kept()
    result = measured(run).result
    page = tasks.report_bytes(result).decode()
    for name in ("recall", "fpr", "precision", "accuracy", "eer"):
        assert report.rate(result.metrics[name]) in page
    assert result.metrics["protocol"]["data_digest"] in page
    assert "RC002" in page
    frame = pd.read_parquet(io.BytesIO(tasks.parquet_bytes(result.predictions)))
    assert metrics.evaluate(frame, resamples=50)["recall"] == result.metrics["recall"]


def test_a_tier_is_chosen_before_the_run(app_home: Path) -> None:
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60).run()
    open_page(app, "evaluate")
    from .test_runs import click, job_of, labelled_archive, until_finished

    app.file_uploader(key="evaluate_files").upload("set.zip", labelled_archive())
    app.run()
    app.selectbox(key="evaluate_tier").set_value("web").run()
    click(app, "Run the evaluation")
    until_finished(app, "evaluation")
    run = resources.job_queue().store.get(job_of(app, "evaluation").id)
    assert run is not None
    assert run.settings["tier"] == "web"
    assert "tier web" in text_of(app)


def test_page_command_and_report_agree_on_one_set(app_home: Path, tmp_path: Path) -> None:
    """The same pictures through the page's own job and through the command, each with its own process."""
    from typer.testing import CliRunner

    from dashboard.cli import app as command

    from .test_runs import click, job_of, labelled_archive, until_finished

    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60).run()
    open_page(app, "evaluate")
    archive = tmp_path / "set.zip"
    archive.write_bytes(labelled_archive())
    app.file_uploader(key="evaluate_files").upload("set.zip", archive.read_bytes())
    app.run()
    click(app, "Run the evaluation")
    until_finished(app, "evaluation")
    run = resources.job_queue().store.get(job_of(app, "evaluation").id)
    assert run is not None
    outcome = CliRunner().invoke(command, ["evaluate", str(archive), "--out", str(tmp_path / "out")])
    assert outcome.exit_code in (0, 1), outcome.output
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == json.loads(run.metrics.read_text())
    figures = json.loads(run.metrics.read_text())
    page = (tmp_path / "out" / "report.html").read_text()
    assert page == tasks.report_bytes(measured(run).result).decode()
    assert shown(app)["AI-generated found"] == figure_text(figures["recall"])[0]
    assert report.rate(figures["recall"]) in page
