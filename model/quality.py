"""Reasons why a face is not examined. Each has a stable code and a sentence for the analyst."""

from __future__ import annotations

from model.faces import USABLE, Face

REASONS = {
    "no_face": (
        "No face was found. The detector judges faces only: use a picture in which a face is clearly visible. In a "
        "very large picture small faces are not looked for: cut the face out and try again."
    ),
    "face_too_small": (
        f"The face is smaller than {USABLE:.0f} pixels (mean of width and height). Obtain the picture at a higher "
        "resolution; enlarging this copy does not help."
    ),
    "unreadable": "The file could not be read.",
    "failed": "The picture could not be examined; the result's error says what happened.",
}


def reason_against(face: Face) -> str | None:
    """Code of the reason why this face cannot be judged, or None when it can."""
    return "face_too_small" if face.size < USABLE else None


def explain(reason: str | None, error: str | None = None) -> str:
    """The sentence for a reason code; the error's own message where there is one."""
    if error:
        return error
    return REASONS.get(reason or "", "")
