"""Chosen images of a run as one ZIP file for whoever works on the case. No Streamlit here.

    results.csv              every row of the chosen images, and which file of the archive is theirs
    pictures/000001.jpg      the original files, numbered in the order on the screen
    reports/000001.html      the one-page report on each
    left_out.txt             what is not in it, and why; only if there is any

Names that visitors gave stand in the table and in the list alone, never in a path.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

import pandas as pd

from dashboard.examination import Picture, examine
from dashboard.report.image_report import shown
from dashboard.tasks import BulkResult, csv_bytes, read_again
from model.detector import Detector
from model.sources import SourceError

MAX_REPORTS = 100  # each takes about a second
MAX_PICTURES = 2000
MAX_BYTES = 500 * 2**20  # of pictures: a browser's download is held in memory
_SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "AVIF": "avif", "HEIF": "heic"}
_SUFFIXES |= {"TIFF": "tif", "BMP": "bmp", "GIF": "gif"}
_DATE = (1980, 1, 1, 0, 0, 0)  # the same choice gives the same archive


@dataclass
class Contents:
    """What an export holds.

    Attributes
    ----------
    left_out : list of (str, str)
        Names of pictures that are not in it, and why.
    unreported : int
        Pictures that are in it without a report, because there are more than `MAX_REPORTS`.
    """

    pictures: int = 0
    reports: int = 0
    unreported: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)


def write(
    file: IO[bytes],
    result: BulkResult,
    chosen: pd.DataFrame,
    *,
    detector: Detector | None = None,
    progress: Callable[[int], object] | None = None,
) -> Contents:
    """Write an export.

    A picture that cannot be read any more, or is not the one that was judged, is left out; it does not stop the rest.

    Parameters
    ----------
    file : binary file
        Written piece by piece; one picture at a time is in memory.
    chosen : DataFrame
        Rows of `dashboard.review.Review.frame`, in the order in which they are numbered.
    detector : Detector, optional
        That of the run; without it there are no reports.
    progress : callable, optional
        Called with the number of pictures that are done.
    """
    contents = Contents()
    places: dict[str, tuple[str, str]] = {}
    size = 0
    with zipfile.ZipFile(file, "w") as archive:
        for number, row in enumerate(chosen.itertuples(), start=1):
            name, picture, report = str(row.name), "", ""
            try:
                if contents.pictures >= MAX_PICTURES or size + int(row.bytes) > MAX_BYTES:
                    raise SourceError(f"an export holds {MAX_PICTURES:,} pictures and {MAX_BYTES >> 20} MB at most")
                data = _original(result, row)
                size += len(data)
                picture = f"pictures/{number:06}.{_SUFFIXES.get(str(row.format), 'bin')}"
                archive.writestr(zipfile.ZipInfo(picture, _DATE), data)
                contents.pictures += 1
                if detector is not None and contents.reports < MAX_REPORTS:
                    page = _report(detector, Picture(name, data, str(row.sha256)))
                    report = f"reports/{number:06}.html"
                    _deflate(archive, report, page)
                    contents.reports += 1
                elif detector is not None:
                    contents.unreported += 1
            except SourceError as error:
                contents.left_out.append((name, str(error).removeprefix(f"{name}: ")))
            places[name] = (picture, report)
            if progress is not None:
                progress(number)
        _deflate(archive, "results.csv", csv_bytes(_rows(result.faces, places)))
        if contents.left_out or contents.unreported:
            _deflate(archive, "left_out.txt", _left_out(contents).encode())
    return contents


def _original(result: BulkResult, row: Any) -> bytes:
    """The file that was judged; `SourceError` if it is not there any more."""
    try:
        return read_again(result, int(row.position))[1]
    except SourceError:
        raise
    except Exception as error:  # noqa: BLE001 - one picture must never stop the rest
        raise SourceError(f"it could not be read ({type(error).__name__})") from error


def _report(detector: Detector, picture: Picture) -> bytes:
    """The page on a picture; `SourceError` if it cannot be made."""
    try:
        return examine(detector, picture).report("html", sealed=False)
    except Exception as error:  # noqa: BLE001 - as above
        raise SourceError(f"its report could not be made ({type(error).__name__}); the picture is here") from error


def _rows(faces: pd.DataFrame, places: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """The rows of the chosen images, in their order, with their files in front."""
    number = faces["path"].map({name: number for number, name in enumerate(places)})
    rows = faces.assign(_number=number).dropna(subset="_number").sort_values("_number", kind="stable")
    rows = rows.drop(columns="_number").reset_index(drop=True)
    rows.insert(0, "picture", [places[name][0] for name in rows["path"]])
    rows.insert(1, "report", [places[name][1] for name in rows["path"]])
    return rows


def _left_out(contents: Contents) -> str:
    lines = [f"{shown(name, 200)}: {shown(reason, 300)}" for name, reason in contents.left_out]
    if contents.unreported:
        lines.append(f"{contents.unreported:,} more pictures have no report: an export holds {MAX_REPORTS} at most.")
    return "\n".join(lines) + "\n"


def _deflate(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _DATE), data, zipfile.ZIP_DEFLATED)
