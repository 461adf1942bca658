from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from dashboard.tasks import IMAGE_COLUMNS, csv_bytes, images_of, thumbnail
from model.results import to_frame


@pytest.mark.parametrize("codec", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_every_accepted_format_gets_a_thumbnail(codec: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (300, 200), "red").save(buffer, codec)
    address = thumbnail(buffer.getvalue(), 64)
    assert address is not None
    small = Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))
    assert small.size == (64, 64)


def test_a_whole_thumbnail_keeps_its_shape() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (300, 200), "red").save(buffer, "PNG")
    address = thumbnail(buffer.getvalue(), 60, crop=False)
    assert address is not None
    assert Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).size == (60, 40)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\xff\xd8\xff"])
def test_what_is_no_image_has_no_thumbnail(data: bytes) -> None:
    assert thumbnail(data) is None


def test_an_empty_run_is_still_a_table() -> None:
    assert csv_bytes(to_frame([])).decode().startswith("path,sha256,")


def test_a_table_without_faces_has_no_images() -> None:
    images = images_of(to_frame([]))
    assert tuple(images.columns) == IMAGE_COLUMNS
    assert images.empty
