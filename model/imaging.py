"""Bytes in, one RGB image out: limits first, then one deterministic decoder.

Pillow decodes everything, at full resolution, with orientation, colour profile, transparency, bit depth and animation
resolved the same way every time. What was changed on the way is listed in `DecodedImage.notes`.

On a server decoding goes on in helper processes (`model.sandbox`). They load this module by its path and alone, so it
imports nothing of ours.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Protocol

import numpy as np
from PIL import Image, ImageChops, ImageCms, ImageOps, UnidentifiedImageError

try:
    import pillow_heif
except ImportError:  # optional: HEIC is then refused with a reason
    pillow_heif = None  # type: ignore[assignment]
else:
    pillow_heif.register_heif_opener()

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "BMP", "GIF")
# What Pillow is asked for: its JPEG opener makes MPO, which has none of its own.
_OPENERS = tuple(name for name in FORMATS if name != "MPO" and (name != "HEIF" or pillow_heif is not None))
_ORIENTATION = 0x0112  # EXIF tag
_METADATA = ("exif", "icc_profile", "xmp", "comment", "dpi", "parameters")  # kinds by Pillow's names
_LONGEST = {"JPEG": 65_500, "WEBP": 16_383}  # px of a side that these can hold
TOO_LARGE = "too_large_for_format"
_DEEP = re.compile(r";16[BLN]\b")  # in Pillow's name of stored pixels: 16 bits per channel
_REDUCED = "reduced to 8 bits per channel"
READY = b"R"  # what a helper sends before its first answer
_MAX_PROFILE = 4 * 2**20  # bytes; those of cameras and printers have up to about two million
_SAME_CURVE = 24  # levels of 255 between the greys of two profiles; a linear one is 90 off
# Pillow warns about odd metadata and large sizes; the checks below are ours. A filter set once, not per call: the list
# of filters is shared by all threads.
warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)(\.|$)")
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".heic", ".heif", ".hif")
    + (".tif", ".tiff", ".bmp", ".gif")
)


@dataclass(frozen=True)
class Limits:
    """What one image may cost. Exceeding a limit is an `ImageError`, never a crash."""

    max_bytes: int = 64 * 2**20
    max_pixels: int = 50_000_000
    min_side: int = 32


class ImageError(ValueError):
    """An image that cannot be used.

    Attributes
    ----------
    code : str
        Stable identifier, e.g. `truncated`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class DecodedImage:
    """A decoded picture and the facts about its file.

    Attributes
    ----------
    pixels : PIL.Image.Image
        8-bit RGB, upright, in sRGB where the file said what it was in.
    sha256 : str
        Of the file's bytes.
    size_bytes : int
        Length of the file.
    format : str
        Pillow's name of the container, e.g. `JPEG`.
    notes : tuple of str
        What decoding changed or chose, in words.
    """

    pixels: Image.Image
    sha256: str
    size_bytes: int
    format: str
    notes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        return self.pixels.width

    @property
    def height(self) -> int:
        return self.pixels.height


@dataclass(frozen=True)
class Glance:
    """What a file tells of how it was made, without a look at what it shows.

    Attributes
    ----------
    format, mode : str
        Pillow's names of container and pixels.
    width, height : int
        As stored, before any turn.
    metadata : tuple of str
        Kinds of metadata that it carries.
    quantisation, subsampling : str
        Digest of the quantisation tables, and chroma subsampling; empty but for JPEG.
    jpeg_sum : int
        Of the luminance table: the larger, the stronger the compression; -1 for other formats.
    grey : PIL.Image.Image
        The picture in 8-bit grey; of a JPEG a fraction of its size.
    """

    format: str
    mode: str
    width: int
    height: int
    metadata: tuple[str, ...]
    quantisation: str
    subsampling: str
    jpeg_sum: int
    grey: Image.Image


class Decoder(Protocol):
    """Whoever decodes in this module's place: `model.sandbox.Sandbox`."""

    def decode(self, data: bytes, limits: Limits) -> DecodedImage:
        """What `decode_here` does."""
        ...

    def miniature(self, data: bytes, side: int, *, crop: bool) -> Image.Image:
        """What `miniature_here` does."""
        ...

    def glance(self, data: bytes, side: int) -> Glance:
        """What `glance_here` does."""
        ...


_decoder: Decoder | None = None


@contextmanager
def decoding_by(decoder: Decoder) -> Iterator[None]:
    """Have `decode`, `miniature` and `glance` work in a decoder of one's own, in the whole process."""
    global _decoder
    before, _decoder = _decoder, decoder
    try:
        yield
    finally:
        _decoder = before


def decode(data: bytes, *, limits: Limits = Limits()) -> DecodedImage:  # noqa: B008 - frozen
    """Decode one image file.

    Parameters
    ----------
    data : bytes
        The whole file.
    limits : Limits
        Checked before pixels are decoded.

    Returns
    -------
    DecodedImage

    Raises
    ------
    ImageError
        With a code among `empty, too_many_bytes, vector, document, archive, unknown_format, heic_unsupported,
        too_many_pixels, too_small, truncated, undecodable, too_much_memory` and a message that says what to do. With a
        `Sandbox` also `too_slow`.
    """
    return decode_here(data, limits) if _decoder is None else _decoder.decode(data, limits)


def decode_here(data: bytes, limits: Limits) -> DecodedImage:
    """`decode`, in this process and without a deadline."""
    if not data:
        raise ImageError("empty", "The file is empty (0 bytes). Export or download it again.")
    if len(data) > limits.max_bytes:
        raise ImageError(
            "too_many_bytes",
            f"The file is {len(data) / 2**20:.0f} MB; at most {limits.max_bytes / 2**20:.0f} MB are accepted.",
        )
    _refuse_other_kinds(data)
    notes: list[str] = []
    image = _open(data, limits)
    try:
        container = image.format or "unknown"
        if getattr(image, "is_animated", False) and container != "MPO":  # counting frames would read the whole file
            notes.append("animated or multi-page: only the first frame was examined")
        if not image.mode.startswith("I") and any(_DEEP.search(str(tile[3])) for tile in getattr(image, "tile", ())):
            notes.append(_REDUCED)  # by Pillow, as it loads colours
        image.load()
        pixels = _to_rgb(image, notes)
    except Exception as error:  # noqa: BLE001 - damaged files make Pillow raise almost anything
        raise _damaged("image file", error) from error
    return DecodedImage(pixels, hashlib.sha256(data).hexdigest(), len(data), container, tuple(notes))


def miniature(data: bytes, side: int, *, crop: bool = True) -> Image.Image:
    """A small RGB picture for the screen, decoded no larger than needed.

    Parameters
    ----------
    side : int
        Pixels of the square, or of the longer side.
    crop : bool
        Cut to a square, or keep the whole picture.

    Raises
    ------
    ImageError
        If the bytes are not a readable image within the limits.
    """
    return miniature_here(data, side, crop=crop) if _decoder is None else _decoder.miniature(data, side, crop=crop)


def miniature_here(data: bytes, side: int, *, crop: bool) -> Image.Image:
    """`miniature`, in this process and without a deadline."""
    limits = Limits(min_side=1)
    if len(data) > limits.max_bytes:
        raise ImageError("too_many_bytes", "The file is too large.")
    try:
        with _open(data, limits) as image:
            image.draft("RGB", (side * 2, side * 2))  # JPEG: decode at a fraction of the size
            small = _upright(image, []).convert("RGB")
            if crop:
                return ImageOps.fit(small, (side, side), Image.Resampling.BILINEAR)
            small.thumbnail((side, side), Image.Resampling.BILINEAR)
            return small
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged files make Pillow raise almost anything
        raise _damaged("image file", error) from error


def glance(data: bytes, side: int) -> Glance:
    """Look at a file without examining its picture.

    Parameters
    ----------
    side : int
        Pixels that each side of the grey picture keeps at least, if the file has them.

    Raises
    ------
    ImageError
        If the bytes are not a readable image within the limits.
    """
    return glance_here(data, side) if _decoder is None else _decoder.glance(data, side)


def glance_here(data: bytes, side: int) -> Glance:
    """`glance`, in this process and without a deadline."""
    limits = Limits(min_side=1)
    if len(data) > limits.max_bytes:
        raise ImageError("too_many_bytes", "The file is too large.")
    try:
        with _open(data, limits) as image:
            tables = getattr(image, "quantization", None) or {}
            about: dict[str, Any] = {
                "format": image.format or "unknown",
                "mode": image.mode,
                "width": image.width,
                "height": image.height,
                "metadata": tuple(kind for kind in _METADATA if kind in image.info),
                "quantisation": hashlib.sha256(repr(sorted(tables.items())).encode()).hexdigest()[:8] if tables else "",
                "subsampling": _subsampling(image),
                "jpeg_sum": sum(tables.get(0, [-1])),
            }
            image.draft("L", (side, side))  # JPEG: decode at a fraction of the size
            return Glance(**about, grey=image.convert("L"))
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged files make Pillow raise almost anything
        raise _damaged("image file", error) from error


def _subsampling(image: Image.Image) -> str:
    layers = getattr(image, "layer", None)
    if image.format not in ("JPEG", "MPO") or not layers:
        return ""
    return " ".join(f"{layer[1]}x{layer[2]}" for layer in layers)


def serve(questions: IO[bytes], answers: IO[bytes], *, memory_bytes: int) -> None:
    """Decode file after file for a `Sandbox`, until the questions end.

    `READY` comes first. A question is a line of JSON (`task, length` and the task's own values) and the file. An answer
    is the length of its JSON in 4 bytes (little-endian), the JSON, and the pixels; `code` and `message` in it stand for
    an `ImageError`.
    """
    _confine(memory_bytes)
    answers.write(READY)
    answers.flush()
    for line in questions:
        question: dict[str, Any] = json.loads(line)
        data = questions.read(question["length"])
        answer, pixels = _answer(question, data)
        head = json.dumps(answer | {"length": len(pixels)}).encode()
        answers.write(len(head).to_bytes(4, "little") + head)
        answers.write(pixels)
        answers.flush()
        del data, pixels  # a helper that waits holds no picture


def _answer(question: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        answer, image = _done(question, data)
        return answer, image.tobytes()
    except ImageError as error:
        return {"code": error.code, "message": str(error)}, b""
    except MemoryError:
        return {"code": "too_much_memory", "message": "The picture takes too much memory to decode."}, b""


def _done(question: dict[str, Any], data: bytes) -> tuple[dict[str, Any], Image.Image]:
    if question["task"] == "miniature":
        small = miniature_here(data, question["side"], crop=question["crop"])
        return {"size": small.size}, small
    if question["task"] == "glance":
        seen = glance_here(data, question["side"])
        told = {name: value for name, value in vars(seen).items() if name != "grey"}
        return {"size": seen.grey.size, "told": told}, seen.grey
    found = decode_here(data, Limits(**question["limits"]))
    about = {"size": found.pixels.size, "sha256": found.sha256, "format": found.format, "notes": found.notes}
    return about, found.pixels


def _confine(memory_bytes: int) -> None:
    """Give up what a decoder does not need: memory beyond the ceiling, files to write, core dumps."""
    try:
        import resource
    except ImportError:  # not on Windows: there only the deadline holds
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _damaged(part: str, error: Exception) -> ImageError:
    if isinstance(error, MemoryError):
        return ImageError("too_much_memory", "The picture takes too much memory to decode. Scale it down.")
    detail = str(error) or type(error).__name__
    if "truncated" in detail.lower():
        return ImageError("truncated", f"The {part} ends too early ({detail}). Obtain a complete copy.")
    return ImageError("undecodable", f"The {part} is damaged ({detail}). Obtain a complete copy.")


def _refuse_other_kinds(data: bytes) -> None:
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    lowered = head.lower()
    if lowered.startswith(b"<svg") or (lowered.startswith((b"<?xml", b"<!doctype", b"<!--")) and b"<svg" in lowered):
        raise ImageError("vector", "SVG is a drawing, not a photograph. Upload the original JPEG, PNG, WebP or HEIC.")
    if lowered.startswith((b"%pdf", b"%!ps")):
        raise ImageError("document", "This is a PDF or PostScript document. Extract the picture and upload that.")
    if data.startswith((b"PK\x03\x04", b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b")):
        raise ImageError("archive", "This is an archive, not an image. ZIP files are accepted on the Bulk page.")


def _open(data: bytes, limits: Limits) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=_OPENERS)
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(limits) from error
    except UnidentifiedImageError as error:
        if data[4:8] == b"ftyp" and data[8:11] in (b"hei", b"hev", b"mif") and pillow_heif is None:
            raise ImageError("heic_unsupported", "HEIC needs the package pillow-heif; or export as JPEG.") from error
        raise ImageError(
            "unknown_format", "Not a readable image, whatever its name says. Accepted: " + ", ".join(FORMATS) + "."
        ) from error
    except Exception as error:  # noqa: BLE001 - damaged files make Pillow raise almost anything
        raise _damaged("image header", error) from error
    width, height = image.size
    if width * height > limits.max_pixels:
        raise _too_many_pixels(limits, f"{width} x {height} px")
    if min(width, height) < limits.min_side:
        raise ImageError("too_small", f"The picture is {width} x {height} px; a side needs {limits.min_side} px.")
    return image


def _too_many_pixels(limits: Limits, size: str = "larger than any camera's picture") -> ImageError:
    accepted = f"{limits.max_pixels / 1e6:.0f} million pixels"
    return ImageError("too_many_pixels", f"The picture is {size}; at most {accepted} are accepted. Scale it down.")


_PROFILED = {"RGB": "RGB", "CMYK": "CMYK", "L": "GRAY"}  # mode -> colour space that a fitting profile names


def _to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """Resolve orientation, bit depth, transparency and colour space, in this order."""
    profile = image.info.get("icc_profile")
    image = _upright(image, notes)
    if image.mode.startswith("I") or image.mode == "F":
        levels = np.asarray(image, dtype=np.float64)
        levels = np.where(np.isfinite(levels), levels, 0.0)
        top = 65535.0 if image.mode.startswith("I") else max(1.0, float(levels.max()))
        image = Image.fromarray((levels / top * 255).clip(0, 255).round().astype(np.uint8), "L")
        profile = None
        notes.append(_REDUCED)
    if image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        if np.asarray(image.getchannel("A")).min() < 255:
            notes.append("transparency was placed on white")
        canvas = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(canvas, image).convert("RGB")
    if image.mode not in _PROFILED:
        image = image.convert("RGB")
    return _to_srgb(image, profile, notes)


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    try:
        if image.getexif().get(_ORIENTATION, 1) not in range(2, 9):
            return image
        turned = ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - the pixels are fine without their metadata
        notes.append("its EXIF data are damaged and were ignored")
        return image
    notes.append("turned upright as its EXIF orientation says")
    return turned


def _to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    if profile and len(profile) > _MAX_PROFILE:
        notes.append("its colour profile is too large and was ignored")
    elif profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            name = ImageCms.getProfileDescription(source).strip()
            if source.profile.xcolor_space.strip() != _PROFILED[image.mode]:
                notes.append("its colour profile is for another kind of pixels and was ignored")
            elif image.mode == "CMYK" or "srgb" not in name.lower() or not _keeps_greys(source, image.mode):
                converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
                if converted is not None:
                    notes.append(f"converted from the colour profile '{name[:60]}' to sRGB")
                    return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            notes.append("its colour profile is damaged and was ignored")
    if image.mode == "CMYK":
        notes.append("converted from CMYK")
    return image if image.mode == "RGB" else image.convert("RGB")


def _keeps_greys(source: ImageCms.ImageCmsProfile, mode: str) -> bool:
    """Whether a profile has about the tone curve of sRGB: there are linear ones that have sRGB in their name."""
    greys = Image.linear_gradient("L").resize((1, 256)).convert(mode)
    converted = ImageCms.profileToProfile(greys, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    if converted is None:
        return True
    apart = ImageChops.difference(converted, greys.convert("RGB"))
    return max(apart.tobytes()) <= _SAME_CURVE


def recompress(image: Image.Image, quality: int, *, codec: str = "JPEG", subsampling: int = 2) -> Image.Image:
    """Encode and decode once. `subsampling` is Pillow's: 0 is 4:4:4, 2 is 4:2:0 (JPEG only).

    Raises
    ------
    ImageError
        With the code `TOO_LARGE` if the format cannot hold a picture of this size.
    """
    longest = _LONGEST.get(codec)
    if longest is not None and max(image.size) > longest:
        raise ImageError(TOO_LARGE, f"{codec} cannot hold a picture this large: a side has {longest:,} px at most.")
    buffer = io.BytesIO()
    options = {"subsampling": subsampling} if codec == "JPEG" else {"method": 2}
    image.save(buffer, codec, quality=quality, **options)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")
