from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from dashboard.tasks import IMAGE_COLUMNS, BulkResult, ChangedError, csv_bytes, images_of, read_again, thumbnail
from model.results import to_frame
from model.sources import Source


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


def test_a_picture_is_read_again_only_while_it_is_the_one_that_was_judged(tmp_path: Path) -> None:
    place = tmp_path / "a.png"
    place.write_bytes(b"judged")
    images = pd.DataFrame({"name": ["set/a.png", "set/b.png"], "sha256": [hashlib.sha256(b"judged").hexdigest(), None]})
    result = BulkResult(pd.DataFrame(), images, {}, [Source("set/a.png", place), Source("set/b.png", place)])
    assert read_again(result, 0) == ("a.png", b"judged")
    place.write_bytes(b"another")
    with pytest.raises(ChangedError, match=r"^set/a\.png: this file has changed since it was judged\.$"):
        read_again(result, 0)
    assert read_again(result, 1) == ("b.png", b"another")  # it could not be read when it was to be judged


def test_an_empty_run_is_still_a_table() -> None:
    assert csv_bytes(to_frame([])).decode().startswith("path,sha256,")


def test_a_table_without_faces_has_no_images() -> None:
    images = images_of(to_frame([]))
    assert tuple(images.columns) == IMAGE_COLUMNS
    assert images.empty
