"""Whether a verdict survives the ways in which pictures are passed on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from model.deliveries import DELIVERIES
from model.detector import Detector
from model.results import ImageResult
from model.sources import MemorySource

TITLES = {
    "jpeg90": "JPEG 90",
    "jpeg75": "JPEG 75",
    "jpeg50": "JPEG 50",
    "half_size": "Half size",
    "social": "Social network",
    "webp": "WebP 80",
    "screenshot": "Screenshot",
    "crop": "Cropped by 8 %",
}


@dataclass(frozen=True)
class Redelivered:
    """What the detector says of a picture after one delivery.

    Attributes
    ----------
    name : str
        A key of `model.deliveries.DELIVERIES`.
    verdict, reason : str, str or None
        `reason` says why a verdict is `not_applicable`.
    logit, p_fake : float or None
        None where no face was examined.
    held : bool
        Whether the verdict is that of the picture as it is.
    """

    name: str
    verdict: str
    reason: str | None
    logit: float | None
    p_fake: float | None
    held: bool

    @property
    def title(self) -> str:
        return TITLES[self.name]


def redeliver(detector: Detector, data: bytes, result: ImageResult) -> Iterator[Redelivered]:
    """Judge a picture again after each of the eight deliveries, one after the other; faces are searched anew each time.

    Parameters
    ----------
    data : bytes
        The original file.
    result : ImageResult
        What this detector says of it as it is.
    """
    source = MemorySource(result.name, data)
    for name, deliver in DELIVERIES.items():
        (again,) = detector.classify_many([source], transform=deliver)
        held = again.verdict == result.verdict and again.error is None
        yield Redelivered(name, again.verdict, again.reason, again.logit, again.p_fake, held)


def holds(deliveries: Sequence[Redelivered]) -> str:
    """How often the verdict held, in words.

    >>> kept = Redelivered("webp", "real", None, -1.0, 0.2, True)
    >>> lost = Redelivered("crop", "not_applicable", "no_face", None, None, False)
    >>> holds([kept, lost])
    'The verdict holds in 1 of 2 deliveries; after 1 no face could be judged.'
    """
    kept = sum(entry.held for entry in deliveries)
    text = f"The verdict holds in {kept} of {len(deliveries)} deliveries"
    lost = sum(entry.p_fake is None and not entry.held for entry in deliveries)
    return f"{text}; after {lost} no face could be judged." if lost else f"{text}."
