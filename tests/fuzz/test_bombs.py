"""Pictures that are made to exhaust a decoder: each is answered within its deadline, and the next one is served."""

from __future__ import annotations

import io
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator

import pytest
from PIL import Image

from model.imaging import ImageError, Limits
from model.sandbox import Sandbox
from tests.support import draw_face, encode, png_bomb

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits of processes are POSIX's")
SECONDS = 3.0


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunks(*chunks: bytes) -> bytes:
    """A small PNG with these chunks before its pixels."""
    plain = encode(draw_face(64))
    return plain[:33] + b"".join(chunks) + plain[33:]


def text_bomb() -> bytes:
    """A comment that unpacks to 200 megabytes."""
    return with_chunks(chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(200 * 2**20), 1)))


def profile_bomb() -> bytes:
    """A colour profile that unpacks to 200 megabytes."""
    return with_chunks(chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(200 * 2**20), 1)))


def many_comments() -> bytes:
    """A hundred thousand comments."""
    return with_chunks(*[chunk(b"tEXt", b"k%d\0v" % number) for number in range(100_000)])


def many_segments() -> bytes:
    """Thirty megabytes of EXIF."""
    plain = encode(draw_face(64), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 65535) + b"Exif\0\0" + b"x" * 65527
    return plain[:2] + segment * 450 + plain[2:]


def many_scans() -> bytes:
    """A progressive JPEG whose last scan comes three thousand times."""
    plain = encode(Image.effect_noise((2500, 2500), 80), "JPEG", progressive=True, quality=95)
    last = plain.rindex(b"\xff\xda")
    return plain[:-2] + plain[last:-2][:2000] * 3000 + b"\xff\xd9"


def many_frames() -> bytes:
    """Forty megabytes of frames."""
    buffer = io.BytesIO()
    first, second = (Image.effect_noise((64, 64), spread).convert("P") for spread in (20, 90))
    first.save(buffer, "GIF", save_all=True, append_images=[second], duration=10)
    plain = buffer.getvalue()
    frame = plain[plain.rindex(b"\x21\xf9") : -1]
    return plain[:-1] + frame * (40 * 2**20 // len(frame)) + b";"


def looping_directory() -> bytes:
    """A TIFF whose directory of pages leads to itself."""
    data = bytearray(encode(draw_face(64), "TIFF"))
    (at,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[at : at + 2])
    data[at + 2 + 12 * count :][:4] = struct.pack("<I", at)
    end = at + 2 + 12 * count
    return bytes(data[:end] + struct.pack("<I", at) + data[end + 4 :])


def many_tags() -> bytes:
    """A TIFF that announces 65,535 tags."""
    data = bytearray(encode(draw_face(64), "TIFF"))
    (at,) = struct.unpack("<I", data[4:8])
    data[at : at + 2] = b"\xff\xff"
    return bytes(data) + bytes(12 * 65536)


def long_strip() -> bytes:
    """A TIFF whose one strip unpacks to far more than its picture."""
    packed = zlib.compress(bytes(200 * 2**20), 1)
    plain = bytearray(encode(draw_face(64), "TIFF", compression="tiff_adobe_deflate"))
    return bytes(plain) + packed


def huge_canvas() -> bytes:
    """A WebP that announces 16,383 x 16,383 pixels."""
    plain = bytearray(encode(draw_face(64), "WEBP", lossless=True))
    plain[21:25] = struct.pack("<I", 16382 | 16382 << 14)
    return bytes(plain)


BOMBS: list[Callable[[], bytes]] = [
    text_bomb, profile_bomb, many_comments, many_segments, many_scans, many_frames, looping_directory, many_tags,
    long_strip, huge_canvas, png_bomb,
]  # fmt: skip


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(helpers=1, seconds=SECONDS, memory_mb=1500) as made:
        yield made


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.__name__)
def test_a_bomb_is_answered_in_time_and_the_next_picture_is_served(sandbox: Sandbox, bomb: Callable[[], bytes]) -> None:
    data = bomb()
    assert len(data) <= Limits.max_bytes
    for attempt in (lambda: sandbox.decode(data, Limits()), lambda: sandbox.miniature(data, 64, crop=True)):
        start = time.monotonic()
        try:
            attempt()
        except ImageError as error:
            assert error.code
        assert time.monotonic() - start < SECONDS + 12
    assert sandbox.decode(encode(draw_face(64)), Limits()).width == 64


@pytest.mark.parametrize(
    "data",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://example.org/'/></svg>",
        b"<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY a 'aaaa'>]><svg>&a;</svg>",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n",
        b"\xc5\xd0\xd3\xc6" + bytes(60),  # EPS with a preview
        b"\xd7\xcd\xc6\x9a" + bytes(60),  # Windows metafile
        b"\x0a\x05\x01\x08" + bytes(200),  # PCX
        b"P6\n64 64\n255\n" + bytes(64 * 64 * 3),
        b"8BPS\0\1" + bytes(60),
        b"SIMPLE  =                    T" + bytes(60),
    ],
    ids=["svg", "svg-entities", "pdf", "postscript", "eps", "wmf", "pcx", "ppm", "psd", "fits"],
)
def test_formats_that_are_no_photographs_never_reach_a_decoder(sandbox: Sandbox, data: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        sandbox.decode(data, Limits(min_side=1))
    assert caught.value.code in ("vector", "document", "unknown_format")
