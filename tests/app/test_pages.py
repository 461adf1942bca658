from __future__ import annotations

import re
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import words
from dashboard.widgets.model_card import rows_of
from model.accuracy import TEST_PICTURES
from model.backbones import tiny
from model.network import save

from .conftest import HEADER, ROOT, open_page, picture

PAGES = ("classify", "bulk", "evaluate", "explain", "models")


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_without_an_error(app: AppTest, name: str) -> None:
    open_page(app, name)
    assert not app.exception
    assert not app.error
    assert len(app.title) == 1


def upload(app: AppTest, data: bytes, name: str = "face.png") -> AppTest:
    app.file_uploader[0].upload(name, data)
    return app.run()


def text_of(app: AppTest) -> str:
    return "\n".join(element.value for element in [*app.header, *app.markdown, *app.caption, *app.error, *app.warning])


def test_a_picture_gets_a_verdict_a_probability_and_a_time(app: AppTest) -> None:
    upload(app, picture())
    assert not app.exception
    labels = {metric.label: metric.value for metric in app.metric}
    assert labels["Faces"] == "1"
    assert "%" in labels["Probability AI"]
    assert labels["Prediction time"].endswith("ms")
    assert any(word in text_of(app) for word in ("AI-generated", "Real photograph", "Inconclusive"))
    assert "at most 1 % of real photographs" in text_of(app)


def test_every_face_of_a_picture_is_listed(app: AppTest) -> None:
    upload(app, picture(size=(400, 150)))
    assert not app.exception
    assert "3 faces, each judged" in text_of(app)
    assert "**Face 3**" in text_of(app)


def test_a_picture_without_a_face_says_so(app: AppTest) -> None:
    upload(app, picture(colour=(255, 255, 255)))
    assert not app.exception
    assert "Not applicable" in text_of(app)
    assert "No face was found" in text_of(app)


def test_a_tiny_face_says_what_to_do(app: AppTest) -> None:
    upload(app, picture(size=(50, 50)))
    assert not app.exception
    assert "smaller than 64 pixels" in text_of(app)


def test_a_broken_file_is_named_with_its_reason(app: AppTest) -> None:
    upload(app, picture()[:200], name="cut_off.png")
    assert not app.exception
    assert "cut\\_off.png" in text_of(app)
    assert "cannot be shown" in text_of(app)


def test_another_picture_empties_the_page(app: AppTest) -> None:
    upload(app, picture())
    next(button for button in app.button if button.label == "Check another picture").click().run()
    assert not app.exception
    assert not app.metric
    assert app.session_state["picture"] is None


def test_explain_keeps_the_picture_and_adds_up_to_the_logit(app: AppTest) -> None:
    upload(app, picture())
    open_page(app, "explain")
    assert not app.exception
    line = next(element.value for element in app.markdown if element.value.startswith("Regions"))
    numbers = re.findall(r"\*\*(.+?)\*\*", line.replace("\N{MINUS SIGN}", "-"))
    regions, bias, logit = map(float, numbers)
    assert regions + bias == pytest.approx(logit, abs=2e-3)
    assert app.session_state["picture"].name == "face.png"


def test_grad_cam_runs_only_when_its_section_is_open(app: AppTest) -> None:
    upload(app, picture())
    open_page(app, "explain")
    assert not any("stretched" in caption for image in app.image for caption in image.captions)
    app.session_state["explain_cams"] = True
    app.run()
    assert not app.exception
    captions = {caption for image in app.image for caption in image.captions}
    assert {"Grad-CAM (stretched)", "HiResCAM (stretched)", "Grad-CAM++ (stretched)"} <= captions


def test_explain_of_a_picture_without_a_face_ends_with_the_reason(app: AppTest) -> None:
    upload(app, picture(colour=(255, 255, 255)))
    open_page(app, "explain")
    assert not app.exception
    assert "No face was found" in text_of(app)


def test_models_shows_figures_thresholds_and_licence(app: AppTest) -> None:
    open_page(app, "models")
    assert app.subheader[0].value == "tiny"
    folds, sets = app.dataframe[0].value, app.dataframe[1].value
    assert folds["Never seen in training"].tolist() == ["bad", "good"]
    assert sets[["Pictures", "ROC AUC"]].to_numpy().tolist() == [[9, "0.750 (0.700 – 0.800)"]]
    shown = {metric.label: metric.value for metric in reversed(app.metric)}  # the first card's win
    assert shown["ROC AUC, mean"] == "0.750"
    assert shown["ROC AUC, worst"] == "0.600"
    assert (shown["AI-generated from"], shown["Real up to"], shown["False alarms"]) == ("60 %", "40 %", "1 %")
    assert shown["For fitting"] == "12"
    assert "MIT" in str(app.table[0].value)


def test_models_says_how_sure_its_figures_are_and_what_was_not_measured(app_home: Path) -> None:
    rate = {"value": 0.02, "low": 0.01, "high": 0.04}
    measured = {
        "test": HEADER["metrics"]["test"] | {"groups": {"ffpp": {}, "k140_test": {}}},
        "leave_one_out": {"sdxl": {"roc_auc": rate, "tpr_at_1_percent_fpr": rate, "n_real": 2, "n_fake": 2}},
        "unseen_real": {"press": {"clean": rate}, "phone_a": {"clean": rate | {"value": 0.03}}},
        "unseen_fake": {"faker_js": {"hard": rate}},
    }
    save(app_home / "tiny.safetensors", tiny(), HEADER | {"metrics": measured})
    app = open_page(AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60).run(), "models")
    assert not app.exception
    folds, unseen, _ = (frame.value for frame in app.dataframe[:3])
    assert folds["Found at 1 % false alarms"].tolist() == ["2.0 % (1.0 – 4.0 %)"]
    assert unseen["Worst source"].tolist() == ["3.0 % (1.0 – 4.0 %)", "2.0 % (1.0 – 4.0 %)"]
    assert unseen["Which"].tolist() == ["phone a", "faker js"]
    card = next(metric for metric in app.metric if metric.label == "ROC AUC, mean")
    assert card.delta == "0.010 – 0.040"
    assert words.SAME_SOURCE in text_of(app)
    assert TEST_PICTURES in text_of(app)
    assert "the threshold was set on these very photographs" in text_of(app).lower()


@pytest.mark.parametrize("name", PAGES)
def test_a_missing_checkpoint_is_explained(name: str, monkeypatch: pytest.MonkeyPatch, app_home: object) -> None:
    from dashboard.settings import get_settings

    monkeypatch.setenv("REALITY_CHECK_DEFAULT_CHECKPOINT", "nonsense")
    get_settings.cache_clear()
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60).run()
    open_page(app, name)
    assert not app.exception
    assert "No usable checkpoint" in app.error[0].value


def test_visitors_do_not_see_each_others_pictures(app: AppTest) -> None:
    upload(app, picture(), name="private.png")
    other = AppTest.from_file(app._script_path, default_timeout=60).run()
    for name in PAGES:
        open_page(other, name)
        assert "private" not in text_of(other)
    assert other.session_state["picture"] is None


def test_measured_figures_stand_from_mild_to_harsh() -> None:
    figures = {"n_real": 2, "n_fake": 3, "recall": {"value": 0.5}}
    shown = rows_of(dict.fromkeys(("leave_one_out", "mine", "test", "test_hard", "test_web"), figures))
    assert shown["Measured on"].tolist() == [
        "Other pictures of the training sources",
        "The same, as the web delivers them",
        "The same, badly degraded",
        "Mine",
    ]
    assert shown["Pictures"].tolist() == [5] * 4


def test_a_set_may_have_a_name_that_begins_like_those_of_unseen_sources() -> None:
    figures = {"n_real": 2, "n_fake": 3, "recall": {"value": 0.5}}
    shown = rows_of(dict.fromkeys(("leave_one_out_means", "unseen_real", "unseen_cameras"), figures))
    assert shown["Measured on"].tolist() == ["Unseen cameras"]
