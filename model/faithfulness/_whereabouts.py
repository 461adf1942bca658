"""Whether the evidence lies on the face."""

from __future__ import annotations

from dataclasses import dataclass

from model.regions import BOUNDARY_REGIONS, FACE_REGIONS
from model.results import FaceResult


@dataclass(frozen=True)
class Whereabouts:
    """Shares of the evidence, its sign aside, in [0, 1]; they sum to one.

    Attributes
    ----------
    face, boundary, background : float
        On the face, on hair and neck, and on the rest.
    """

    face: float
    boundary: float
    background: float

    @property
    def alarm(self) -> bool:
        """Whether the background holds more evidence than the face."""
        return self.background > self.face


def whereabouts(face: FaceResult) -> Whereabouts:
    """Where the evidence on an examined face lies, as booked in its ledger.

    Raises
    ------
    ValueError
        If the face was not examined.
    """
    if not face.ledger:
        raise ValueError("the face was not examined")
    size = {name: abs(value) for name, value in face.ledger.items() if name != "bias"}
    total = sum(size.values())
    if total == 0:
        return Whereabouts(0.0, 0.0, 0.0)
    on_face = sum(size[name] for name in FACE_REGIONS) / total
    on_boundary = sum(size[name] for name in BOUNDARY_REGIONS) / total
    return Whereabouts(on_face, on_boundary, size["background"] / total)
