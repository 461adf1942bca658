"""Judge the original of a packet again and hold every account against the new one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from model.calibration import Thresholds
from model.checkpoint import CheckpointError, CheckpointInfo
from model.detector import Detector
from model.imaging import Limits, decode
from model.packet import _build
from model.packet._build import Paint
from model.packet._checks import MALFORMED, Check, Outcome, guarded, load, reason
from model.packet._compare import TOLERANCES, Comparison
from model.packet._sections import Recompute
from model.packet._sums import faces
from model.runtimes import NAMES

LEVELS = 2  # of 255, between a picture in the packet and the same picture made again

_PICTURE = Limits(max_pixels=1024 * 1024, min_side=1)  # no framing has larger crops


def again(
    files: Mapping[str, bytes],
    original: str,
    checkpoints: Iterable[CheckpointInfo],
    paint: Paint | None,
    recompute: Mapping[str, Recompute],
) -> Iterator[Check]:
    """One check per account, picture and section; one, not checked, if the checkpoint is not at hand.

    `files` are those of the packet without manifest and log; `original` is the name of one of them.
    """
    try:
        detector = _detector(files, checkpoints)
        stated = ascii(load(files, "environment.json")["checkpoint_sha256"])
        name = str(load(files, "result.json")["path"])
    except (*MALFORMED, CheckpointError) as error:
        yield Check("judged again", Outcome.DIFFERS, f"its settings or result cannot be used ({reason(error)})")
        return
    if detector is None:
        detail = f"no checkpoint with the SHA-256 {stated} is at hand, so the original cannot be judged again"
        yield Check("judged again", Outcome.UNCHECKED, detail)
        return
    own = "set by hand, as the packet says" if detector.thresholds.custom else "those of the checkpoint"
    yield guarded("thresholds", lambda: _thresholds(detector), own)
    data = files[original]
    result = detector.classify(data, name=name)
    fresh = _build.accounts(detector, result)
    yield guarded(
        "contents",
        lambda: _names(files, {_build.original_name(result), *fresh}),
        "every account that there should be, and no other",
    )
    for entry in sorted(set(files) & set(fresh)):
        if entry == "environment.json":
            yield _environment(load(files, entry), load(fresh, entry))
        else:
            yield _account(entry, files, load(fresh, entry), detector)
    if faces(files) and result.error is None:
        yield from _pictures(files, decode(data).pixels, detector, paint)
    for entry in sorted(name for name in files if name.startswith("sections/")):
        maker = recompute.get(entry.removeprefix("sections/").removesuffix(".json"))
        if maker is None:
            yield Check(f"{entry} again", Outcome.NOTED, "held by its hash; not computed again")
        else:
            yield _account(entry, files, json.loads(_build.to_json(maker(detector, data))), detector)


def _detector(files: Mapping[str, bytes], checkpoints: Iterable[CheckpointInfo]) -> Detector | None:
    stated, settings = load(files, "environment.json")["checkpoint_sha256"], load(files, "settings.json")
    thresholds = Thresholds(**settings["thresholds"])
    if settings["precision"] not in TOLERANCES:
        raise ValueError(f"precision {settings['precision']!r} is not known here")
    for info in checkpoints:
        if info.sha256 == stated:
            return Detector.load(info.path, precision=settings["precision"], thresholds=thresholds)
    return None


def _thresholds(detector: Detector) -> str | None:
    own = detector.checkpoint.thresholds
    if detector.thresholds.custom:
        return None if detector.thresholds.fpr is None else "a false-alarm rate is stated for thresholds set by hand"
    return None if detector.thresholds == own else "they are not those of the checkpoint, and not marked as set by hand"


def _names(files: Mapping[str, bytes], fresh: set[str]) -> str | None:
    """What is missing or too much; overlays may be left out of all faces."""
    numbers = sorted({name.split("/")[1] for name in fresh if name.startswith("faces/")})
    expected = fresh | {f"faces/{number}/crop.png" for number in numbers}
    if any(name.endswith("/overlay.png") for name in files):
        expected |= {f"faces/{number}/overlay.png" for number in numbers}
    found = {name for name in files if not name.startswith("sections/")}
    faults = [f"{name} is missing" for name in sorted(expected - found)]
    faults += [f"{name} has no place there" for name in sorted(found - expected)]
    return "; ".join(faults) or None


def _account(entry: str, files: Mapping[str, bytes], fresh: Any, detector: Detector) -> Check:
    unit = "log-odds" if entry.startswith("sections/") else None
    tolerances = TOLERANCES[detector.precision]
    if entry == "settings.json":  # nothing in it was computed
        tolerances = dict.fromkeys(tolerances, 0.0)
    comparison = Comparison(tolerances)

    def find() -> str | None:
        stored = load(files, entry)
        if files[entry] != _build.to_json(stored):
            return "is not written as packets write JSON"
        if entry == "result.json":  # told of with the environment
            stored["version"] = fresh["version"]
            told = load(files, "environment.json")["runtime"]
            if stored["runtime"] == told and told in {f"{name}-{detector.precision}" for name in NAMES}:
                stored["runtime"] = fresh["runtime"]
        comparison.add(stored, fresh, unit=unit)
        count = len(comparison.problems)
        return None if not count else "; ".join(comparison.problems[:3]) + (f"; {count - 3} more" if count > 3 else "")

    found = guarded(f"{entry} again", find, "")
    detail = found.detail or f"largest deviation {comparison.deviation}"
    return Check(found.item, found.outcome, detail, comparison.tolerance)


def _environment(stored: Any, here: Mapping[str, Any]) -> Check:
    """Another environment is no fault: what it did to the numbers is in the other checks."""
    comparison = Comparison({})
    comparison.add(stored, here)
    detail = "; ".join(comparison.problems[:8]) or "the same versions here"
    return Check("environment", Outcome.NOTED if comparison.problems else Outcome.AGREES, detail)


def _pictures(
    files: Mapping[str, bytes], original: Image.Image, detector: Detector, paint: Paint | None
) -> Iterator[Check]:
    """Crops are cut again at the packet's boxes, evidence is painted again over the packet's crops."""
    tolerance = f"{LEVELS} of 255 levels"
    for number in faces(files):
        crop, overlay = f"faces/{number}/crop.png", f"faces/{number}/overlay.png"

        def cut(crop: str = crop, number: int = number) -> str | None:
            box = load(files, "result.json")["face_results"][number - 1]["crop_box"]
            return _unlike(files[crop], detector.checkpoint.framing.cut(original, tuple(box)))

        yield guarded(f"{crop} again", cut, "is what the original shows there", tolerance)
        if overlay not in files:
            continue
        if paint is None:
            yield Check(f"{overlay} again", Outcome.NOTED, "held by its hash; not painted again")
            continue

        def painted(crop: str = crop, overlay: str = overlay, number: int = number) -> str | None:
            cells = np.asarray(load(files, f"faces/{number}/evidence.json")["cells"], dtype=np.float32)
            return _unlike(files[overlay], paint(decode(files[crop], limits=_PICTURE).pixels, cells))

        yield guarded(f"{overlay} again", painted, "is the crop with its evidence", tolerance)


def _unlike(stored: bytes, fresh: Image.Image) -> str | None:
    held = decode(stored, limits=_PICTURE).pixels
    if held.size != fresh.size:
        return f"is {held.width} x {held.height} px, {fresh.width} x {fresh.height} px here"
    off = np.abs(np.asarray(held, dtype=np.int16) - np.asarray(fresh.convert("RGB"), dtype=np.int16))
    if int(off.max()) <= LEVELS:
        return None
    changed = int((off.max(axis=2) > LEVELS).sum())
    return f"{changed:,} of {off.shape[0] * off.shape[1]:,} pixels differ, by up to {int(off.max())} levels"
