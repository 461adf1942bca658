"""What a file tells without a look at the face in it: its header, its size, and small copies to find it again by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import dctn

from model.imaging import ImageError, glance
from model.sources import ImageSource, SourceError

PROPERTIES = {  # what of a file may tell its label, in words
    "format": "file format",
    "suffix": "file suffix",
    "size": "picture size",
    "width": "picture width",
    "height": "picture height",
    "bytes_per_pixel": "bytes per pixel",
    "quantisation": "JPEG quantisation table",
    "subsampling": "JPEG chroma subsampling",
    "jpeg_sum": "strength of JPEG compression",
    "metadata": "kinds of metadata",
    "mode": "colour mode",
}
STATED = "original_"  # how columns of a manifest begin that describe the original of a file
HASH_SIDE = 16  # 256 bits: faces in one framing are too alike for the usual 64


def file_facts(
    sources: Iterable[ImageSource], labels: Sequence[int], *, step: Callable[[], object] | None = None
) -> pd.DataFrame:
    """Facts about files that say nothing of the faces in them.

    Parameters
    ----------
    step : callable, optional
        Called before each file; what it raises ends the work.

    Returns
    -------
    DataFrame
        One row per file that could be opened: `name`, `label`, `sha256`, `format`, `suffix`, `size` (W x H as text),
        `width`, `height`, `bytes`, `bytes_per_pixel`, `quantisation` and `subsampling` (JPEG only), `jpeg_sum` (of
        the luminance table: the larger, the stronger the compression; -1 for other formats), `metadata` (which kinds it
        carries), `mode`, `hash` (uint8 array of 32, perceptual) and `small` (float32 array of 256).
    """
    rows = []
    for source, label in zip(sources, labels, strict=True):
        if step is not None:
            step()
        try:
            data = source.read()
            rows.append({"name": source.name, "label": int(label)} | _facts_of(source.name, data))
        except (ImageError, SourceError, OSError):
            continue  # unreadable files are errors of the evaluation itself and are counted there
    columns = ["name", "label", "sha256", "format", "suffix", "size", "width", "height", "bytes", "bytes_per_pixel"]
    columns += ["quantisation", "subsampling", "jpeg_sum", "metadata", "mode", "hash", "small"]
    return pd.DataFrame(rows, columns=columns)


def stated_facts(frame: pd.DataFrame) -> pd.DataFrame:
    """What a manifest says of the originals that files were made from, in the words of `file_facts`.

    Parameters
    ----------
    frame : DataFrame
        As of a `LabelledSet`. Columns that begin with `original_` count: `original_width`, `original_height`,
        `original_format`, `original_jpeg_sum` (or `_qsum`) and so on, and any other by its own name.

    Returns
    -------
    DataFrame
        One row per image: `name`, `label`, `source`, and a column per property; numbers where all values are.
    """
    facts = frame[["name", "label", "source"]].copy()
    for column in frame:
        if not column.startswith(STATED):
            continue
        known = column.removeprefix(STATED).replace("jpeg_qsum", "jpeg_sum")
        values = frame[column].mask(frame[column].astype(str) == "")
        numbers = pd.to_numeric(values, errors="coerce")
        facts[known if known in PROPERTIES else column] = (
            numbers if numbers.notna().equals(values.notna()) else values.fillna("").astype(str)
        )
    return facts


def _facts_of(name: str, data: bytes) -> dict[str, Any]:
    seen = glance(data, HASH_SIDE * 8)
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "format": seen.format,
        "suffix": name.rpartition(".")[2].lower(),
        "size": f"{seen.width} x {seen.height}",
        "width": seen.width,
        "height": seen.height,
        "bytes": len(data),
        "bytes_per_pixel": len(data) / (seen.width * seen.height),
        "quantisation": seen.quantisation,
        "subsampling": seen.subsampling,
        "jpeg_sum": seen.jpeg_sum,
        "metadata": ", ".join(seen.metadata) or "none",
        "mode": seen.mode,
        "hash": perceptual_hash(seen.grey),
        "small": unit_copies(small_copy(seen.grey)[None])[0],
    }


def perceptual_hash(grey: Image.Image) -> np.ndarray:
    """Signs of the low frequencies of a picture (pHash, Zauner 2010) as 32 bytes; shape (32,), uint8.

    The 256 lowest coefficients of a discrete cosine transform of 64 x 64 pixels, compared with their median.
    """
    levels = np.asarray(grey.resize((64, 64), Image.Resampling.LANCZOS), dtype=np.float64)
    low = dctn(levels, norm="ortho")[:HASH_SIDE, :HASH_SIDE].ravel()
    return np.packbits(low > np.median(low[1:]))


def small_copy(grey: Image.Image) -> np.ndarray:
    """A picture of 16 x 16 pixels as uint8 of shape (256,)."""
    return np.asarray(grey.resize((16, 16), Image.Resampling.BOX)).ravel()


def unit_copies(small: np.ndarray) -> np.ndarray:
    """Small copies (N, 256) as float32 of zero mean and unit length: their products are correlations."""
    centred = small.astype(np.float32) - small.mean(axis=1, keepdims=True, dtype=np.float32)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
