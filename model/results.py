"""What the detector says of a face and of an image, and the table that outlives the process."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

import numpy as np

from model.calibration import NOT_APPLICABLE, Thresholds
from model.faces import Face
from model.regions import REGIONS

if TYPE_CHECKING:  # half a second to import, which one picture does without
    import pandas as pd

LEDGER_COLUMNS = tuple(f"ledger_{name}" for name in (*REGIONS, "bias"))
COLUMNS = (
    "path",
    "sha256",
    "bytes",
    "format",
    "width",
    "height",
    "face",
    "faces",
    "x0",
    "y0",
    "x1",
    "y1",
    "face_score",
    "logit",
    "p_fake",
    "verdict",
    "reason",
    "threshold_real",
    "threshold_fake",
    *LEDGER_COLUMNS,
    "checkpoint",
    "checkpoint_sha256",
    "runtime",
    "version",
    "elapsed_ms",
    "label",
    "source",
    "error",
)

TEXT_COLUMNS = (
    "path",
    "sha256",
    "format",
    "verdict",
    "reason",
    "checkpoint",
    "checkpoint_sha256",
    "runtime",
    "version",
    "source",
    "error",
)
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")


@dataclass(frozen=True)
class FaceResult:
    """The decision on one face.

    Attributes
    ----------
    crop_box : tuple of float
        x0, y0, x1, y1 of the examined square, in pixels of the upright image.
    logit, p_fake : float or None
        Log-odds before calibration, and the calibrated probability; None when the face was not examined.
    verdict, reason : str, str or None
        `reason` says why a verdict is `not_applicable`.
    evidence : ndarray of shape (H, W) or None
        Log-odds per cell; sums with `bias` to the logit.
    ledger : dict of str to float
        Log-odds per facial region and `bias`; sums to the logit. Empty when not examined.
    regions_share : dict of str to float
        Share of the crop's area per region; sums to one.
    mesh : ndarray of shape (468, 2) or None
        Points of the face in pixels of the crop that the network saw; None where regions come from five landmarks.
    """

    face: Face
    crop_box: tuple[float, float, float, float]
    verdict: str
    reason: str | None = None
    logit: float | None = None
    p_fake: float | None = None
    evidence: np.ndarray | None = None
    bias: float = 0.0
    ledger: dict[str, float] = field(default_factory=dict)
    regions_share: dict[str, float] = field(default_factory=dict)
    mesh: np.ndarray | None = None

    @property
    def regions_from(self) -> str | None:
        """What the regions were drawn from: `mesh`, or `landmarks`; None when the face was not examined."""
        if self.logit is None:
            return None
        return "landmarks" if self.mesh is None else "mesh"


@dataclass(frozen=True)
class ImageResult:
    """The decision on one image: that of its most fake face. Every face is kept.

    `error` is a message when the file could not be read as an image; `reason` is then its stable code.
    `elapsed_ms` is wall time for this image, its share of a batch included.
    """

    name: str
    verdict: str
    thresholds: Thresholds
    checkpoint: str
    checkpoint_sha256: str
    runtime: str
    version: str
    reason: str | None = None
    sha256: str = ""
    size_bytes: int = 0
    format: str = ""
    width: int = 0
    height: int = 0
    notes: tuple[str, ...] = ()
    faces: tuple[FaceResult, ...] = ()
    deciding_face: int | None = None
    elapsed_ms: float = 0.0
    error: str | None = None

    @property
    def deciding(self) -> FaceResult | None:
        """The face that decided, or None when no face was examined."""
        return None if self.deciding_face is None else self.faces[self.deciding_face]

    @property
    def logit(self) -> float | None:
        return self.deciding.logit if self.deciding else None

    @property
    def p_fake(self) -> float | None:
        return self.deciding.p_fake if self.deciding else None

    def rows(self) -> list[dict[str, object]]:
        """One row per face in the order of `COLUMNS`; one row when there is no face."""
        common: dict[str, object] = {
            "path": self.name,
            "sha256": self.sha256,
            "bytes": self.size_bytes,
            "format": self.format,
            "width": self.width,
            "height": self.height,
            "faces": len(self.faces),
            "threshold_real": self.thresholds.real,
            "threshold_fake": self.thresholds.fake,
            "checkpoint": self.checkpoint,
            "checkpoint_sha256": self.checkpoint_sha256,
            "runtime": self.runtime,
            "version": self.version,
            "elapsed_ms": round(self.elapsed_ms, 2),
            "error": self.error,
        }
        if not self.faces:
            row = common | {"verdict": self.verdict, "reason": self.reason}
            return [{name: row.get(name) for name in COLUMNS}]
        rows = []
        for index, result in enumerate(self.faces):
            box = dict(zip(("x0", "y0", "x1", "y1"), (round(value, 2) for value in result.face.box), strict=True))
            entries = {f"ledger_{name}": value for name, value in result.ledger.items()}
            row = common | box | entries
            row |= {"face": index, "face_score": result.face.score, "logit": result.logit, "p_fake": result.p_fake}
            row |= {"verdict": result.verdict, "reason": result.reason}
            rows.append({name: row.get(name) for name in COLUMNS})
        return rows

    def to_dict(self) -> dict[str, object]:
        """JSON-able account of the image: the columns of the deciding row, and all faces."""
        rows = self.rows()
        best = self.deciding_face or 0
        summary = dict(rows[best])
        summary |= {"verdict": self.verdict, "reason": self.reason, "notes": list(self.notes)}
        summary["threshold_fpr"] = self.thresholds.fpr
        summary["threshold_custom"] = self.thresholds.custom
        keys = ("face", "x0", "y0", "x1", "y1", "face_score", "logit", "p_fake", "verdict", "reason", *LEDGER_COLUMNS)
        summary["face_results"] = [
            {name: row[name] for name in keys}
            | {"landmarks": result.face.landmarks, "crop_box": result.crop_box, "regions_from": result.regions_from}
            for row, result in zip(rows, self.faces, strict=False)
        ]
        return summary


def to_frame(results: Iterable[ImageResult]) -> pd.DataFrame:
    """Results as a table with exactly `COLUMNS`, one row per face, in the order given."""
    return rows_to_frame(row for result in results for row in result.rows())


def rows_to_frame(rows: Iterable[dict[str, object]]) -> pd.DataFrame:
    """Rows as made by `ImageResult.rows`, as a table with exactly `COLUMNS` and their types."""
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    whole = ("bytes", "width", "height", "face", "faces", "label")
    for name in COLUMNS:
        if name in TEXT_COLUMNS:
            frame[name] = frame[name].astype("string")
        elif name in whole:
            frame[name] = frame[name].astype("Int64")
        else:
            frame[name] = frame[name].astype("float64")
    return frame


def guard_text(text: str) -> str:
    """Text that a spreadsheet shows instead of running it as a formula.

    An apostrophe goes before a leading `=`, `+`, `-`, `@`, tab or line break (OWASP, "CSV injection"); `unguard_text`
    takes it away again.

    >>> [guard_text(text) for text in ("=1+1", "a=1", "'=1")]
    ["'=1+1", 'a=1', "''=1"]
    """
    return "'" + text if _FORMULA.match(text) else text


def unguard_text(text: str) -> str:
    """The text that `guard_text` was given.

    >>> unguard_text(guard_text("=1+1"))
    '=1+1'
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def write_csv(
    frame: pd.DataFrame, target: str | os.PathLike[str] | IO[str] | None = None, *, header: bool = True
) -> str | None:
    """Write any table for people and spreadsheets: UTF-8, one line feed per line, text guarded by `guard_text`.

    Parameters
    ----------
    target : path or text file, optional
        None returns the text instead.
    """
    import pandas as pd

    guarded = frame.rename(columns=lambda name: guard_text(str(name)))
    for position, kind in enumerate(frame.dtypes):
        if not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_datetime64_any_dtype(kind)):
            column = frame.iloc[:, position]
            guarded.isetitem(position, column.map(lambda cell: guard_text(cell) if isinstance(cell, str) else cell))
    return guarded.to_csv(target, index=False, header=header, lineterminator="\n", encoding="utf-8")


def write_parquet(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write any table for programs, with its types; text is left as it is."""
    frame.to_parquet(path, index=False)


def not_applicable(face: Face, crop_box: tuple[float, float, float, float], reason: str) -> FaceResult:
    """A face that was found but not examined."""
    return FaceResult(face, crop_box, NOT_APPLICABLE, reason)
