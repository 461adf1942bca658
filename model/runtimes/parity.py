"""The gate in front of every exported graph and lower precision: agreement with PyTorch in float32 on real pictures.

What may come out differently: the probability, by `Tolerance.p_fake` at most; no verdict; and the map, whose
correlation with the reference's must reach `Tolerance.correlation` on every face, and which must be no further from it
than `Tolerance.error`: a map of another scale correlates as well, and near 0 and 1 the probability does not show it.
The pictures are the bundled samples, so that the check can be made anywhere. It is made once for a graph, a runtime's
version and a kind of processor; the record lies beside the graph, or where one would be.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from model import quality
from model.calibration import verdict
from model.checkpoint import CheckpointInfo
from model.faces import FaceFinder
from model.imaging import ImageError, decode
from model.normalise import Normaliser
from model.runtimes._base import Runtime, RuntimeRefusedError
from model.runtimes._records import keep, kept

if TYPE_CHECKING:  # a second to import, for a check that was made before
    from model.backbones import LinearHeadNet

_BATCH = 4


@dataclass(frozen=True)
class Tolerance:
    """How far a runtime may be from the reference.

    Attributes
    ----------
    p_fake : float
        Largest difference of the calibrated probability.
    correlation : float
        Smallest correlation (Pearson) of two evidence maps of one face.
    error : float
        Largest distance of two maps of one face, in standard deviations of the reference's map.
    """

    p_fake: float
    correlation: float
    error: float


TOLERANCES = {
    "fp32": Tolerance(p_fake=0.001, correlation=0.9999, error=0.015),
    "bf16": Tolerance(p_fake=0.02, correlation=0.99, error=0.15),
    "int8": Tolerance(p_fake=0.05, correlation=0.95, error=0.33),
}


@dataclass(frozen=True)
class Agreement:
    """What two runtimes made of the same faces.

    Attributes
    ----------
    faces : int
    p_fake : float
        Largest difference of the calibrated probability.
    flips : int
        Faces whose verdict differs.
    correlation : float
        Smallest correlation of the two maps of a face.
    error : float
        Largest distance (root of the mean square) of the two maps of a face, in standard deviations of the first.
    """

    faces: int
    p_fake: float
    flips: int
    correlation: float
    error: float

    def within(self, tolerance: Tolerance) -> bool:
        """Whether all of it can be accepted; values that are not numbers cannot."""
        same_verdicts = self.p_fake <= tolerance.p_fake and self.flips == 0
        return same_verdicts and self.correlation >= tolerance.correlation and self.error <= tolerance.error


def agreement(info: CheckpointInfo, reference: Runtime, other: Runtime, faces: np.ndarray) -> Agreement:
    """Compare two runtimes of one checkpoint on normalised crops (N, 3, S, S)."""
    maps_a, logits_a = forward_all(reference, faces)
    maps_b, logits_b = forward_all(other, faces)
    both = [[info.calibration.probability(float(logit)) for logit in logits] for logits in (logits_a, logits_b)]
    apart = np.abs(np.asarray(both[0]) - np.asarray(both[1]))
    flips = sum(verdict(a, info.thresholds) != verdict(b, info.thresholds) for a, b in zip(*both, strict=True))
    pairs = list(zip(maps_a, maps_b, strict=True))  # NumPy's extremes keep what is not a number, Python's may not
    correlation = np.min([_correlation(a, b) for a, b in pairs])
    error = np.max([_error(a, b) for a, b in pairs])
    return Agreement(len(faces), float(apart.max()), flips, float(correlation), float(error))


def forward_all(runtime: Runtime, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Evidence (N, H, W) and logits (N,) of any number of crops, a few at a time."""
    parts = [runtime.forward(faces[first : first + _BATCH]) for first in range(0, len(faces), _BATCH)]
    return np.concatenate([maps for maps, _ in parts]), np.concatenate([logits for _, logits in parts])


def admit(
    info: CheckpointInfo,
    network: Callable[[], LinearHeadNet],
    runtime: Runtime,
    version: str,
    *,
    made_of: str,
    graph: Path,
) -> Agreement:
    """Let a runtime through the gate.

    Parameters
    ----------
    network : callable
        Gives the network for the reference; asked where no record of an earlier check holds.
    made_of : str
        Tells what it computes from: the signature of its graph, or the checkpoint's SHA-256 where there is none.
    graph : Path
        The record lies beside it; where none can be written, the check is made each time.

    Raises
    ------
    RuntimeRefusedError
        If it does not agree with the reference within the tolerance of its precision, or nothing can be compared.
    """
    key: dict[str, object] = {
        "graph": made_of,
        "runtime": f"{runtime.name} {version}",
        "processor": processor(),
        "tolerance": asdict(TOLERANCES[runtime.precision]),
    }
    record = graph.with_name(f"{graph.stem}-{runtime.name}-{runtime.precision}.json")
    found = kept(record, key, Agreement)
    if found is None:
        from model.runtimes._torch import TorchRuntime

        found = agreement(info, TorchRuntime(network()), runtime, sample_faces(info))
        keep(record, key, asdict(found))
    tolerance = TOLERANCES[runtime.precision]
    if not found.within(tolerance):
        raise RuntimeRefusedError(
            f"{runtime.name} in {runtime.precision} does not agree with torch in fp32 on {info.name}: on {found.faces} "
            f"sample faces the probability differs by up to {found.p_fake:.3f} (allowed {tolerance.p_fake}), "
            f"{found.flips} verdicts change (allowed 0), the maps correlate by {found.correlation:.4f} at least "
            f"(needed {tolerance.correlation}) and are apart by up to {found.error:.3f} of their spread (allowed "
            f"{tolerance.error}). Choose another runtime or precision."
        )
    return found


def sample_faces(info: CheckpointInfo) -> np.ndarray:
    """Every usable face of the bundled pictures as the network sees it: normalised crops (N, 3, S, S).

    Raises
    ------
    RuntimeRefusedError
        If the pictures are not installed.
    """
    framing, normalise = info.framing, Normaliser(info.header["mean"], info.header["std"])
    crops = []
    finder = FaceFinder()
    for path in _sample_files():
        try:
            image = decode(path.read_bytes()).pixels
        except ImageError:
            continue
        crops += [
            normalise(framing.cut(image, framing.crop_box(face, image.width, image.height)))
            for face in finder.find(image)
            if quality.reason_against(face) is None
        ]
    if not crops:
        raise RuntimeRefusedError(
            "the bundled sample pictures are not installed, so that an exported network cannot be checked. "
            "Use the torch runtime."
        )
    return np.stack(crops)


@lru_cache(maxsize=1)
def _sample_files() -> tuple[Path, ...]:
    """Beside the code in a checkout, inside the package `dashboard` when installed."""
    root = Path(__file__).resolve().parents[2]
    folders = (root / "dashboard" / "_shipped" / "sample_images", root / "sample_images")
    folder = next((folder for folder in folders if folder.is_dir()), folders[-1])
    return tuple(sorted(path for path in folder.glob("*/*") if path.is_file()))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of two maps; two even maps agree, an even one and another do not."""
    a, b = (one.ravel().astype(np.float64) - one.mean(dtype=np.float64) for one in (a, b))
    spread = float(np.sqrt((a @ a) * (b @ b)))
    if spread == 0:
        return 1.0 if not a.any() and not b.any() else 0.0
    return float(a @ b) / spread


def _error(a: np.ndarray, b: np.ndarray) -> float:
    """Root mean square of b - a in standard deviations of a; 0 for equal maps, without bound where a is even."""
    apart = float(np.sqrt(np.mean((b.astype(np.float64) - a) ** 2)))
    spread = float(a.std(dtype=np.float64))
    return apart / spread if spread > 0 else 0.0 if apart == 0 else float("inf")


def processor() -> str:
    """Kind of this machine's processor, by what it can compute."""
    return f"{platform.machine()} {cv2.getCPUFeaturesLine()}"


def signature(path: Path) -> str:
    """Size and time of a file: one that is written anew has another.

    To hash a graph takes longer than to load it. What only a hash would show is a file damaged in place.
    """
    status = path.stat()
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"
