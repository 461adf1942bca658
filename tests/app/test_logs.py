"""What the server writes into its log, and what it keeps out."""

from __future__ import annotations

import gc
import json
import logging

import anyio
import pytest
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dashboard import app
from dashboard.logs import LineFormatter, configure, place
from dashboard.settings import Settings


def line(as_json: bool = False, details: bool = False, level: int = logging.ERROR, message: str = "it failed") -> str:
    try:
        raise ValueError("ada-passport.jpg\nis broken")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("dashboard.x", level, __file__, 1, message, (), info)
    return LineFormatter(as_json=as_json, details=details).format(record)


def test_an_error_is_its_kind_and_place_without_what_the_visitor_sent() -> None:
    text = line()
    assert "\n" not in text
    assert "passport" not in text
    assert "[ValueError at app/test_logs.py:" in text
    entry = json.loads(line(as_json=True))
    assert (entry["error"], entry["level"], entry["logger"]) == ("ValueError", "ERROR", "dashboard.x")
    assert "traceback" not in entry


def test_details_are_written_when_asked_for() -> None:
    assert "ada-passport.jpg" in line(details=True)
    assert "ada-passport.jpg" in json.loads(line(as_json=True, details=True))["traceback"]


@pytest.mark.parametrize("as_json", [False, True])
def test_no_message_breaks_out_of_its_line_or_names_a_run(as_json: bool) -> None:
    asked = "GET /evaluate?run=abcDEF_123-4567890&other=xyz_123-4567890"
    text = line(as_json, message=f"{asked}\n2026 forged\r2026 forged\x1b[1A\x9b2K\u2028line")
    assert text.isprintable()
    assert "abcDEF" not in text and "xyz" not in text


def test_values_of_an_error_stay_out_and_those_of_news_are_written() -> None:
    form = LineFormatter(as_json=False, details=False)
    error = logging.LogRecord("x", logging.ERROR, "", 1, "cannot read %s", ("ada.jpg",), None)
    news = logging.LogRecord("x", logging.INFO, "", 1, "listening on %s", (8501,), None)
    assert "ada" not in form.format(error)
    assert "8501" in form.format(news)


def test_a_variable_that_is_no_setting_is_named_at_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("REALITY_CHECK_LIST_RUN", "true")
    monkeypatch.setattr(app, "get_settings", lambda: Settings(preload=False, isolate_decoding=False))

    async def begin_and_end() -> None:
        async with app.lifespan(app.app):
            gc.unfreeze()

    anyio.run(begin_and_end)
    (said,) = (record.getMessage() for record in caplog.records if record.name == "dashboard.app")
    assert "REALITY_CHECK_LIST_RUN is no setting" in said
    assert "REALITY_CHECK_" in said.split("; ")[1]


def test_every_handler_gets_the_form() -> None:
    logger, handler = logging.getLogger("tests.logs"), logging.NullHandler()
    logger.addHandler(handler)
    before = {h: h.formatter for h in logging.getLogger().handlers}
    try:
        configure(Settings(log_format="json"))
        assert isinstance(handler.formatter, LineFormatter) and handler.formatter.as_json
    finally:
        logger.removeHandler(handler)
        for own, formatter in before.items():
            own.setFormatter(formatter)


def test_a_place_without_a_traceback_is_unknown() -> None:
    assert place(None) == "?"


def test_resources_that_are_asked_for_outside_of_a_page_are_no_warning() -> None:
    configure(Settings())
    noisy = logging.getLogger(get_script_run_ctx.__module__)
    assert not noisy.isEnabledFor(logging.WARNING)
    assert noisy.isEnabledFor(logging.ERROR)
