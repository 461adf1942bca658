"""The work of background jobs: classify many images, and evaluate a labelled set. No Streamlit here."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image, ImageOps

from dashboard.jobs import Job
from model.dataset import LabelledSet
from model.detector import Detector, Readable
from model.imaging import FORMATS, Limits
from model.results import ImageResult, to_frame, write_csv
from model.sources import ImageSource

THUMBNAIL = 72  # px
MAX_THUMBNAILS = 5000
IMAGE_COLUMNS = (
    "name", "verdict", "p_fake", "reason", "code", "faces", "width", "height", "format", "bytes", "elapsed_ms"
)  # fmt: skip
_CHUNK = 256  # results turned into table rows at a time; evidence maps are dropped there


@dataclass
class BulkResult:
    """What a bulk run leaves behind.

    Attributes
    ----------
    faces : DataFrame
        One row per face, the columns of `model.results.COLUMNS`.
    images : DataFrame
        One row per image, in input order: the columns of `IMAGE_COLUMNS`.
    thumbnails : dict of int to str
        Small pictures as data addresses, by position of the source.
    sources : list
        In input order, to look at an image again.
    """

    faces: pd.DataFrame
    images: pd.DataFrame
    thumbnails: dict[int, str]
    sources: list[ImageSource]
    skipped: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class EvaluationResult:
    """What an evaluation leaves behind: predictions with labels, and the metrics with the audit in them."""

    bulk: BulkResult
    predictions: pd.DataFrame
    metrics: dict[str, Any]
    labelled: LabelledSet


class _Watched:
    """A source that keeps a thumbnail of what was read from it."""

    def __init__(self, source: ImageSource, index: int, thumbnails: dict[int, str]) -> None:
        self.name = source.name
        self._source = source
        self._index = index
        self._thumbnails = thumbnails

    def read(self) -> bytes:
        data = self._source.read()
        if len(self._thumbnails) < MAX_THUMBNAILS:
            picture = thumbnail(data)
            if picture is not None:
                self._thumbnails[self._index] = picture
        return data


def thumbnail(data: bytes, side: int = THUMBNAIL, *, crop: bool = True) -> str | None:
    """A small JPEG as a `data:` address, cropped to a square or kept whole.

    None when the bytes are not a readable image of acceptable size.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_openers()) as image:
            if image.width * image.height > Limits.max_pixels:
                return None
            image.draft("RGB", (side * 2, side * 2))  # JPEG: decode at a fraction of the size
            small = ImageOps.exif_transpose(image).convert("RGB")
            if crop:
                small = ImageOps.fit(small, (side, side), Image.Resampling.BILINEAR)
            else:
                small.thumbnail((side, side), Image.Resampling.BILINEAR)
    except Exception:  # noqa: BLE001 - a decoration; the detector reports what is wrong with the file
        return None
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


@lru_cache(maxsize=1)
def _openers() -> tuple[str, ...]:
    """The accepted formats that this installation of Pillow has an opener for (MPO opens as JPEG)."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def image_row(result: ImageResult) -> dict[str, object]:
    """The row of one image in the table of a bulk run."""
    return {
        "name": result.name,
        "verdict": result.verdict,
        "p_fake": result.p_fake,
        "reason": result.error or result.reason,
        "code": result.reason,
        "faces": len(result.faces),
        "width": result.width,
        "height": result.height,
        "format": result.format,
        "bytes": result.size_bytes,
        "elapsed_ms": result.elapsed_ms,
    }


def classify(
    job: Job, detector: Detector, sources: Iterable[ImageSource], *, batch_size: int, with_thumbnails: bool = True
) -> BulkResult:
    """Classify sources in order; stops early, with what it has, when the job is cancelled."""
    job.stage = "Classifying"
    kept = list(sources)
    thumbnails: dict[int, str] = {}
    frames: list[pd.DataFrame] = []
    rows: list[dict[str, object]] = []
    chunk: list[ImageResult] = []

    def until_cancelled() -> Iterator[Readable]:
        for index, source in enumerate(kept):
            if job.cancelled:
                return
            yield _Watched(source, index, thumbnails) if with_thumbnails else source

    for result in detector.classify_many(until_cancelled(), batch_size=batch_size):
        chunk.append(result)
        rows.append(image_row(result))
        job.advance(**{"errors" if result.error else result.verdict: 1})
        if len(chunk) >= _CHUNK:
            frames.append(to_frame(chunk))
            chunk = []
    frames.append(to_frame(chunk))
    faces = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    images = pd.DataFrame(rows, columns=list(IMAGE_COLUMNS))
    images["p_fake"] = images["p_fake"].astype("float64")
    return BulkResult(faces, images, thumbnails, kept)


def evaluate(job: Job, detector: Detector, labelled: LabelledSet, *, batch_size: int) -> EvaluationResult | None:
    """Classify a labelled set, then compute its metrics and its audit; None when cancelled."""
    from dashboard.evaluation import measure  # scikit-learn and scipy: slow to import, needed only here

    bulk = classify(job, detector, labelled.sources, batch_size=batch_size, with_thumbnails=False)
    bulk.skipped = labelled.skipped
    if job.cancelled:  # figures on part of a set, in its order, would mislead
        return None
    job.stage = "Computing figures and intervals, auditing the set"
    measured = measure(labelled, labelled.attach(bulk.faces))
    return EvaluationResult(bulk, measured.predictions, measured.metrics, labelled)


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """A table as CSV for people and spreadsheets."""
    return (write_csv(frame) or "").encode()


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """A table as Parquet."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def json_bytes(content: object) -> bytes:
    """JSON for downloads, readable by every parser: no NaN."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).encode()


def read_again(result: BulkResult, index: int) -> tuple[str, bytes]:
    """Name and bytes of an image of a run.

    Raises
    ------
    model.sources.SourceError, OSError
        If the file is gone.
    """
    source = result.sources[index]
    return Path(source.name).name, source.read()


def report_bytes(result: EvaluationResult) -> bytes:
    """The evaluation as one self-contained HTML file."""
    from dashboard.report import render

    return render(result.metrics, result.predictions).encode()
