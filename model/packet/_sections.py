"""Sections of a packet that this version can compute again: what a picture went through after it was judged.

Each is an account by name; `SECTIONS` makes it from detector and original alone, so that `verify` can do so too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from model.detector import Detector
from model.faithfulness import Faithfulness, assess, whereabouts
from model.imaging import decode
from model.redelivery import Redelivered, redeliver
from model.results import FaceResult, ImageResult
from model.what_if import WithoutRegion, without_regions

Recompute = Callable[[Detector, bytes], Any]  # detector and original -> the JSON-able account of a section


def deliveries_account(result: ImageResult, deliveries: Iterable[Redelivered]) -> dict[str, Any]:
    """What passing the picture on did to its verdict; deliveries that cannot be made are named, and not counted."""
    entries = list(deliveries)
    return {
        "verdict": result.verdict,
        "logit": result.logit,
        "held": sum(entry.held for entry in entries),
        "of": sum(entry.made for entry in entries),
        "deliveries": [asdict(entry) for entry in entries],
    }


def quality_account(number: int, face: FaceResult, found: Faithfulness) -> dict[str, Any]:
    """How good the explanation of face `number`, from 1, is; numbers are log-odds, shares or correlations."""
    return {"face": number, "evidence": asdict(whereabouts(face)), "map": asdict(found)}


def what_if_account(number: int, moves: Iterable[WithoutRegion]) -> dict[str, Any]:
    """What filling in each region of face `number`, from 1, does to its score."""
    return {"face": number, "without": [asdict(entry) for entry in moves]}


def _deliveries(detector: Detector, data: bytes) -> dict[str, Any]:
    result = detector.classify(data)
    return deliveries_account(result, redeliver(detector, data, result))


def _quality(detector: Detector, data: bytes) -> dict[str, Any]:
    result = detector.classify(data)
    if result.deciding is None or result.deciding_face is None:
        return {}
    crop = detector.crop(decode(data).pixels, result.deciding.face)
    return quality_account(result.deciding_face + 1, result.deciding, assess(detector, crop))


def _what_if(detector: Detector, data: bytes) -> dict[str, Any]:
    result = detector.classify(data)
    face = result.deciding
    if face is None or result.deciding_face is None:
        return {}
    crop = detector.crop(decode(data).pixels, face.face)
    return what_if_account(result.deciding_face + 1, without_regions(detector, crop, face, detector.regions(face)))


SECTIONS: dict[str, Recompute] = {"deliveries": _deliveries, "quality": _quality, "what_if": _what_if}
