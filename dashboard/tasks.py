"""The work of background jobs: classify many images, and evaluate a labelled set. No Streamlit here.

All that a run needs lies in its folder, so that a new run and an interrupted one are worked on in the same way:

    inputs.parquet           name, place and archive member of every image, in order
    inputs.json              what was left out; for an evaluation, what each folder was taken to mean
    labels.parquet           of an evaluation: one row per image
    predictions.parquet.journal   while it goes on: `model.bulk`
    predictions.parquet      one row per face; of an evaluation with labels
    metrics.json             of an evaluation
    thumbnails.parquet       small pictures of the first images
    fingerprints.parquet     of a bulk run: what tells nearly the same pictures; `dashboard.alike`
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa
from PIL import Image, ImageOps

from dashboard.alike import Fingerprints
from dashboard.intake import IntakeError, allowed
from dashboard.jobs import Job, JobError
from dashboard.reuse import known_rows
from dashboard.settings import Settings
from dashboard.store import BULK, DONE, EVALUATION, Run, StoreError, write_atomically
from model import bulk
from model.calibration import NOT_APPLICABLE
from model.checkpoint import training_hashes
from model.dataset import LabelledSet
from model.detector import Detector, Readable
from model.imaging import ImageError, miniature
from model.results import ImageResult, write_csv
from model.sandbox import SandboxError
from model.sources import Archive, ImageSource, Source, SourceError, SourceSet
from model.tiers import tier

THUMBNAIL = 72  # px
LOOK = 160  # px of the longer side of what thumbnails and fingerprints are made from
MAX_THUMBNAILS = 5000
IMAGE_COLUMNS = (
    "name", "sha256", "verdict", "p_fake", "reason", "code", "error", "faces", "width", "height", "format", "bytes",
    "elapsed_ms",
)  # fmt: skip


@dataclass
class BulkResult:
    """What a run leaves behind.

    Attributes
    ----------
    faces : DataFrame
        One row per face, the columns of `model.results.COLUMNS`; of an evaluation with its labels.
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

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the images as they were judged, by name; none or '' for one that could not be read."""
        return dict(self.images[["name", "sha256"]].dropna().itertuples(index=False, name=None))


class ChangedError(SourceError):
    """A file that is not the one that was judged any more."""


@dataclass
class EvaluationResult:
    """What an evaluation leaves behind: predictions with labels, and the metrics with the audit in them."""

    bulk: BulkResult
    predictions: pd.DataFrame
    metrics: dict[str, Any]
    labelled: LabelledSet


def recipe(detector: Detector, settings: Settings, *, delivery: str = "clean") -> dict[str, Any]:
    """What a run's result depends on beside its images and its checkpoint, as `Run.settings` keeps it.

    Parameters
    ----------
    delivery : str
        Evaluation tier (`model.tiers`) as which the images are judged.
    """
    return {
        "thresholds": asdict(detector.thresholds),
        "runtime": detector.runtime.removesuffix(f"-{detector.precision}"),
        "precision": detector.precision,
        "tier": delivery,
        "batch_size": settings.batch_size,
    }


def keep_inputs(run: Run, inputs: SourceSet | LabelledSet) -> None:
    """Write down what a run is about, the list of images last: with it the run can begin.

    Files in the run's own folder are noted by their place in it, others by their full path.
    """
    about: dict[str, Any] = {"skipped": inputs.skipped}
    if isinstance(inputs, LabelledSet):
        about["folders"] = inputs.folders.to_dict("list")
        write_atomically(run.folder / "labels.parquet", parquet_bytes(inputs.frame))
    rows = []
    for source in inputs.sources:
        if not isinstance(source, Source):
            raise TypeError(f"{source.name}: only images in files can be kept")
        place = source.location.absolute()
        inside = place.is_relative_to(run.folder.absolute())
        shown = place.relative_to(run.folder.absolute()) if inside else place
        rows.append((source.name, os.fsencode(shown), source.member))  # bytes: a name on a disk may be no Unicode
    write_atomically(run.folder / "inputs.json", json_bytes(about))
    frame = pd.DataFrame(rows, columns=["name", "location", "member"])
    write_atomically(run.folder / "inputs.parquet", parquet_bytes(frame))


def load_inputs(run: Run, settings: Settings) -> SourceSet | LabelledSet:
    """What a run is about, as it was when it was handed in.

    Images on the server can be read only as long as their place is open to visitors.

    Raises
    ------
    StoreError
        If the upload was not complete, or the lists are damaged.
    """
    if not (run.folder / "inputs.parquet").is_file():
        raise StoreError("The server stopped before all pictures were handed in. Delete this run and begin anew.")
    try:
        frame = pd.read_parquet(run.folder / "inputs.parquet")
        about = json.loads((run.folder / "inputs.json").read_text("utf-8"))
        skipped = [(str(name), str(reason)) for name, reason in about["skipped"]]
        sources = _sources(run, frame, is_open=_is_open(run, settings))
        if run.kind != EVALUATION:
            return SourceSet(sources, skipped)
        labels = pd.read_parquet(run.folder / "labels.parquet")
        return LabelledSet(sources, labels, pd.DataFrame(about["folders"]), skipped)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise StoreError(f"This run is damaged: its list of pictures cannot be read ({error}).") from error


def _is_open(run: Run, settings: Settings) -> bool:
    if run.origin is None:
        return True
    try:
        allowed(Path(run.origin), settings)
    except IntakeError:
        return False
    return True


def _sources(run: Run, frame: pd.DataFrame, *, is_open: bool) -> list[ImageSource]:
    @cache
    def archive(location: Path) -> Archive:
        return Archive(location)

    found: list[ImageSource] = []
    for name, location, member in frame[["name", "location", "member"]].itertuples(index=False):
        place = run.folder / os.fsdecode(location)  # a full path stays what it is; older runs kept text
        if not is_open:
            found.append(_Closed(name))
        elif pd.isna(member):
            found.append(Source(name, place))
        else:
            found.append(Source(name, place, member, archive(place)))
    return found


@dataclass(frozen=True)
class _Closed:
    """An image in a folder that visitors may no longer look into."""

    name: str

    def read(self, max_bytes: int = 0) -> bytes:
        raise SourceError(f"{self.name}: its folder on the server is not open to visitors any more.")


class _Watched:
    """A source that keeps a thumbnail and, where they are wanted, a fingerprint of what was read from it."""

    def __init__(
        self, source: ImageSource, index: int, thumbnails: dict[int, str], fingerprints: Fingerprints | None
    ) -> None:
        self.name = source.name
        self._source = source
        self._index = index
        self._thumbnails = thumbnails
        self._fingerprints = fingerprints

    def read(self) -> bytes:
        data = self._source.read()
        shown = self._index >= MAX_THUMBNAILS or self._index in self._thumbnails
        told = self._fingerprints is None or bool(self._fingerprints.known[self._index])
        if not (shown and told):
            with suppress(ImageError, SandboxError):  # the detector reports what is wrong
                small = miniature(data, LOOK, crop=False)
                if not shown:
                    self._thumbnails[self._index] = _address(ImageOps.fit(small, (THUMBNAIL, THUMBNAIL)))
                if self._fingerprints is not None and not told:
                    self._fingerprints.note(self._index, small)
        return data


@dataclass(frozen=True)
class Judged:
    """One of the images that a run has judged last; `picture` is its thumbnail as a data address."""

    name: str
    verdict: str
    p_fake: float | None
    error: str | None
    picture: str | None


class _Reporting:
    """A detector that tells a job of every result once it is in the journal, and sees images as a tier brings them."""

    def __init__(self, detector: Detector, job: Job, delivery: str, picture_of: Callable[[str], str | None]) -> None:
        self.checkpoint, self.thresholds, self.runtime = detector.checkpoint, detector.thresholds, detector.runtime
        self._detector = detector
        self._job = job
        self._picture_of = picture_of
        self._transform = None if delivery == "clean" else partial(tier, name=delivery)

    def classify_many(self, sources: Sequence[Readable], *, batch_size: int) -> Iterator[ImageResult]:
        self._job.stage = "Classifying"
        for result in self._detector.classify_many(sources, batch_size=batch_size, transform=self._transform):
            yield result
            p_fake = None if result.deciding is None else result.deciding.p_fake
            shown = Judged(result.name, result.verdict, p_fake, result.error, self._picture_of(result.name))
            self._job.advance(shown, **{"errors" if result.error else result.verdict: 1})


def perform(
    job: Job, run: Run, detector: Callable[[], Detector], settings: Settings, *, earlier: Sequence[Path] = ()
) -> str:
    """Work on a run, from its beginning or from where an earlier attempt was stopped; returns the digest of its images.

    The table comes out the same in one attempt or in many, `elapsed_ms` aside.

    Parameters
    ----------
    detector : callable
        Gives the detector that the run began with, or raises `JobError`; asked where images are left to judge.
    earlier : sequence of Path
        Tables of finished runs, from which results of the same files may be taken over.

    Raises
    ------
    dashboard.jobs.JobError
        If it cannot be done. What was judged is kept, so that it can be continued.
    dashboard.jobs.Stopped
        If the job was asked to stop.
    """
    try:
        inputs = load_inputs(run, settings)
        if not _is_open(run, settings):
            raise JobError("The folder of this run is not open to visitors any more.")
        classify(job, run, detector, inputs.sources, earlier=earlier)
        if isinstance(inputs, LabelledSet):
            _measure(job, run, inputs, detector)
        return data_digest(pd.read_parquet(run.table, columns=["path", "sha256"]))
    except StoreError as error:
        raise JobError(str(error)) from error
    except SandboxError as error:
        raise JobError(f"{error} What was judged is kept: the run can be continued.") from error
    except OSError as error:
        raise JobError(
            f"The results cannot be written ({error.strerror or error}). What was judged is kept: the run can be "
            "continued when that is mended."
        ) from error


def classify(
    job: Job,
    run: Run,
    detector: Callable[[], Detector],
    sources: Sequence[ImageSource],
    *,
    earlier: Sequence[Path] = (),
) -> None:
    """Judge the images of a run into its table, from where its journal ends; a whole table stays as it is."""
    job.stage = "Looking for what is done"
    if run.table.exists() and not bulk.interrupted(run.table):
        images = images_of(pd.read_parquet(run.table))
        if images["name"].tolist() == [source.name for source in sources]:  # whole, by whatever version made it
            job.begin(len(images), **_counts(images))
            return
    thumbnails = load_thumbnails(run)
    fingerprints = Fingerprints.load(run.folder, len(sources)) if run.kind == BULK else None
    watched = [_Watched(source, index, thumbnails, fingerprints) for index, source in enumerate(sources)]
    size = int(run.settings["batch_size"])
    images = images_of(bulk.journalled(run.table, batch_size=size))
    images = images[images["sha256"].fillna("") != ""]  # others are tried again
    job.begin(len(images), **_counts(images))
    places = {source.name: index for index, source in enumerate(sources)}
    reporting = cast(
        Detector,
        _Reporting(detector(), job, str(run.settings["tier"]), lambda name: thumbnails.get(places[name])),
    )
    known = partial(_known, job, run, earlier, bulk.identity(reporting)) if earlier else None
    try:
        summary = bulk.run(reporting, watched, run.table, resume=True, batch_size=size, known=known, step=job.rest)
    except bulk.BulkError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from error
        raise JobError(str(error).replace(str(run.table), "this run")) from error
    finally:
        keep_thumbnails(run, thumbnails)
        if fingerprints is not None:
            with suppress(OSError):  # nor must these
                fingerprints.save(run.folder)
    images = images_of(pd.read_parquet(run.table))
    job.begin(len(images), **_counts(images))
    job.known = summary.known


def _known(
    job: Job, run: Run, earlier: Sequence[Path], identity: Mapping[str, Any], left: Sequence[Readable]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """What earlier runs say of the images that are left, asked by `bulk.run` before it judges the first."""
    job.stage = "Looking for what was judged before"
    try:
        yield from known_rows(earlier, left, identity, step=job.rest)
    finally:
        images = images_of(bulk.journalled(run.table))  # nothing but what was taken over so far
        job.begin(len(images), **_counts(images))
        job.known = len(images)


def _measure(job: Job, run: Run, labelled: LabelledSet, detector: Callable[[], Detector]) -> None:
    """Put the labels into the table of an evaluation, then compute its figures and its audit."""
    from dashboard.evaluation import json_text, measure  # scikit-learn and scipy: slow to import, needed only here

    job.check()
    job.stage = "Computing figures and intervals, auditing the set"
    predictions = labelled.attach(pd.read_parquet(run.table))
    training = None
    with suppress(JobError):  # the checkpoint may be gone: nothing is said then of what it was trained on
        training = training_hashes(detector().checkpoint)
    measured = measure(
        labelled,
        predictions,
        delivery=str(run.settings["tier"]),
        training=training,
        step=job.rest,
    )
    write_atomically(run.table, parquet_bytes(measured.predictions))
    write_atomically(run.metrics, json_text(measured.metrics).encode())


def load_result(run: Run, settings: Settings) -> BulkResult | EvaluationResult | None:
    """What a run has, finished or not; None when there is nothing to show.

    Of an evaluation that did not finish there is nothing: figures on part of a set, in its order, would mislead.

    Raises
    ------
    StoreError
        If the run is damaged.
    """
    finished = run.state == DONE
    if not finished and run.kind == EVALUATION:
        return None
    try:
        faces = pd.read_parquet(run.table) if run.table.exists() else bulk.journalled(run.table)
        if faces.empty and not finished:
            return None
        inputs = load_inputs(run, settings)
        result = BulkResult(faces, images_of(faces), load_thumbnails(run), inputs.sources, inputs.skipped)
        if not isinstance(inputs, LabelledSet):
            return result
        return EvaluationResult(result, faces, json.loads(run.metrics.read_text("utf-8")), inputs)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise StoreError(f"This run is damaged: its results cannot be read ({error}).") from error


def images_of(faces: pd.DataFrame) -> pd.DataFrame:
    """One row per image (`IMAGE_COLUMNS`) of a table with one row per face: that of its most fake face."""
    image, _ = pd.factorize(faces["path"])
    most_fake = faces["logit"].fillna(float("-inf")).groupby(image).idxmax()
    deciding = faces.loc[most_fake].reset_index(drop=True)
    text = deciding.astype(object).where(deciding.notna(), None)
    out = pd.DataFrame(
        {
            "name": text["path"],
            "sha256": text["sha256"],
            "verdict": deciding["verdict"].astype(object).where(deciding["logit"].notna(), NOT_APPLICABLE),
            "p_fake": deciding["p_fake"].astype("float64"),
            "reason": text["error"].where(text["error"].notna(), text["reason"]),
            "code": text["reason"],
            "error": text["error"],
            "faces": deciding["faces"].astype("int64"),
            "width": deciding["width"].astype("int64"),
            "height": deciding["height"].astype("int64"),
            "format": text["format"],
            "bytes": deciding["bytes"].astype("int64"),
            "elapsed_ms": deciding["elapsed_ms"].astype("float64"),
        }
    )
    return out[list(IMAGE_COLUMNS)]


def broken(images: pd.DataFrame) -> pd.Series:
    """Which of `images_of` could not be judged for an error, of the file or in the work; a boolean for each."""
    return images["error"].notna()


def _counts(images: pd.DataFrame) -> Counter[str]:
    return Counter(images["verdict"].mask(broken(images), "errors").tolist())


def data_digest(table: pd.DataFrame) -> str:
    """SHA-256 over name and SHA-256 of every image, in order."""
    lines = (f"{digest} {name}\n" for name, digest in table.drop_duplicates("path").itertuples(index=False))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def labels_of(run: Run) -> list[int]:
    """Labels of the images of an evaluation, in order; none where they cannot be read."""
    try:
        return pd.read_parquet(run.folder / "labels.parquet", columns=["label"])["label"].tolist()
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return []


def load_thumbnails(run: Run) -> dict[int, str]:
    """Small pictures that were kept; none if they are damaged, as they are only a decoration."""
    try:
        frame = pd.read_parquet(run.folder / "thumbnails.parquet")
        return dict(zip(frame["position"].astype(int).tolist(), frame["picture"].tolist(), strict=True))
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return {}


def keep_thumbnails(run: Run, thumbnails: dict[int, str]) -> None:
    """Write small pictures as data addresses, by position of their image."""
    frame = pd.DataFrame({"position": list(thumbnails), "picture": list(thumbnails.values())})
    with suppress(OSError):  # a decoration must not be what a run fails for
        write_atomically(run.folder / "thumbnails.parquet", parquet_bytes(frame))


def thumbnail(data: bytes, side: int = THUMBNAIL, *, crop: bool = True) -> str | None:
    """A small JPEG as a `data:` address, cropped to a square or kept whole.

    None when the bytes are not a readable image of acceptable size.
    """
    try:
        small = miniature(data, side, crop=crop)
    except (ImageError, SandboxError):  # a decoration; the detector reports what is wrong
        return None
    return _address(small)


def _address(small: Image.Image) -> str:
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


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
    """Name and bytes of an image of a run, which are those that were judged.

    Raises
    ------
    ChangedError
        If the file has other content now.
    model.sources.SourceError, OSError
        If the file is gone.
    """
    source = result.sources[index]
    data, judged = source.read(), result.digests.get(source.name)
    if judged and hashlib.sha256(data).hexdigest() != judged:
        raise ChangedError(f"{source.name}: this file has changed since it was judged.")
    return Path(source.name).name, data


def report_bytes(result: EvaluationResult) -> bytes:
    """The evaluation as one self-contained HTML file."""
    from dashboard.report import render

    return render(result.metrics, result.predictions).encode()
