"""The runtime that the operator chose: what computes, what a run keeps of it, what is said where it cannot be had."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import resources, tasks
from dashboard.jobs import JobError
from dashboard.settings import get_settings
from model import runtimes
from model.runtimes import parity
from tests.app.conftest import open_page, picture
from tests.app.synthetic import Plan, keep


@pytest.fixture(autouse=True)
def gate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache folder, and noise in place of the sample pictures that runtimes are compared on."""
    monkeypatch.setenv("REALITY_CHECK_CACHE_DIR", str(tmp_path / "cache"))
    crops = np.random.default_rng(0).standard_normal((4, 3, 64, 64), dtype=np.float32)
    monkeypatch.setattr(parity, "sample_faces", lambda info: crops)


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "openvino" else found(name, *more)
    )
    yield


def use(monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
    monkeypatch.setenv("REALITY_CHECK_RUNTIME", runtime)
    get_settings.cache_clear()


@pytest.mark.parametrize("name", runtimes.NAMES)
def test_the_application_computes_with_the_runtime_of_the_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name not in runtimes.available():
        pytest.skip(f"{name} cannot be used here")
    use(monkeypatch, name)
    detector = resources.detector()
    assert detector.classify(picture()).runtime == f"{name}-fp32"
    assert tasks.recipe(detector, get_settings())["runtime"] == name
    assert resources.detector() is detector


def test_auto_measures_once_and_states_what_it_took(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use(monkeypatch, "auto")
    with caplog.at_level("INFO"):
        detector = resources.detector()
    chosen = tasks.recipe(detector, get_settings())["runtime"]
    assert chosen in runtimes.available()
    assert f"runtime {chosen}-fp32 chosen" in caplog.text
    monkeypatch.setattr(runtimes, "choose", None)
    assert resources.detector() is detector


def test_a_run_goes_on_with_the_runtime_that_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    if "onnxruntime" not in runtimes.available():
        pytest.skip("the extra onnxruntime is not installed")
    info = resources.checkpoint()
    run = keep(resources.job_queue().store, Plan(checkpoint=info.name, checkpoint_sha256=info.sha256))
    with_graph = replace(run, settings=run.settings | {"runtime": "onnxruntime"})
    assert resources.detector_of(with_graph).runtime == "onnxruntime-fp32"
    use(monkeypatch, "onnxruntime")
    before = replace(run, settings={key: value for key, value in run.settings.items() if key != "runtime"})
    assert resources.detector_of(before).runtime == "torch-fp32"  # runs were all computed so before they told


def test_a_runtime_that_is_gone_is_said_on_the_page_and_of_the_run(
    app: AppTest, without_openvino: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = resources.checkpoint()
    run = keep(resources.job_queue().store, Plan(checkpoint=info.name, checkpoint_sha256=info.sha256))
    with pytest.raises(JobError, match="began with openvino in fp32.*pip install"):
        resources.detector_of(replace(run, settings=run.settings | {"runtime": "openvino"}))
    use(monkeypatch, "openvino")
    app = open_page(app, "classify")
    assert not app.exception
    assert "pip install" in app.error[0].value and "REALITY_CHECK_RUNTIME" in app.error[0].value
