"""The Explain page: the map with its numbers, what is tested on request, and what a reviewer takes away."""

from __future__ import annotations

import io
import json
import re
import zipfile

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import words
from model import packet, typical
from model.checkpoint import read_info
from model.regions import REGIONS

from .conftest import open_page, picture
from .test_pages import text_of, upload


@pytest.fixture
def page(app: AppTest) -> AppTest:
    """The page on a picture with one face."""
    upload(app, picture())
    return open_page(app, "explain")


def press(app: AppTest, label: str) -> None:
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception


def test_the_verdict_stands_in_words_with_its_error_rate_and_where_the_evidence_lies(page: AppTest) -> None:
    assert not page.exception
    shown = text_of(page)
    assert any(statement.format(face="the face") in shown for statement in words.RESEMBLES.values())
    assert words.NO_ERROR_RATE in shown.replace("\\", "") or "Of 100 " in shown
    shares = [metric.value for metric in page.metric if metric.label in ("On the face", "Hair and neck", "Background")]
    assert len(shares) == 3
    assert sum(float(share.split()[-2]) for share in shares) == pytest.approx(100, abs=2)


def test_tests_run_on_request_stay_and_go_into_the_packet(page: AppTest, app_home) -> None:
    found = page.session_state["examination"][1]
    before = found.packet()
    press(page, "Test the map")
    assert {"Removal, this map", "Random maps", "Centre map"} <= {metric.label for metric in page.metric}
    press(page, "Pass it on")
    assert "of 8 deliveries" in text_of(page)
    assert {"Test the map", "Pass it on"}.isdisjoint(button.label for button in page.button)
    press(page, "Take each part away")
    assert words.INFILL_CAVEAT in text_of(page)
    open_page(page, "classify")
    open_page(page, "explain")
    assert "of 8 deliveries" in text_of(page)
    made = page.session_state["examination"][1].packet()
    names = zipfile.ZipFile(io.BytesIO(made)).namelist()
    assert {"sections/deliveries.json", "sections/quality.json", "sections/what_if.json"} <= set(names)
    assert packet.digest(before) != packet.digest(made)
    at_hand = [read_info(app_home / "tiny.safetensors")]
    assert packet.verify(made, checkpoints=at_hand, judge=False).agrees
    assert packet.digest(made) in found.report("html").decode()
    assert found.report("pdf").startswith(b"%PDF-")


def test_what_is_usual_for_a_real_face_is_said_where_it_was_measured(page: AppTest, app_home) -> None:
    assert "real faces" not in text_of(page)
    info = read_info(app_home / "tiny.safetensors")
    bands = {label: {name: [-1, -0.5, 0, 0.5, 1] for name in REGIONS} for label in ("real", "fake")}
    content = {"format": typical.FORMAT, "checkpoint_sha256": info.sha256, "n_real": 50, "n_fake": 60}
    content |= {"above": {"real": 0.4, "fake": 0.9}, **bands}
    for text, told in ((json.dumps(content), True), ("{", False)):
        typical.path_of(info).write_text(text)
        del page.session_state["examination"]
        page.run()
        assert not page.exception
        assert ("is found in 40 % of real faces and 90 % of AI-generated ones" in text_of(page)) is told
        columns = set(page.dataframe[0].value.columns)
        assert ({"real", "fake"} <= columns) is told


def test_another_face_is_chosen_and_explained(app: AppTest) -> None:
    upload(app, picture(size=(400, 150)))
    open_page(app, "explain")
    line = [element.value for element in app.markdown if element.value.startswith("Regions")]
    found = app.session_state["examination"][1]
    other = next(index for index in range(3) if index != found.result.deciding_face)
    chooser = next(group for group in app.button_group if any("Face" in option for option in group.options))
    chooser.set_value(other).run()
    assert not app.exception
    assert [element.value for element in app.markdown if element.value.startswith("Regions")] != line
    assert words.signed(found.result.faces[other].logit, 3) in text_of(app)
    assert f"of face {found.result.deciding_face + 1}, which decides" in text_of(app)
    assert "tests of other faces are not in them" in text_of(app)


def test_tests_of_a_single_face_are_not_told_from_those_of_others(page: AppTest) -> None:
    assert "hold the tests that were made on this page so far." in text_of(page)


def test_grad_cam_is_not_described_by_log_odds(page: AppTest) -> None:
    chooser = next(group for group in page.button_group if "Evidence" in group.options)
    assert "Evidence over the face: " in maps(page)
    chooser.set_value("Grad-CAM, rescaled").run()
    assert not page.exception
    described = re.findall(r"Grad-CAM, rescaled over the face: ([^\"]*)\"", maps(page))
    assert described
    assert not any("log-odds" in text or "toward AI-generated" in text for text in described)


def test_the_help_on_removal_says_what_is_counted(page: AppTest) -> None:
    press(page, "Test the map")
    removal = next(metric for metric in page.metric if metric.label == "Removal, this map")
    assert "half of how much more the score falls" in removal.help


def maps(app: AppTest) -> str:
    return "".join(element.proto.body for element in app.get("html"))


def test_a_picture_without_a_face_can_still_be_handed_over(app: AppTest) -> None:
    upload(app, picture(colour=(255, 255, 255)))
    open_page(app, "explain")
    assert not app.exception
    assert {"Evidence packet (ZIP)", "Report (PDF)"} <= {button.label for button in app.get("download_button")}
    assert not app.get("plotly_chart")
