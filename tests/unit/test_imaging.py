import struct
import threading
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile

from model import imaging
from model.imaging import ImageError, Limits, decode, glance, miniature, recompress
from tests.support import draw_face, encode, png16, png_bomb

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

# Orientation -> how an upright picture is stored (EXIF 2.3, tag 0x0112).
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def lopsided() -> Image.Image:
    """A picture that no turn or mirroring maps onto itself."""
    image = Image.new("RGB", (64, 48), "white")
    image.paste("red", (0, 0, 20, 10))
    image.paste("blue", (44, 30, 64, 48))
    return image


def colours(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(colours(one) - colours(other)).mean())


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("container", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_every_exif_orientation_gives_the_same_upright_picture(container, orientation):
    transpose = STORED[orientation]
    stored = lopsided() if transpose is None else lopsided().transpose(transpose)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {} if container in ("PNG", "TIFF") else {"quality": 95}
    decoded = decode(encode(stored, container, exif=exif, **options))
    assert (decoded.width, decoded.height) == (64, 48)
    assert difference(decoded.pixels, lopsided()) < (0.01 if container in ("PNG", "TIFF") else 8)


def test_turning_is_noted_and_an_impossible_orientation_is_ignored():
    for orientation, turned in ((6, True), (1, False), (99, False)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        notes = decode(encode(lopsided(), "JPEG", exif=exif)).notes
        assert any("EXIF orientation" in note for note in notes) is turned


@pytest.mark.parametrize("container", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF"])
def test_each_format_decodes_to_rgb_and_is_named(container):
    image = draw_face(64)
    decoded = decode(encode(image, container))
    assert decoded.pixels.mode == "RGB"
    assert decoded.format == container
    assert difference(decoded.pixels, image) < 6


def test_heic_decodes_like_the_others():
    pytest.importorskip("pillow_heif")
    data = encode(draw_face(64), "HEIF", quality=95)
    assert data[4:12] == b"ftypheic"
    decoded = decode(data)
    assert decoded.format == "HEIF"
    assert difference(decoded.pixels, draw_face(64)) < 6


def test_without_pillow_heif_heic_is_refused_and_all_else_is_read(monkeypatch):
    pytest.importorskip("pillow_heif")
    data = encode(draw_face(64), "HEIF")
    monkeypatch.setattr(imaging, "pillow_heif", None)
    monkeypatch.setattr(imaging, "_OPENERS", tuple(name for name in imaging._OPENERS if name != "HEIF"))
    with pytest.raises(ImageError, match="pillow-heif") as caught:
        decode(data)
    assert caught.value.code == "heic_unsupported"
    assert decode(encode(draw_face(64), "PNG")).format == "PNG"


def test_a_camera_file_of_two_pictures_is_one_photograph():
    decoded = decode(encode(draw_face(64), "MPO", save_all=True, append_images=[draw_face(64)]))
    assert (decoded.format, decoded.notes) == ("MPO", ())


@pytest.mark.parametrize("container", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_of_an_animation_the_first_frame_is_examined_and_that_is_noted(container):
    data = encode(draw_face(64), container, save_all=True, append_images=[Image.new("RGB", (64, 64), "black")])
    decoded = decode(data)
    assert any("only the first frame" in note for note in decoded.notes)
    assert difference(decoded.pixels, draw_face(64)) < 6


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_16_bit_png_gives_the_8_bit_picture(mode):
    image = draw_face(64).convert(mode)
    assert difference(decode(png16(image)).pixels, image.convert("RGB")) == 0


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_that_16_bits_were_reduced_is_noted_once(mode):
    assert decode(png16(draw_face(64).convert(mode))).notes == ("reduced to 8 bits per channel",)


@pytest.mark.parametrize("order", ["<", ">"])
def test_that_a_tiff_of_16_bits_was_reduced_is_noted(order):
    picture = np.asarray(draw_face(64))
    tags = [(256, 64), (257, 64), (258, 0), (259, 1), (262, 2), (273, 0), (277, 3), (278, 64), (279, picture.size * 2)]
    start = 8 + 2 + 12 * len(tags) + 4
    found = dict(tags) | {273: start + 6}
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 3, 3, start) if tag == 258 else struct.pack(f"{order}HHII", tag, 4, 1, value)
        for tag, value in sorted(found.items())
    )
    head = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(tags)) + entries + bytes(4)
    levels = (picture.astype(np.uint16) * 257).astype(f"{order}u2").tobytes()
    decoded = decode(head + struct.pack(f"{order}3H", 16, 16, 16) + levels)
    assert decoded.notes == ("reduced to 8 bits per channel",)
    assert difference(decoded.pixels, draw_face(64)) == 0


@pytest.mark.parametrize("look", [decode, lambda data: miniature(data, 8), lambda data: glance(data, 8)])
@pytest.mark.parametrize("step", ["convert", "load"])
def test_too_little_memory_is_no_damage(look, step, monkeypatch):
    def exhausted(*args, **kwargs):
        raise MemoryError

    data = encode(draw_face(64).quantize(8))
    monkeypatch.setattr(Image.Image if step == "convert" else ImageFile.ImageFile, step, exhausted)
    with pytest.raises(ImageError) as caught:
        look(data)
    assert caught.value.code == "too_much_memory"


def test_transparency_goes_on_white_whatever_holds_it():
    image = lopsided().convert("RGBA")
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (0, 0, 20, 10))  # the red corner
    image.putalpha(alpha)
    expected = lopsided()
    expected.paste("white", (0, 0, 20, 10))
    palette = lopsided().quantize(8)
    corner = int(np.asarray(palette)[0, 0])
    clear = bytes(0 if index == corner else 255 for index in range(8))
    files = {
        "rgba": encode(image, "PNG"),
        "palette, alpha per colour": encode(palette, "PNG", transparency=clear),
        "palette, one clear colour": encode(palette, "GIF", transparency=corner),
        "rgb, one clear colour": encode(lopsided(), "PNG", transparency=(255, 0, 0)),
        "webp": encode(image, "WEBP", lossless=True),
    }
    for name, data in files.items():
        decoded = decode(data)
        assert difference(decoded.pixels, expected) == 0, name
        assert "transparency was placed on white" in decoded.notes, name
    grey = decode(encode(image.convert("LA"), "PNG")).pixels
    assert grey.getpixel((0, 0)) == (255, 255, 255)


def test_cmyk_jpeg_becomes_rgb_and_says_so():
    decoded = decode(encode(draw_face(64).convert("CMYK"), "JPEG", quality=95))
    assert "converted from CMYK" in decoded.notes
    assert difference(decoded.pixels, draw_face(64)) < 6


def test_a_wide_colour_profile_is_converted_and_srgb_is_left_alone():
    image = draw_face(64)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    same = decode(encode(image, "PNG", icc_profile=srgb))
    assert same.notes == ()
    assert difference(same.pixels, image) == 0
    # A profile of another colour space than the pixels is neither applied nor called damaged.
    unfit = decode(encode(image, "PNG", icc_profile=lab))
    assert unfit.notes == ("its colour profile is for another kind of pixels and was ignored",)
    assert difference(unfit.pixels, image) == 0
    # sRGB renamed is converted, to nearly the same colours.
    renamed = srgb.replace("sRGB".encode("utf-16-be"), "wide".encode("utf-16-be")).replace(b"sRGB", b"wide")
    converted = decode(encode(image, "PNG", icc_profile=renamed))
    assert any(note.startswith("converted from the colour profile 'wide") for note in converted.notes)
    assert difference(converted.pixels, image) < 1


def test_linear_light_is_converted_though_its_profile_names_srgb():
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = profile.index(b"para\0\0\0\0")  # the curve of all three channels; its five numbers follow
    profile[at + 12 : at + 32] = b"".join(value.to_bytes(4, "big") for value in (65536, 65536, 0, 65536, 0))
    decoded = decode(encode(Image.new("RGB", (64, 64), (55, 55, 55)), "PNG", icc_profile=bytes(profile)))
    assert any("converted from the colour profile" in note for note in decoded.notes)
    assert all(abs(level - 128) <= 2 for level in decoded.pixels.getpixel((5, 5)))


def test_a_grey_picture_with_a_colour_profile_keeps_its_levels():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = draw_face(64).convert("L")
    assert difference(decode(encode(image, "PNG", icc_profile=srgb)).pixels, image.convert("RGB")) == 0


def test_a_damaged_colour_profile_is_ignored_and_noted():
    decoded = decode(encode(draw_face(64), "PNG", icc_profile=b"not a profile" * 20))
    assert decoded.notes == ("its colour profile is damaged and was ignored",)
    assert difference(decoded.pixels, draw_face(64)) == 0


def test_damaged_exif_does_not_cost_the_picture():
    data = encode(draw_face(64), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 40)
    assert decode(data).width == 64


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"hello, I am text", "unknown_format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "vector"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- drawn --><svg/>", "vector"),
        (b"<!-- drawn --><svg/>", "vector"),
        (b"%PDF-1.7\n", "document"),
        (b"PK\x03\x04 a zip", "archive"),
        (b"\xff\xd8\xff\xe0", "unknown_format"),
        (b"\x89PNG\r\n\x1a\n", "unknown_format"),
        (encode(draw_face(64), "JPEG")[:900], "truncated"),
        (encode(draw_face(64), "PNG")[:1500], "truncated"),
        (encode(Image.new("RGB", (1, 1))), "too_small"),
        (encode(Image.new("RGB", (31, 400))), "too_small"),
        (png_bomb(), "too_many_pixels"),
        (png_bomb(10_000), "too_many_pixels"),  # below Pillow's own limit, above ours
    ],
)
def test_what_cannot_be_used_is_refused_with_a_stable_code(data, code):
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.code == code
    assert str(caught.value)[0].isupper()
    assert str(caught.value).endswith(".")


def test_limits_are_the_callers():
    data = encode(draw_face(64))
    with pytest.raises(ImageError) as caught:
        decode(data, limits=Limits(max_bytes=len(data) - 1))
    assert caught.value.code == "too_many_bytes"
    with pytest.raises(ImageError) as caught:
        decode(data, limits=Limits(max_pixels=64 * 64 - 1))
    assert caught.value.code == "too_many_pixels"
    assert decode(data, limits=Limits(max_bytes=len(data), max_pixels=64 * 64, min_side=64)).width == 64


def test_decoding_is_deterministic_and_hashes_the_file():
    data = encode(draw_face(64), "JPEG")
    one, two = decode(data), decode(data)
    assert one.sha256 == two.sha256
    assert len(one.sha256) == 64
    assert one.pixels.tobytes() == two.pixels.tobytes()
    assert one.size_bytes == len(data)


def test_decoding_in_threads_leaves_the_list_of_warning_filters_alone():
    before = list(warnings.filters)
    data = encode(draw_face(64), "JPEG")
    threads = [threading.Thread(target=lambda: [decode(data) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def test_the_names_offered_to_users_have_an_opener():
    Image.init()
    assert {Image.EXTENSION[suffix] for suffix in imaging.SUFFIXES if suffix in Image.EXTENSION} <= set(imaging.FORMATS)
    assert set(imaging._OPENERS) <= set(Image.OPEN)


OPTIONS: dict[str, dict] = {
    "JPEG": {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"},
    "PNG": {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()},
    "WEBP": {},
    "AVIF": {},
    "TIFF": {"compression": "tiff_lzw"},
    "BMP": {},
    "GIF": {},
}
SEEDS = {container: encode(draw_face(48), container, **options) for container, options in OPTIONS.items()}


@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(SEEDS)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    st.floats(0.02, 1),
)
def test_damage_anywhere_gives_a_picture_or_an_image_error(container, changes, kept):
    data = bytearray(SEEDS[container])
    for place, value in changes:
        data[int(place**3 * len(data))] = value  # headers lie at the beginning: damage them more often
    try:
        decoded = decode(bytes(data[: max(1, int(kept * len(data)))]))
    except ImageError as error:
        assert error.code in {"unknown_format", "truncated", "undecodable", "too_small", "too_many_pixels", "vector"}
    else:
        assert decoded.pixels.mode == "RGB"


@pytest.mark.parametrize("codec", ["JPEG", "WEBP"])
def test_recompressing_keeps_size_and_loses_more_at_lower_quality(codec):
    rough = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 48, 3), dtype=np.uint8))
    fine, coarse = recompress(rough, 95, codec=codec), recompress(rough, 20, codec=codec)
    assert fine.size == coarse.size == rough.size
    assert 0 < difference(fine, rough) < difference(coarse, rough)
