"""Whatever users and adversaries hand in: each file gets its own answer, and the rest of a batch goes on."""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from model import bulk
from model.detector import Detector, Readable
from model.quality import REASONS, explain
from model.sources import MemorySource, Source, from_zip
from tests.support import BACKDROP, crowd, detector_of, draw_face, encode, png16, png_bomb, save_tiny, tiny_network

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


def on_canvas(side: int) -> Image.Image:
    """A face drawn `side` pixels high in a picture of 256."""
    picture = Image.new("RGB", (256, 256), BACKDROP)
    picture.paste(draw_face(side), (100, 100))
    return picture


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(draw_face().transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)


def palette_with_alpha() -> bytes:
    return encode(draw_face().quantize(64), "PNG", transparency=bytes([255] * 60 + [0] * 4))


ROTATED = draw_face().rotate(180)
JPEG = encode(draw_face(), "JPEG", quality=95)

# What can be judged, and one note that must be there.
USABLE = {
    "plain.jpg": (JPEG, None),
    "really_a_png.jpg": (encode(draw_face()), None),
    "animated.gif": (encode(draw_face(), "GIF", save_all=True, append_images=[ROTATED]), "only the first frame"),
    "animated.webp": (encode(draw_face(), "WEBP", save_all=True, append_images=[ROTATED]), "only the first frame"),
    "cmyk.jpg": (encode(draw_face().convert("CMYK"), "JPEG"), "converted from CMYK"),
    "grey16.png": (png16(draw_face().convert("L")), "8 bits"),
    "rgb16.png": (png16(draw_face()), "8 bits"),
    "palette_with_alpha.png": (palette_with_alpha(), "transparency was placed on white"),
    "turned.jpg": (turned(), "EXIF orientation"),
    "photo.avif": (encode(draw_face(), "AVIF"), None),
    "damaged_profile.jpg": (encode(draw_face(), "JPEG", icc_profile=b"junk" * 50), "colour profile is damaged"),
    "twelve.png": (encode(crowd()), None),
}

# What cannot, with the stable code and words of the message that say what is wrong or what to do.
REFUSED = {
    "truncated.jpg": (JPEG[: len(JPEG) // 2], "truncated", "ends too early"),
    "text.jpg": (b"I am not an image at all.", "unknown_format", "whatever its name says"),
    "page.jpg": (b"<!DOCTYPE html><html><body>403 Forbidden</body></html>", "unknown_format", "Accepted: JPEG"),
    "empty.png": (b"", "empty", "0 bytes"),
    "drawing.svg": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "vector", "SVG"),
    "paper.pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "document", "PDF"),
    "many.zip": (b"PK\x03\x04" + bytes(60), "archive", "Bulk page"),
    "bomb.png": (png_bomb(), "too_many_pixels", "at most 50 million pixels"),
    "dot.png": (encode(Image.new("RGB", (1, 1))), "too_small", "1 x 1 px"),
    "half_a_header.png": (encode(draw_face())[:20], "truncated", "ends too early"),
}

# What is a picture, but not one to judge.
UNSUITABLE = {
    "no_face.png": (encode(Image.new("RGB", (256, 256), BACKDROP)), "no_face"),
    "face_of_20_px.png": (encode(on_canvas(30)), "face_too_small"),  # the box is 14 x 20 px
    "face_of_40_px.png": (encode(on_canvas(60)), "face_too_small"),
}


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return Detector.load(save_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors"))


@pytest.mark.parametrize("name", USABLE)
def test_an_unusual_but_usable_file_is_judged(detector, name):
    data, note = USABLE[name]
    result = detector.classify(data, name=name)
    assert (result.error, result.reason) == (None, None)
    assert result.verdict in ("real", "fake", "inconclusive")
    assert len(result.faces) == (12 if name == "twelve.png" else 1)
    assert sum(result.deciding.ledger.values()) == pytest.approx(result.logit, abs=1e-4)
    if note is None:
        assert result.notes == ()
    else:
        assert any(note in one for one in result.notes)


def test_heic_is_judged(detector):
    pytest.importorskip("pillow_heif")
    result = detector.classify(encode(draw_face(), "HEIF"), name="photo.heic")
    assert (result.format, result.error) == ("HEIF", None)
    assert result.logit is not None


@pytest.mark.parametrize("name", REFUSED)
def test_an_unusable_file_is_refused_by_name_with_a_code_and_advice(detector, name):
    data, code, words = REFUSED[name]
    result = detector.classify(data, name=name)
    assert (result.verdict, result.reason) == ("not_applicable", code)
    assert result.error.startswith(f"{name}: ")
    assert words in result.error
    assert explain(result.reason, result.error) == result.error
    assert (result.faces, result.logit, result.p_fake) == ((), None, None)


@pytest.mark.parametrize("name", UNSUITABLE)
def test_an_unsuitable_picture_gets_a_reason_and_no_score(detector, name):
    data, reason = UNSUITABLE[name]
    result = detector.classify(data, name=name)
    assert (result.verdict, result.reason, result.error) == ("not_applicable", reason, None)
    assert (result.logit, result.p_fake, result.deciding) == (None, None, None)
    assert explain(result.reason) == REASONS[reason]
    assert len(explain(result.reason)) > 20


def test_a_wide_gamut_copy_gets_nearly_the_score_of_the_plain_one(detector):
    # The same colours described by a profile must not become another picture.
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    renamed = srgb.replace("sRGB".encode("utf-16-be"), "wide".encode("utf-16-be")).replace(b"sRGB", b"wide")
    plain = detector.classify(encode(draw_face()))
    profiled = detector.classify(encode(draw_face(), icc_profile=renamed))
    assert any("converted" in note for note in profiled.notes)
    assert profiled.logit == pytest.approx(plain.logit, abs=0.05)


def test_the_same_pixels_get_the_same_score_from_every_lossless_file(detector):
    picture = draw_face()
    expected = detector.classify(encode(picture)).logit
    copies = [png16(picture), encode(picture, "BMP"), encode(picture, "TIFF"), encode(picture, "WEBP", lossless=True)]
    for data in copies:
        assert detector.classify(data).logit == expected
    for orientation, stored in {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        assert detector.classify(encode(picture.transpose(stored), exif=exif)).logit == expected


@pytest.mark.parametrize("weight", [float("nan"), 3e38])
def test_a_network_whose_answer_is_no_number_gives_an_error_and_no_verdict(weight):
    network = tiny_network()
    network.extractor[0].weight.fill_(weight)
    good = MemorySource("no_face.png", UNSUITABLE["no_face.png"][0])
    bad, after = detector_of(network).classify_many([MemorySource("good.jpg", JPEG), good])
    assert (bad.verdict, bad.reason, bad.faces, bad.logit) == ("not_applicable", "failed", (), None)
    assert bad.error == "good.jpg: could not be examined (the network's answer is not a finite number)."
    assert (after.reason, after.error) == ("no_face", None)


@dataclass
class Broken:
    """A source that cannot be read."""

    name: str
    error: Exception

    def read(self) -> bytes:
        raise self.error


def test_files_that_cannot_be_read_are_named_with_the_systems_reason(detector, tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    sources: list[Source | MemorySource | Broken] = [
        Source("missing.jpg", tmp_path / "missing.jpg"),
        Source("folder.jpg", tmp_path / "folder.jpg"),
        Broken("secret.jpg", PermissionError(13, "Permission denied")),
        Broken("odd.jpg", RuntimeError()),
        MemorySource("good.jpg", JPEG),
    ]
    results = list(detector.classify_many(sources))
    assert [result.name for result in results] == [source.name for source in sources]
    assert [result.reason for result in results] == ["unreadable"] * 4 + [None]
    expected = ("No such file", "folder.jpg", "Permission denied", "RuntimeError")
    for result, words in zip(results[:4], expected, strict=True):
        assert result.verdict == "not_applicable"
        assert result.error.startswith(f"{result.name}: ")
        assert result.error.count(f"{result.name}: ") == 1
        assert words in result.error


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_unreadable(detector, tmp_path):
    path: Path = tmp_path / "locked.jpg"
    path.write_bytes(JPEG)
    path.chmod(0)
    (result,) = detector.classify_many([Source("locked.jpg", path)])
    assert result.reason == "unreadable"
    assert "Permission denied" in result.error


@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_mixed_batch_keeps_order_and_gives_each_file_its_own_answer(detector, batch_size):
    files = {name: entry[0] for group in (USABLE, REFUSED, UNSUITABLE) for name, entry in group.items()}
    order = np.random.default_rng(batch_size).permutation(sorted(files)).tolist()
    results = list(detector.classify_many([MemorySource(name, files[name]) for name in order], batch_size=batch_size))
    assert [result.name for result in results] == order
    for result in results:
        expected = REFUSED[result.name][1] if result.name in REFUSED else UNSUITABLE.get(result.name, (b"", None))[1]
        assert result.reason == expected, result.name
        assert (result.error is not None) == (result.name in REFUSED), result.name
        assert (result.logit is not None) == (result.name in USABLE), result.name


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_random_bytes_never_raise(detector, data):
    result = detector.classify(data)
    assert result.verdict == "not_applicable"
    assert result.error


SMALL = {name: encode(draw_face(64), name) for name in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")}


@settings(max_examples=100)
@given(
    st.sampled_from(sorted(SMALL)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_files_never_raise(detector, container, changes):
    data = bytearray(SMALL[container])
    for place, value in changes:
        data[int(place**3 * len(data))] = value
    result = detector.classify(bytes(data))
    assert result.reason != "failed"
    assert (result.error is None) == (result.width > 0)


def test_a_tenth_of_a_batch_broken_in_fifteen_ways_costs_the_others_nothing(detector, tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    with zipfile.ZipFile(tmp_path / "parcel.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("changed_in_the_zip.jpg", JPEG)
    packed = bytearray((tmp_path / "parcel.zip").read_bytes())
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "parcel.zip").write_bytes(packed)
    broken: list[Readable] = [
        *(MemorySource(name, data) for name, (data, *_) in REFUSED.items()),
        Source("missing.jpg", tmp_path / "missing.jpg"),
        Source("folder.jpg", tmp_path / "folder.jpg"),
        Broken("secret.jpg", PermissionError(13, "Permission denied")),
        Broken("odd.jpg", RuntimeError()),
        *from_zip(tmp_path / "parcel.zip"),
    ]
    assert len(broken) == 15
    sound = [MemorySource(f"sound {number}.jpg", JPEG) for number in range(135)]
    sources = [*sound, *broken]
    np.random.default_rng(15).shuffle(sources)  # type: ignore[arg-type] # a list is shuffled in place
    summary = bulk.run(detector, sources, tmp_path / "out.csv")
    table = pd.read_csv(tmp_path / "out.csv").set_index("path")
    assert table.index.tolist() == [source.name for source in sources]
    assert {name for name, _ in summary.failed} == {source.name for source in broken}
    for name, message in summary.failed:
        assert message.startswith(f"{name}: ")
        assert len(message) > len(name) + 15
        assert table.loc[name, "reason"] == (REFUSED[name][1] if name in REFUSED else "unreadable")
    assert np.ptp(table.loc[[source.name for source in sound], "logit"]) < 1e-4
    assert table["logit"].notna().sum() == len(sound)
