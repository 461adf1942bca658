"""The report on one picture: a page of A4 for whoever has to judge a case, as HTML and as PDF.

Both say the same: `image_report` collects what is on the page, `html` and `pdf` set it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from dashboard import words
from dashboard.charts import LIGHT, ledger_frame
from dashboard.overlay import boxed, cell_limit, overlay
from model.detector import Detector
from model.imaging import ImageError, decode
from model.packet import environment, plain_name, without_folders
from model.redelivery import Redelivered, holds
from model.results import FaceResult, ImageResult
from model.typical import Typical

PICTURE_SIDE = 900  # px; 58 mm on paper
CANNOT_SAY = (
    "Whether the person, the place or the event is real, or who made the picture, when and how.",
    "Whether a part was edited: face swaps and retouching were not trained as AI-generated, and the map shows what "
    "moved this score, not where a picture was changed.",
    "Anything certain about generators and cameras unlike those it was trained and tested on, or about groups of "
    "people: error rates by age, gender and skin tone are not known.",
    "How likely this picture is to be AI-generated in your case: that also depends on how common such pictures are "
    "where it was found. An error rate is of the pictures that it was measured on.",
)
PACKET_NOTE = (
    "The digest is the SHA-256 of the evidence packet, which holds the original and all numbers. If the packet in hand "
    "has this digest, it is the one that this page was printed with. A hash does not say who made it, or when."
)


@dataclass(frozen=True)
class LedgerLine:
    """One row of the ledger.

    Attributes
    ----------
    log_odds : float
        Positive toward AI-generated.
    reach : float
        Length of its bar in [0, 1], of the longest one.
    area : float or None
        Share of the crop; None for the bias.
    usual : str
        Between which log-odds nine in ten real faces lie; empty where that was not measured.
    """

    region: str
    log_odds: float
    reach: float
    area: float | None
    usual: str = ""


@dataclass(frozen=True)
class Stability:
    """What became of the score when the same picture was passed on in other ways.

    Attributes
    ----------
    summary : str
        One sentence, such as "The verdict holds in 7 of 8."
    rows : sequence of (str, float or None, str)
        Name of the delivery, p_fake, verdict.
    """

    summary: str
    rows: Sequence[tuple[str, float | None, str]] = ()


@dataclass(frozen=True)
class ImageReport:
    """All that is on the page, in words and pictures.

    Attributes
    ----------
    picture : bytes or None
        JPEG with face boxes; None when the file is not a readable image.
    crop, evidence, legend : bytes or None
        PNG; None when no face was examined.
    error_rate : str
        Under `error_heading`; empty for a file that is not a readable image.
    facts : sequence of (str, str)
        Names and values of file, detector and versions.
    digest : str or None
        Of the evidence packet.
    """

    title: str
    name: str
    created: str
    verdict: str
    colour: str
    probability: str
    statement: str
    error_heading: str
    error_rate: str
    thresholds: str
    picture: bytes | None = None
    crop: bytes | None = None
    evidence: bytes | None = None
    legend: bytes | None = None
    scale: str = ""
    faces: str = ""
    ledger: Sequence[LedgerLine] = ()
    ledger_sum: str = ""
    stability: Stability | None = None
    remarks: Sequence[str] = ()
    cannot_say: Sequence[str] = CANNOT_SAY
    facts: Sequence[tuple[str, str]] = field(default=())
    digest: str | None = None

    @property
    def usual(self) -> bool:
        """Whether the ledger says what is usual."""
        return any(line.usual for line in self.ledger)


def image_report(
    detector: Detector,
    data: bytes,
    result: ImageResult,
    *,
    digest: str | None = None,
    created: str = "",
    usual: Typical | None = None,
    redelivered: Sequence[Redelivered] = (),
    remarks: Sequence[str] = (),
) -> ImageReport:
    """Collect the page on one judged picture; its deciding face is the one that is shown.

    Parameters
    ----------
    detector : Detector
        The one that judged it.
    data : bytes
        The original file.
    result : ImageResult
    digest : str, optional
        Of the evidence packet that goes with the page.
    created : str, optional
        Date and time to print; left out if empty, so that the same input gives the same page.
    usual : Typical, optional
        The usual ledger, to print beside the one of this face.
    redelivered : sequence of Redelivered, optional
        What became of the verdict when the picture was passed on.
    remarks : sequence of str, optional
        Sentences on the explanation, such as where the evidence lies and how faithful the map is.
    """
    look = words.VERDICTS[result.verdict]
    face = result.deciding
    crop, evidence, legend = (None, None, None) if face is None else _maps(detector, data, face)
    return ImageReport(
        title="Report on one picture",
        name=shown(plain_name(result.name)),
        created=created,
        verdict=look.title,
        colour=LIGHT.of(result.verdict),
        probability="" if result.p_fake is None else words.probability(result.p_fake, result.thresholds),
        statement=shown(_statement(result), 400),
        error_heading=words.error_heading(result.verdict),
        error_rate=""
        if result.error
        else words.stated_error_rates(detector.checkpoint, result.verdict, result.thresholds),
        thresholds=words.threshold_note(result.thresholds, result.p_fake),
        picture=_picture(data, result),
        crop=crop,
        evidence=evidence,
        legend=legend,
        scale="" if face is None else _scale(face),
        faces=_faces(result),
        ledger=() if face is None else ledger_lines(face, usual),
        ledger_sum="" if face is None else _sum(face),
        stability=_stability(redelivered) if redelivered else None,
        remarks=tuple(remarks),
        facts=_facts(detector, data, result),
        digest=digest,
    )


def ledger_lines(face: FaceResult, usual: Typical | None = None) -> tuple[LedgerLine, ...]:
    """The ledger of a face, row by row; the rows sum to the logit."""
    frame = ledger_frame(face.ledger, face.regions_share)
    bands = {} if usual is None else usual.real
    longest = float(frame["log_odds"].abs().max()) or 1.0
    return tuple(
        LedgerLine(
            str(row.region),
            float(row.log_odds),
            abs(float(row.log_odds)) / longest,
            None if np.isnan(row.area) else float(row.area),
            words.nine_in_ten(bands[row.name]) if row.name in bands else "",
        )
        for row in frame.itertuples()
    )


def shown(text: str, most: int = 70) -> str:
    r"""Text of unknown origin for a line on paper: nothing invisible or reordering, and not too long.

    >>> shown("photo\u202egpj.exe"), shown("a" * 80, 11)
    ('photo\\u202egpj.exe', 'aaaaa…aaaaa')
    """
    visible = "".join(
        character if unicodedata.category(character)[0] != "C" else ascii(character)[1:-1] for character in text
    )
    if len(visible) <= most:
        return visible
    half = (most - 1) // 2
    return f"{visible[:half]}…{visible[-half:]}"


def html(report: ImageReport) -> str:
    """The page as HTML that needs nothing else and prints on one sheet; write it as UTF-8."""
    return _templates.get_template("image_report.html.j2").render(
        report=report, note=PACKET_NOTE, footer=words.HONEST_USE
    )


def pdf(report: ImageReport) -> bytes:
    """The page as PDF of one sheet; the same report gives the same bytes."""
    from dashboard.report import _image_pdf  # reportlab takes a moment to import

    return _image_pdf.render(report, PACKET_NOTE, words.HONEST_USE)


def data_uri(picture: bytes) -> str:
    """A picture inside the page."""
    kind = "jpeg" if picture.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"data_uri": data_uri, "signed": words.signed, "percent": words.percent}
_templates.globals["verdicts"] = words.VERDICTS


def _statement(result: ImageResult) -> str:
    """The summary; an error names the file, whose folders are nobody's business."""
    said = words.summary(result)
    return without_folders(said, result.name) if result.error else said


def _picture(data: bytes, result: ImageResult) -> bytes | None:
    try:
        image = decode(data).pixels
    except ImageError:
        return None
    boxes, verdicts = [face.face.box for face in result.faces], [face.verdict for face in result.faces]
    return _encoded(boxed(image, boxes, verdicts, max_side=PICTURE_SIDE), "JPEG", quality=85)


def _maps(detector: Detector, data: bytes, face: FaceResult) -> tuple[bytes, bytes, bytes]:
    """Crop, evidence over it, and the colour scale on white."""
    assert face.evidence is not None
    crop = detector.crop(decode(data).pixels, face.face)
    limit = cell_limit(face.evidence.shape)
    ramp = np.linspace(-limit, limit, 240, dtype=np.float32)[None, :].repeat(240, axis=0)
    bar = overlay(Image.new("RGB", (240, 240), "white"), ramp, limit=limit, smooth=False)
    return (
        _encoded(crop, "PNG"),
        _encoded(overlay(crop, face.evidence), "PNG"),
        _encoded(bar.crop((0, 0, 240, 8)), "PNG"),
    )


def _encoded(picture: Image.Image, form: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.frombytes("RGB", picture.size, picture.tobytes()).save(buffer, form, **options)  # pixels only, no metadata
    return buffer.getvalue()


def _scale(face: FaceResult) -> str:
    assert face.evidence is not None
    rows, columns = face.evidence.shape
    limit = cell_limit(face.evidence.shape)
    return (
        "Blue speaks for a real photograph, orange for an AI-generated one. Full colour is "
        f"{limit:.2g} log-odds in one of {rows} × {columns} cells, the same for every picture; colourless is what is "
        "usual there."
    )


def _faces(result: ImageResult) -> str:
    if len(result.faces) < 2 or result.deciding_face is None:
        return ""
    others = [face.verdict for index, face in enumerate(result.faces) if index != result.deciding_face]
    counts = [f"{look.title} ({others.count(name)})" for name, look in words.VERDICTS.items() if name in others]
    return (
        f"{len(result.faces)} faces were found. Face {result.deciding_face + 1} has the highest score and decides; it "
        f"is the one shown here. The others: {', '.join(counts)}."
    )


def _sum(face: FaceResult) -> str:
    regions = sum(value for name, value in face.ledger.items() if name != "bias")
    bias, logit = face.ledger["bias"], face.logit or 0.0
    return (
        f"Regions {words.signed(regions, 3)} and usual face {words.signed(bias, 3)} make {words.signed(logit, 3)} "
        f"log-odds; calibrated, a probability of {words.percent(face.p_fake or 0.0)}."
    )


def _stability(redelivered: Sequence[Redelivered]) -> Stability:
    return Stability(holds(redelivered), [(entry.title, entry.p_fake, entry.verdict) for entry in redelivered])


def _facts(detector: Detector, data: bytes, result: ImageResult) -> tuple[tuple[str, str], ...]:
    here = environment(detector)
    versions = (("torch", "torch"), ("torchvision", "torchvision"), ("Pillow", "pillow"), ("NumPy", "numpy"))
    size = f"{result.width} × {result.height} px, " if result.width else ""
    facts = [
        ("File", f"{size}{result.format or 'unknown kind'}, {words.size(len(data))}"),
        ("SHA-256 of the file", result.sha256 or hashlib.sha256(data).hexdigest()),
        ("Checkpoint", f"{result.checkpoint} ({here['architecture']}), {result.runtime}"),
        ("SHA-256 of it", result.checkpoint_sha256),
        (
            "Versions",
            ", ".join(
                [f"Reality Check {result.version}", f"Python {here['python']}"]
                + [f"{title} {here['packages'][name]}" for title, name in versions]
            ),
        ),
    ]
    if result.notes:
        facts.insert(1, ("When decoded", shown("; ".join(result.notes), 160)))
    return tuple(facts)


__all__ = ["ImageReport", "LedgerLine", "Stability", "html", "image_report", "pdf"]
