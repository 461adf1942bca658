"""One picture, judged, with what a page needs to show why, and what is asked of it later."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from dashboard import words
from dashboard.overlay import boxed, overlay
from model import packet, typical
from model.checkpoint import CheckpointError
from model.detector import Detector
from model.faithfulness import Faithfulness, assess, margin, whereabouts
from model.imaging import ImageError, decode
from model.redelivery import Redelivered, redeliver
from model.results import FaceResult, ImageResult
from model.sandbox import SandboxError
from model.typical import Typical
from model.what_if import WithoutRegion, without_regions

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """A picture as it was handed in."""

    name: str
    data: bytes
    sha256: str


@dataclass(frozen=True)
class Examination:
    """A judged picture.

    What takes longer than judging is computed when it is first asked for, and kept.

    Attributes
    ----------
    preview : PIL.Image.Image or None
        The picture with numbered face boxes, scaled for the screen; None when the file is not a readable image.
    crops : tuple
        Per face, the square that the network saw; None for a face that was not examined.
    """

    picture: Picture
    result: ImageResult
    preview: Image.Image | None
    crops: tuple[Image.Image | None, ...]
    detector: Detector
    _kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def regions(self, index: int) -> Mapping[str, np.ndarray]:
        """Masks of the facial regions of an examined face's crop."""
        return self._once(f"regions {index}", lambda: self.detector.regions(self.result.faces[index]))

    @property
    def usual(self) -> Typical | None:
        """The usual ledger of the checkpoint; None where none was measured with its weights, or its file is damaged."""

        def read() -> Typical | None:
            try:
                return typical.load(self.detector.checkpoint)
            except CheckpointError:  # a verdict does not hang on it
                _log.exception("the usual ledger of a checkpoint cannot be used")
                return None

        return self._once("usual", read)

    def redelivered(self, progress: Callable[[int, str], object] | None = None) -> tuple[Redelivered, ...]:
        """The picture judged again after each of the eight deliveries.

        Parameters
        ----------
        progress : callable, optional
            Called with the number of deliveries that are done, and the title of the last one.
        """

        def judged() -> tuple[Redelivered, ...]:
            done = []
            for entry in redeliver(self.detector, self.picture.data, self.result):
                done.append(entry)
                if progress is not None:
                    progress(len(done), entry.title)
            return tuple(done)

        return self._once("redelivered", judged)

    def faithfulness(self, index: int) -> Faithfulness:
        """How far the evidence map of an examined face can be trusted."""
        crop = self.crops[index]
        assert crop is not None
        return self._once(f"faithfulness {index}", lambda: assess(self.detector, crop))

    def without(self, index: int) -> tuple[WithoutRegion, ...]:
        """The score of an examined face with each of its regions filled in."""
        crop, face = self.crops[index], self.result.faces[index]
        assert crop is not None
        return self._once(f"without {index}", lambda: without_regions(self.detector, crop, face, self.regions(index)))

    def has(self, what: str, index: int | None = None) -> bool:
        """Whether `redelivered`, or `faithfulness` or `without` of a face, was computed already."""
        return (what if index is None else f"{what} {index}") in self._kept

    def sections(self) -> dict[str, Any]:
        """Accounts for the evidence packet of what was computed so far; maps are those of the deciding face."""
        found: dict[str, Any] = {}
        index = self.result.deciding_face
        if self.has("redelivered"):
            found["deliveries"] = packet.deliveries_account(self.result, self.redelivered())
        if self._deciding_assessed:
            assert index is not None
            found["quality"] = packet.quality_account(index + 1, self.result.faces[index], self.faithfulness(index))
        if index is not None and self.has("without", index):
            found["what_if"] = packet.what_if_account(index + 1, self.without(index))
        return found

    @property
    def _deciding_assessed(self) -> bool:
        return self.result.deciding_face is not None and self.has("faithfulness", self.result.deciding_face)

    def packet(self) -> bytes:
        """The evidence packet with what was computed so far; the same bytes until more is."""
        sections = self.sections()

        def built() -> bytes:
            return packet.build(self.detector, self.picture.data, result=self.result, paint=overlay, sections=sections)

        return self._once(f"packet {','.join(sorted(sections))}", built)

    def remarks(self) -> list[str]:
        """Sentences on where the evidence of the deciding face lies, and on its map if that was tested."""
        index, face = self.result.deciding_face, self.result.deciding
        if index is None or face is None:
            return []
        where = whereabouts(face)
        alarm = margin_alarm(self.detector, face)
        found = [words.evidence_lies(where), *([] if alarm is None else [alarm])]
        if self.usual is not None:
            found.append(words.unusual(self.usual, face.ledger))
        if self.has("without", index):
            found.append(words.what_if(face.verdict, self.without(index)))
        if self._deciding_assessed:
            found += [words.map_is_faithful(self.faithfulness(index)), words.map_is_stable(self.faithfulness(index))]
        return found

    def test(self) -> None:
        """Do all that the page offers to test, of the deciding face."""
        if self.result.deciding_face is not None:
            self.redelivered()
            self.faithfulness(self.result.deciding_face)
            self.without(self.result.deciding_face)

    def report(self, kind: str, *, sealed: bool = True) -> bytes:
        """The one-page report, `html` or `pdf`; if `sealed`, with the digest of the packet as it is now."""
        from dashboard.report import image_report  # templates and fonts, needed only here

        page = image_report.image_report(
            self.detector,
            self.picture.data,
            self.result,
            digest=packet.digest(self.packet()) if sealed else None,
            created=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            usual=self.usual,
            redelivered=self.redelivered() if self.has("redelivered") else (),
            remarks=self.remarks(),
        )
        return image_report.html(page).encode() if kind == "html" else image_report.pdf(page)

    def _once(self, key: str, make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


def margin_alarm(detector: Detector, face: FaceResult) -> str | None:
    """What to beware of where the verdict on an examined face hangs on little; None where it does not."""
    calibration, thresholds = detector.checkpoint.calibration, detector.thresholds
    return words.margin_alarm(margin(face.ledger, face.logit or 0.0, face.verdict, calibration, thresholds))


def examine(detector: Detector, picture: Picture) -> Examination:
    """Judge a picture. A file that is no image gives a result with `error` set; nothing is raised."""
    result = detector.classify(picture.data, name=picture.name)
    try:
        image = decode(picture.data).pixels
    except (ImageError, SandboxError):
        return Examination(picture, result, None, (), detector)
    boxes = [entry.face.box for entry in result.faces]
    preview = boxed(image, boxes, [entry.verdict for entry in result.faces])
    crops = tuple(detector.crop(image, entry.face) if entry.evidence is not None else None for entry in result.faces)
    return Examination(picture, result, preview, crops, detector)
