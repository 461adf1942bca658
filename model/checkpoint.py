"""Checkpoints: one safetensors file with a JSON header that carries all a detector needs.

Nothing is ever unpickled. Beside the weights (`model.network`) lie short hashes of the training pictures, so that
others can be compared with them (`training_hashes`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from model.calibration import Calibration, Thresholds
from model.faces import Framing
from model.files import write_whole

FORMAT = 1
KEY = "reality_check"
WEIGHTS = Path(__file__).parent / "weights"
DEFAULT = "clip_vit_b16"
_REQUIRED: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "name": str,
    "architecture": str,
    "options": dict,
    "framing": dict,
    "mean": list,
    "std": list,
    "classes": list,
    "temperature": (int, float),
    "calibration_bias": (int, float),
    "thresholds": dict,
    "training": dict,
    "metrics": dict,
    "licence": str,
    "origin": str,
    "created": str,
}
HASHES = ("training.sha256", "training.phash")  # tensors that are not weights
HASH_BYTES = 8

MAX_FILE_BYTES = 4 * 2**30
MAX_HEADER_BYTES = 8 * 2**20  # of all tensors and our own; bundled checkpoints have less than 100 KB

Hashes = npt.NDArray[np.uint8]


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or not one of ours."""


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint's identity and header, without its weights.

    Attributes
    ----------
    sha256 : str
        Of the whole file.
    stamp : tuple of int or None
        Size (bytes), time of the last change (ns) and inode of the file when it was hashed; None if there is no file.
    """

    name: str
    path: Path
    header: dict[str, Any]
    sha256: str
    stamp: tuple[int, int, int] | None = field(default=None, repr=False, compare=False)

    @property
    def default(self) -> bool:
        return self.name == DEFAULT

    @property
    def card(self) -> Path:
        """The model card beside the weights (Markdown)."""
        return self.path.with_suffix(".md")

    @property
    def framing(self) -> Framing:
        return _framing(self.header)

    @property
    def calibration(self) -> Calibration:
        return Calibration(float(self.header["temperature"]), float(self.header["calibration_bias"]))

    @property
    def thresholds(self) -> Thresholds:
        entry = self.header["thresholds"]
        return Thresholds(float(entry["real"]), float(entry["fake"]), entry.get("fpr"))


def rewrite(info: CheckpointInfo, header: dict[str, Any], path: Path) -> CheckpointInfo:
    """Write the tensors of a checkpoint, untouched, under another header; `path` may be its own."""
    with opened(info) as file:
        tensors = {name: _tensor(file, name, info) for name in file.keys()}  # noqa: SIM118 - not a dict
    write(tensors, header, path)
    return read_info(path)


def write(tensors: dict[str, np.ndarray], header: dict[str, Any], path: Path) -> None:
    """Write tensors under a header, after checking it; `path` never holds half of a file.

    Raises
    ------
    CheckpointError
        If the header lacks something or is inconsistent.
    """
    _validate(header, path)
    metadata = {KEY: json.dumps(header, ensure_ascii=False, sort_keys=True)}
    write_whole(path, lambda partial: save_file(tensors, partial, metadata=metadata))


def read_info(path: Path) -> CheckpointInfo:
    """Read and check a checkpoint's header.

    Raises
    ------
    CheckpointError
        If the file is missing, not safetensors, replaced meanwhile, or its header is missing, unknown or inconsistent.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    before = _check_sizes(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} is not a safetensors file or is damaged: {error}") from error
    if KEY not in metadata:
        raise CheckpointError(f"{path.name} has no '{KEY}' header; it was not written by this project")
    try:
        header = json.loads(metadata[KEY])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name}: its header is not JSON: {error}") from error
    _validate(header, path)
    digest, stamp = _hashed(path)
    if stamp != before:
        raise CheckpointError(f"{path.name} was replaced while it was read. Try again.")
    return CheckpointInfo(str(header["name"]), path, header, digest, stamp)


@contextmanager
def opened(info: CheckpointInfo, framework: str = "numpy") -> Iterator[Any]:
    """The tensors of a checkpoint's file, as `safetensors.safe_open` gives them.

    Raises
    ------
    CheckpointError
        If the file is gone or damaged, or, once its tensors were read, no longer the one whose SHA-256 `info` holds.
    """
    try:
        file = safe_open(info.path, framework=framework)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{info.path.name} can no longer be read: {error}") from error
    with file as tensors:
        yield tensors
    try:
        same = _stamp(os.stat(info.path)) == info.stamp or _hashed(info.path)[0] == info.sha256  # touched, or copied
    except OSError as error:
        raise CheckpointError(f"{info.path.name} can no longer be read: {error}") from error
    if not same:
        raise CheckpointError(f"{info.path.name} was replaced after it was first read. Start again.")


def _hashed(path: Path) -> tuple[str, tuple[int, int, int]]:
    """SHA-256 of a file, and the stamp of what was hashed."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), _stamp(os.fstat(stream.fileno()))


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino


def verify(info: CheckpointInfo, pinned: str | None = None) -> None:
    """See that a checkpoint is the one that is meant, by the SHA-256 of its file.

    Parameters
    ----------
    pinned : str, optional
        What its SHA-256 has to be. Without it, a shipped checkpoint is held against `SHA256SUMS` beside it.

    Raises
    ------
    CheckpointError
        If it is another file.
    """
    if pinned is not None:
        if info.sha256 != pinned.strip().lower():
            raise CheckpointError(f"{info.path.name} has the SHA-256 {info.sha256}, and {pinned} is pinned")
        return
    sums = WEIGHTS / "SHA256SUMS"
    # A link may lead to a shipped file, and a shipped file may itself be a link into a store.
    places = {info.path.resolve(), info.path.parent.resolve() / info.path.name}
    shipped = [place for place in places if place.parent == WEIGHTS.resolve()]
    if not shipped or not sums.is_file():
        return
    lines = (line.split(maxsplit=1) for line in sums.read_text("utf-8").splitlines() if line.strip())
    listed = {name: digest for digest, name in lines}
    if any(listed.get(place.name, info.sha256) != info.sha256 for place in shipped):
        raise CheckpointError(f"{info.path.name} is not the one that was shipped. Install Reality Check anew.")


def head_bias(info: CheckpointInfo) -> float:
    """The bias of the network's linear layer: what evidence maps do not hold of the logit.

    Raises
    ------
    CheckpointError
        If it is missing, or of a type that no checkpoint of ours has.
    """
    with opened(info) as file:
        if "head.bias" not in file.keys():  # noqa: SIM118 - not a dict
            raise CheckpointError(f"{info.path.name}: head.bias is missing")
        return float(_tensor(file, "head.bias", info).reshape(-1)[0])


def _tensor(file: Any, name: str, info: CheckpointInfo) -> np.ndarray:
    try:
        found: np.ndarray = file.get_tensor(name)
    except TypeError as error:  # such as bfloat16, which numpy does not have
        raise CheckpointError(f"{info.path.name}: {name} is stored in a way that is not ours ({error})") from error
    return found


def training_hashes(info: CheckpointInfo) -> tuple[Hashes, Hashes] | None:
    """Short hashes of the pictures that a checkpoint was fitted and calibrated on; None if it carries none.

    Returns
    -------
    sha256 : ndarray of shape (N, 8), uint8
        The first 8 bytes of each file's SHA-256.
    phash : ndarray of shape (N, 8), uint8
        The 64 lowest frequencies of its perceptual hash, `short_hash(model.audit.perceptual_hash(...))`.

    Raises
    ------
    CheckpointError
        If only one of them is there, or they have another shape or type.
    """
    with opened(info) as file:
        found = {name: file.get_tensor(name) for name in file.keys() if name in HASHES}  # noqa: SIM118 - not a dict
    if not found:
        return None
    if len(found) < len(HASHES):
        raise CheckpointError(f"{info.path.name}: holds {next(iter(found))} alone")
    try:
        return checked_hashes(found[HASHES[0]], found[HASHES[1]])
    except ValueError as error:
        raise CheckpointError(f"{info.path.name}: {error}") from error


def short_hash(perceptual: Hashes) -> Hashes:
    """The 8 x 8 lowest frequencies of perceptual hashes of 16 x 16 bits: (..., 32) -> (..., 8), uint8."""
    bits = np.unpackbits(perceptual, axis=-1)
    square = bits.reshape(*perceptual.shape[:-1], 16, 16)[..., :8, :8]
    return np.packbits(square.reshape(*perceptual.shape[:-1], 64), axis=-1)


def checked_hashes(sha256: Hashes, phash: Hashes) -> tuple[Hashes, Hashes]:
    """Both, if they are hashes of the same number of pictures.

    Raises
    ------
    ValueError
        If they are not.
    """
    for name, rows in zip(HASHES, (sha256, phash), strict=True):
        if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape != (len(sha256), HASH_BYTES):
            raise ValueError(f"{name} must be uint8 of shape (N, {HASH_BYTES}), is {rows.dtype} of shape {rows.shape}")
    return np.ascontiguousarray(sha256), np.ascontiguousarray(phash)


def list_checkpoints(folder: Path = WEIGHTS) -> list[CheckpointInfo]:
    """Checkpoints in a folder, the default first, then by name."""
    found = [read_info(path) for path in sorted(folder.glob("*.safetensors"))]
    return sorted(found, key=lambda info: (not info.default, info.name))


def resolve(name_or_path: str | Path | None) -> Path:
    """Path of a checkpoint given its bundled name, its path, or None for the default."""
    if name_or_path is None:
        name_or_path = DEFAULT
    path = Path(name_or_path)
    if path.suffix == ".safetensors":
        return path
    bundled = WEIGHTS / f"{name_or_path}.safetensors"
    if not bundled.is_file():
        known = ", ".join(sorted(entry.stem for entry in WEIGHTS.glob("*.safetensors"))) or "none"
        raise CheckpointError(f"no checkpoint named {str(name_or_path)!r}; bundled are: {known}")
    return bundled


def _validate(header: object, path: Path) -> None:
    def refuse(reason: str) -> CheckpointError:
        return CheckpointError(f"{path.name}: {reason}")

    if not isinstance(header, dict):
        raise refuse("its header is not an object")
    if header.get("format") != FORMAT:
        raise refuse(f"format {header.get('format')!r} is unknown to this version, which reads format {FORMAT}")
    for key, kind in _REQUIRED.items():
        if key not in header:
            raise refuse(f"its header lacks {key!r}")
        if not isinstance(header[key], kind) or isinstance(header[key], bool):
            raise refuse(f"header entry {key!r} has the wrong type: {header[key]!r}")
    if header["classes"] != ["real", "fake"]:
        raise refuse(f"classes must be ['real', 'fake'], got {header['classes']!r}")
    for key in ("mean", "std"):
        values = header[key]
        if len(values) != 3 or not all(_finite(value) for value in values):
            raise refuse(f"{key} must be three finite numbers, got {values!r}")
    if min(header["std"]) <= 0:
        raise refuse(f"std must be positive, got {header['std']!r}")
    try:
        framing = _framing(header)
        Calibration(float(header["temperature"]), float(header["calibration_bias"]))
        Thresholds(float(header["thresholds"]["real"]), float(header["thresholds"]["fake"]))
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise refuse(f"inconsistent header: {error}") from error
    fpr = header["thresholds"].get("fpr")
    if fpr is not None and not (_finite(fpr) and 0 <= fpr <= 1):
        raise refuse(f"the thresholds' fpr must be a rate or null, got {fpr!r}")
    if not _possible(framing):
        raise refuse(f"impossible framing {header['framing']!r}")


def _check_sizes(path: Path) -> tuple[int, int, int]:
    """See that a file and the header it announces are of a size that can be, before anything is parsed; its stamp."""
    try:
        with path.open("rb") as stream:
            status, announced = os.fstat(stream.fileno()), int.from_bytes(stream.read(8), "little")
    except OSError as error:
        raise CheckpointError(f"{path.name}: cannot be read ({error.strerror or error})") from error
    size = status.st_size
    if size > MAX_FILE_BYTES:
        raise CheckpointError(f"{path.name} has {size / 2**30:.1f} GiB; at most {MAX_FILE_BYTES / 2**30:.0f} are read")
    if size >= 8 and announced > min(size - 8, MAX_HEADER_BYTES):
        raise CheckpointError(
            f"{path.name} is not a safetensors file or is damaged: its header would have {announced:,} bytes"
        )
    return _stamp(status)


def _framing(header: dict[str, Any]) -> Framing:
    """The framing a header names; one written before `stored_side` existed stored every crop at its own side."""
    return Framing(**{"stored_side": None} | header["framing"])


def _finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e9  # also false for NaN


def _possible(framing: Framing) -> bool:
    quality, stored = framing.jpeg_quality, framing.stored_side
    return (
        type(framing.side) is int
        and 16 <= framing.side <= 1024
        and _finite(framing.face_share)
        and 0.1 < framing.face_share <= 1
        and _finite(framing.vertical_offset)
        and abs(framing.vertical_offset) <= 1
        and (quality is None or (type(quality) is int and 1 <= quality <= 100))
        and (stored is None or (type(stored) is int and framing.side <= stored <= 4096))
    )
