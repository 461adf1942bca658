"""Pages under test: a tiny untrained network, and a stub in place of the face finder. Everything else is real."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

import model  # noqa: F401 - first, see model/_torchvision.py
from dashboard import settings as dashboard_settings
from model import detector as model_detector
from model.backbones import tiny
from model.faces import Face
from model.network import save

ROOT = Path(__file__).resolve().parents[2]
HEADER = {
    "name": "tiny",
    "architecture": "tiny",
    "options": {},
    "framing": {"side": 64, "face_share": 0.83, "vertical_offset": 0.05, "jpeg_quality": None},
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "classes": ["real", "fake"],
    "temperature": 1.0,
    "calibration_bias": 0.0,
    "thresholds": {"real": 0.4, "fake": 0.6, "fpr": 0.01},
    "training": {
        "train": 12,
        "val": 3,
        "digest": "0" * 64,
        "counts": [{"label": "real", "source": "noise", "generator": "", "train": 12, "val": 3}],
    },
    "metrics": {
        "test": {"n_real": 4, "n_fake": 5, "roc_auc": {"value": 0.75, "low": 0.7, "high": 0.8}},
        "leave_one_out": {
            "good": {"roc_auc": {"value": 0.9}, "tpr_at_1_percent_fpr": {"value": 0.5}, "n_real": 2, "n_fake": 2},
            "bad": {"roc_auc": {"value": 0.6}, "tpr_at_1_percent_fpr": {"value": None}, "n_real": 2, "n_fake": 2},
        },
    },
    "licence": "MIT",
    "origin": "A test network that was never trained.",
    "created": "2026-01-01",
}


class StubFinder:
    """One face per 128 px of width, up to three; none in a picture that is white throughout."""

    def find(self, image: Image.Image) -> list[Face]:
        pixels = np.asarray(image)
        if pixels.min() > 250:
            return []
        count = min(3, max(1, image.width // 128))
        return [_face(image, index, count) for index in range(count)]


def _face(image: Image.Image, index: int, count: int) -> Face:
    size = 0.8 * min(image.height, image.width / count)
    x, y = image.width * (index + 0.5) / count, image.height / 2
    points = tuple(
        (x + dx * size, y + dy * size) for dx, dy in ((-0.2, -0.15), (0.2, -0.15), (0, 0), (-0.15, 0.25), (0.15, 0.25))
    )
    return Face((x - size / 2, y - size / 2, x + size / 2, y + size / 2), 0.99, points)


def picture(*, seed: int = 0, size: tuple[int, int] = (120, 120), colour: tuple[int, int, int] | None = None) -> bytes:
    """A PNG of noise, or of one colour."""
    if colour is None:
        pixels = np.random.default_rng(seed).integers(0, 200, (size[1], size[0], 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
    else:
        image = Image.new("RGB", size, colour)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def archive(members: dict[str, bytes]) -> bytes:
    """A ZIP archive in memory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def app_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A private data folder, a server folder, and a tiny checkpoint as the default."""
    torch.manual_seed(0)
    weights = tmp_path / "tiny.safetensors"
    save(weights, tiny(), HEADER)
    served = tmp_path / "served"
    for label in ("real", "fake"):
        (served / label / "group").mkdir(parents=True)
        for number in range(3):
            name = f"{label}-{number}.png"
            (served / label / "group" / name).write_bytes(picture(seed=number + 10 * (label == "fake")))
    monkeypatch.setenv("REALITY_CHECK_DEFAULT_CHECKPOINT", str(weights))
    monkeypatch.setenv("REALITY_CHECK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("REALITY_CHECK_FOLDER_ROOTS", f'["{served}"]')
    monkeypatch.setattr(model_detector, "_finder", StubFinder)
    dashboard_settings.get_settings.cache_clear()
    st.cache_resource.clear()
    st.cache_data.clear()
    yield tmp_path
    dashboard_settings.get_settings.cache_clear()
    st.cache_resource.clear()


@pytest.fixture
def app() -> AppTest:
    """The application at its first page."""
    return AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60).run()


def open_page(app: AppTest, name: str) -> AppTest:
    """Go to a page of the application."""
    return app.switch_page(str(ROOT / "pages" / f"{name}.py")).run()
