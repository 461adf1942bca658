"""Whether a verdict survives the ways in which pictures are passed on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from model.deliveries import DELIVERIES
from model.detector import Detector
from model.imaging import TOO_LARGE
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
        `reason` says why a verdict is `not_applicable`; it is `too_large_for_format` where there is no such delivery,
        as its file format cannot hold a picture of this size.
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

    @property
    def made(self) -> bool:
        """Whether there is such a delivery of this picture; what cannot be made is not counted."""
        return self.reason != TOO_LARGE


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
    >>> holds([kept, Redelivered("webp", "not_applicable", "too_large_for_format", None, None, False)])
    'The verdict holds in 1 of 1 deliveries. 1 was left out: WebP cannot hold a picture this large.'
    """
    made = [entry for entry in deliveries if entry.made]
    text = f"The verdict holds in {sum(entry.held for entry in made)} of {len(made)} deliveries"
    lost = sum(entry.p_fake is None and not entry.held for entry in made)
    text += f"; after {lost} no face could be judged." if lost else "."
    if len(made) == len(deliveries):
        return text
    formats = dict.fromkeys("WebP" if entry.name == "webp" else "JPEG" for entry in deliveries if not entry.made)
    left = len(deliveries) - len(made)
    left_out = f"{left} {'was' if left == 1 else 'were'} left out"
    return f"{text} {left_out}: {' and '.join(formats)} cannot hold a picture this large."
