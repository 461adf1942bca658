"""The verdict card: how often the detector errs stands beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import resources, words
from dashboard.settings import get_settings
from dashboard.widgets import verdict
from model.calibration import Thresholds
from model.detector import Detector
from model.network import save
from tests.support import tiny_network

from .conftest import HEADER, ROOT, picture

OUTCOMES = {"fake": 6, "real": 3, "inconclusive": 1, "not_applicable": 0, "error": 0}
MEASURED = {
    "test": {
        "fpr": {"value": 0.02, "low": 0.01, "high": 0.05},
        "recall": {"value": 0.75, "low": 0.6, "high": 0.85},
        "outcomes": {"real": OUTCOMES, "fake": OUTCOMES},
    }
}


def app_with(metrics: dict[str, Any], folder: Path) -> AppTest:
    """The application on a checkpoint with these figures, showing one judged picture."""
    save(folder / "tiny.safetensors", tiny_network(), HEADER | {"metrics": metrics})
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60).run()
    app.file_uploader[0].upload("face.png", picture())
    app.run()
    assert not app.exception
    return app


def captions(app: AppTest) -> str:
    return "\n".join(caption.value.replace("\\", "") for caption in app.caption)


def test_the_card_says_how_often_the_detector_errs(app_home: Path) -> None:
    app = app_with(MEASURED, app_home)
    assert app.header[0].value.startswith((":orange", ":blue", ":violet"))
    name = {"orange": "fake", "blue": "real", "violet": "inconclusive"}[app.header[0].value[1:].partition("[")[0]]
    info = resources.checkpoint()
    expected = words.stated_error_rates(info, name, info.thresholds)
    assert expected.startswith("Of 100 ")
    assert f"**{words.error_heading(name)}.** {expected}" in captions(app)
    assert verdict.CALIBRATED in next(metric for metric in app.metric if metric.label == "Probability AI").help


def test_the_card_says_when_nothing_was_measured(app_home: Path) -> None:
    assert words.NO_ERROR_RATE in captions(app_with({}, app_home))


def test_a_picture_without_a_face_says_how_often_faces_are_refused(app_home: Path) -> None:
    app = app_with(MEASURED, app_home)
    next(button for button in app.button if button.label == "Check another picture").click().run()
    app.file_uploader[0].upload("white.png", picture(colour=(255, 255, 255)))
    app.run()
    assert "fewer than 1 is wrongly refused as not applicable" in captions(app)


def test_rates_are_those_of_the_checkpoint_that_gave_the_verdict(
    app_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    save(app_home / "tiny.safetensors", tiny_network(), HEADER | {"metrics": MEASURED})
    get_settings.cache_clear()
    monkeypatch.setattr(verdict.st, "caption", said.append)
    own = resources.checkpoint()
    verdict.error_rates("fake", own.thresholds, own.sha256)
    verdict.error_rates("fake", Thresholds(0.4, 0.9, custom=True), own.sha256)
    verdict.error_rates("fake", own.thresholds, "f" * 64)
    assert "about 2 are wrongly flagged" in said[0]
    assert "set by hand" not in said[0]
    assert "set by hand" in said[1]
    assert "ffffffff …" in said[2] and "is not installed any more" in said[2] and "measured" not in said[2]
    verdict.error_rates("inconclusive", own.thresholds, own.sha256)
    assert said[3].startswith("**How often it does not decide.** Of 100 faces")


@pytest.mark.parametrize("show", [verdict.verdict_card, verdict.verdict_line])
def test_a_file_that_cannot_be_read_has_no_error_rate(
    app_home: Path, monkeypatch: pytest.MonkeyPatch, show: Any
) -> None:
    said: list[str] = []
    save(app_home / "tiny.safetensors", tiny_network(), HEADER | {"metrics": MEASURED})
    get_settings.cache_clear()
    monkeypatch.setattr(verdict.st, "caption", said.append)
    show(Detector.load(app_home / "tiny.safetensors").classify(b"not an image", name="a.png"))
    assert said == []
