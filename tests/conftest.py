"""What all tests share. The import guard comes first: it makes torchvision importable for everything after it."""

from __future__ import annotations

from model import _torchvision  # noqa: F401 - first, see above

# isort: split
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from dashboard.settings import get_settings
from model import detector
from model.faces import Face
from tests.support import save_tiny

SIDE = 64

# Time limits per example fail at random on a busy machine; pytest prints the slowest tests instead.
settings.register_profile("reality-check", deadline=None)
settings.load_profile("reality-check")


class OneFace:
    """A face finder that sees one large face in every picture but the grey ones."""

    def find(self, image: Image.Image) -> list[Face]:
        if image.convert("RGB").resize((1, 1)).getpixel((0, 0)) == (128, 128, 128):
            return []
        width, height = image.size
        points = ((0.35, 0.4), (0.65, 0.4), (0.5, 0.55), (0.4, 0.7), (0.6, 0.7))
        return [
            Face(
                box=(0.2 * width, 0.1 * height, 0.8 * width, 0.9 * height),
                score=0.99,
                landmarks=tuple((x * width, y * height) for x, y in points),
            )
        ]


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the smallest network, with random weights."""
    framing = {"side": SIDE, "face_share": 0.83, "vertical_offset": 0.05, "jpeg_quality": 90}
    return save_tiny(tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors", framing=framing)


@pytest.fixture
def one_face(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture shows one face."""
    monkeypatch.setattr(detector, "_finder", OneFace)


@pytest.fixture
def tiny_setup(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_checkpoint: Path, one_face: None
) -> Iterator[Path]:
    """An empty working directory where the tiny checkpoint is the default; returns the directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REALITY_CHECK_DEFAULT_CHECKPOINT", str(tiny_checkpoint))
    monkeypatch.setenv("REALITY_CHECK_DATA_DIR", str(tmp_path / "data"))
    get_settings.cache_clear()
    yield tmp_path
    get_settings.cache_clear()


@pytest.fixture
def picture() -> Callable[..., bytes]:
    """Make an image file out of a seed: smooth colours, the same for the same seed."""

    def make(seed: int, *, size: tuple[int, int] = (160, 160), form: str = "PNG") -> bytes:
        grid = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        image = Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, form)
        return buffer.getvalue()

    return make
