"""The one public way in: image bytes -> explained decision.

`Detector.classify` takes one image, `Detector.classify_many` any number, in order, in batches; neither raises for a bad
image. A detector may be shared by threads: one lock guards the network.
"""

from __future__ import annotations

import copy
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

import model
from model import quality, runtimes
from model.calibration import NOT_APPLICABLE, Thresholds, verdict
from model.checkpoint import CheckpointInfo, read_info, resolve
from model.evidence import ledger
from model.faces import Face, FaceFinder
from model.imaging import ImageError, decode
from model.normalise import Normaliser
from model.regions import find_mesh, masks
from model.results import FaceResult, ImageResult, not_applicable
from model.runtimes import PRECISIONS, Choice, Runtime
from model.sandbox import SandboxError

if TYPE_CHECKING:  # a second to import, which other runtimes do without
    from model.backbones import LinearHeadNet

READ_AHEAD = 32  # images decoded ahead of the network; bounds memory
CROPS_AHEAD = 8  # batches of faces cut out ahead of the network, and those of one image; bounds memory where crowds are
_finders = threading.local()


class Readable(Protocol):
    """Anything with a name whose bytes can be read later."""

    @property
    def name(self) -> str: ...

    def read(self) -> bytes:
        """Return all bytes; any exception makes this one image unreadable."""
        ...


@dataclass
class _Prepared:
    """An image on its way to the network: facts and crops, without its pixels, which may be many megabytes."""

    name: str
    seconds: float = 0.0
    size_bytes: int = 0
    sha256: str = ""
    format: str = ""
    width: int = 0
    height: int = 0
    notes: tuple[str, ...] = ()
    faces: tuple[Face, ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    reasons: tuple[str | None, ...] = ()
    crops: tuple[np.ndarray, ...] = ()  # (S, S, 3) uint8 each, of the usable faces; a quarter of what networks read
    meshes: tuple[np.ndarray | None, ...] = ()  # of the usable faces
    code: str | None = None
    error: str | None = None
    fault: SandboxError | None = None  # no picture's

    def fail(self, code: str, error: str) -> None:
        """Note why there is no verdict, and forget what was found on the way to it."""
        self.code, self.error = code, error
        self.faces, self.boxes, self.reasons, self.crops, self.meshes = (), (), (), (), ()


class Detector:
    """A checkpoint ready for use.

    Parameters
    ----------
    info : CheckpointInfo
    network : callable
        Gives the checkpoint's network, the same one every time; asked when it is first needed.
    precision : {"fp32", "bf16"}
        Always explicit: results must not depend on the machine silently.
    thresholds : Thresholds, optional
        The checkpoint's own by default.
    runtime : Runtime, optional
        What computes the network, with a precision of its own; PyTorch by default.
    """

    def __init__(
        self,
        info: CheckpointInfo,
        network: Callable[[], LinearHeadNet],
        *,
        precision: str = "fp32",
        thresholds: Thresholds | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
        self.checkpoint = info
        self.thresholds = thresholds or info.thresholds
        self._network = network
        self._runtime = runtime or _reference(network(), precision)
        self.precision = self._runtime.precision
        self.runtime = f"{self._runtime.name}-{self._runtime.precision}"
        self.choice: Choice | None = None  # what was measured, where the runtime was chosen by measuring
        self._framing = info.framing
        self._calibration = info.calibration
        self._bias = self._runtime.bias
        self._normalise = Normaliser(info.header["mean"], info.header["std"])
        self._lock = threading.Lock()

    @property
    def network(self) -> LinearHeadNet:
        """The network itself, for what the runtime does not tell."""
        return self._network()

    @classmethod
    def load(
        cls,
        name_or_path: str | Path | None = None,
        *,
        precision: str = "fp32",
        thresholds: Thresholds | None = None,
        runtime: str = "torch",
        threads: int = 0,
    ) -> Detector:
        """Load a bundled checkpoint by name, any by path, or the default.

        `runtime` is one of `model.runtimes.NAMES`, or `auto` for the quickest that is installed (`runtimes.choose`);
        `threads` are its processor threads, 0 for as many as it sees cores.

        Raises
        ------
        model.checkpoint.CheckpointError
            If there is no such checkpoint or it is refused.
        model.runtimes.RuntimeRefusedError
            If the runtime is not installed or does not agree with PyTorch.
        """
        info = read_info(resolve(name_or_path))

        @cache
        def read() -> LinearHeadNet:
            import torch

            from model.network import load_network

            if threads:
                torch.set_num_threads(threads)  # for what is computed beside the runtime, too
            return load_network(info)

        reading = threading.Lock()

        def network() -> LinearHeadNet:
            with reading:
                return read()

        if runtime == runtimes.AUTO:
            choice = runtimes.choose(info, network, precision, threads)
            detector = cls(info, network, thresholds=thresholds, runtime=choice.runtime)
            detector.choice = choice
            return detector
        computing = runtimes.load(info, network, runtime, precision, threads)
        return cls(info, network, thresholds=thresholds, runtime=computing)

    def with_thresholds(self, thresholds: Thresholds) -> Detector:
        """The same detector, sharing its network and lock, with other thresholds."""
        other = copy.copy(self)
        other.thresholds = thresholds
        return other

    def classify(self, data: bytes, *, name: str = "image") -> ImageResult:
        """Judge one image file. A bad image gives a result with `error` set; it does not raise."""
        prepared = self._prepare(name, lambda: data)
        return self._finish([prepared])[0]

    def classify_many(
        self,
        sources: Iterable[Readable],
        *,
        batch_size: int = 16,
        transform: Callable[[Image.Image], Image.Image] | None = None,
    ) -> Iterator[ImageResult]:
        """Judge many images: one result per source, in order, whatever happens to single ones.

        Reading, decoding and face finding run on one thread beside the network, at most `READ_AHEAD` images ahead; they
        wait while `CROPS_AHEAD` batches of faces are not judged yet.

        Parameters
        ----------
        batch_size : int
            Faces per forward pass.
        transform : callable, optional
            Applied to each decoded RGB image before faces are looked for, e.g. an evaluation tier (`model.tiers`).
            Sizes and boxes in the results are those of the transformed image; `sha256` stays that of the file.

        Raises
        ------
        ValueError
            If `batch_size` is not positive.
        model.sandbox.SandboxError
            If images are decoded by helper processes, and none can be started: the rest would fail one by one.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        pending: deque = deque()
        waiting: list[_Prepared] = []
        crops = 0
        iterator = iter(sources)
        room = _Room(CROPS_AHEAD * batch_size)

        def prepare(source: Readable) -> _Prepared:
            room.wait()
            prepared = self._prepare(source.name, source.read, transform)
            room.take(len(prepared.crops))
            return prepared

        pool = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        try:
            while True:
                while len(pending) < READ_AHEAD and (source := next(iterator, None)) is not None:
                    pending.append(pool.submit(prepare, source))
                if not pending:
                    break
                waiting.append(pending.popleft().result())
                if (fault := waiting[-1].fault) is not None:
                    raise fault
                crops += len(waiting[-1].crops)
                if crops >= batch_size or len(waiting) >= READ_AHEAD:
                    results = self._finish(waiting, batch_size)
                    room.give(crops)
                    waiting, crops = [], 0
                    yield from results
            if waiting:
                yield from self._finish(waiting, batch_size)
        finally:  # also when the caller stops early: images not yet begun are dropped
            room.open()
            pool.shutdown(cancel_futures=True)

    def crop(self, image: Image.Image, face: Face) -> Image.Image:
        """The square that the network sees of a face in an upright RGB image."""
        return self._framing.cut(image, self._framing.crop_box(face, image.width, image.height))

    def regions(self, face: FaceResult) -> dict[str, np.ndarray]:
        """The regions of an examined face's crop by which its ledger was summed: masks (S, S), see `model.regions`."""
        return masks(self._framing.inside(face.face, face.crop_box), self._framing.side, face.mesh)

    def normalised(self, crop: Image.Image) -> np.ndarray:
        """A crop as the network reads it: (3, S, S), float32."""
        return self._normalise(crop)

    def score(self, crops: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Evidence maps (N, H, W) and logits (N,) of normalised crops, in one batch."""
        batch = np.stack(crops)
        with self._lock:
            return self._runtime.forward(batch)

    def _prepare(
        self,
        name: str,
        read: Callable[[], bytes],
        transform: Callable[[Image.Image], Image.Image] | None = None,
    ) -> _Prepared:
        start = time.perf_counter()
        out = _Prepared(name)
        try:
            data = read()
        except Exception as error:  # noqa: BLE001 - one image must never stop the rest
            detail = str(error) or type(error).__name__
            named = detail.startswith(f"{name}:")
            out.fail("unreadable", detail if named else f"{name}: could not be read ({detail}).")
        else:
            self._examine(data, out, transform)
        out.seconds = time.perf_counter() - start
        return out

    def _examine(self, data: bytes, out: _Prepared, transform: Callable[[Image.Image], Image.Image] | None) -> None:
        """Decode, find faces and cut them out; what fails is noted in `out`."""
        out.size_bytes = len(data)
        try:
            decoded = decode(data)
            image = decoded.pixels if transform is None else transform(decoded.pixels)
            out.sha256, out.format, out.notes = decoded.sha256, decoded.format, decoded.notes
            out.width, out.height = image.size
            out.faces = tuple(_finder().find(image))
            out.boxes = tuple(self._framing.crop_box(face, image.width, image.height) for face in out.faces)
            out.reasons = tuple(quality.reason_against(face) for face in out.faces)
            usable = [place for place, reason in enumerate(out.reasons) if reason is None]
            cut = [self._framing.cut(image, out.boxes[place]) for place in usable]
            out.crops = tuple(np.asarray(crop) for crop in cut)
            out.meshes = tuple(
                find_mesh(crop, self._framing.inside(out.faces[place], out.boxes[place]))
                for crop, place in zip(cut, usable, strict=True)
            )
        except ImageError as error:
            out.fail(error.code, f"{out.name}: {error}")
        except Exception as error:  # noqa: BLE001 - one image must never stop the rest
            out.fail("failed", f"{out.name}: could not be examined ({type(error).__name__}: {error}).")
            out.fault = error if isinstance(error, SandboxError) else None

    def _finish(self, prepared: list[_Prepared], batch_size: int = 16) -> list[ImageResult]:
        crops = [crop for image in prepared for crop in image.crops]  # (S, S, 3)
        scored: list[tuple[np.ndarray, float]] = []
        start = time.perf_counter()
        for first in range(0, len(crops), batch_size):
            evidence, logits = self.score([self._normalise(crop) for crop in crops[first : first + batch_size]])
            scored += [(one, float(logit)) for one, logit in zip(evidence, logits, strict=True)]
        per_crop = (time.perf_counter() - start) / max(len(crops), 1)
        remaining = iter(scored)
        return [self._result(image, remaining, per_crop) for image in prepared]

    def _result(self, image: _Prepared, scored: Iterator[tuple[np.ndarray, float]], per_crop: float) -> ImageResult:
        start = time.perf_counter()
        faces = []
        own = list(islice(scored, len(image.crops)))
        if not all(math.isfinite(logit) for _, logit in own):
            image.fail("failed", f"{image.name}: could not be examined (the network's answer is not a finite number).")
        scores, meshes = iter(own), iter(image.meshes)
        for face, box, reason in zip(image.faces, image.boxes, image.reasons, strict=True):
            if reason is not None:
                faces.append(not_applicable(face, box, reason))
                continue
            evidence, logit = next(scores)
            mesh = next(meshes)
            regions = masks(self._framing.inside(face, box), self._framing.side, mesh)
            p_fake = self._calibration.probability(logit)
            faces.append(
                FaceResult(
                    face=face,
                    crop_box=box,
                    verdict=verdict(p_fake, self.thresholds),
                    logit=logit,
                    p_fake=p_fake,
                    evidence=evidence,
                    bias=self._bias,
                    ledger=ledger(evidence, self._bias, regions),
                    regions_share={name: float(mask.mean()) for name, mask in regions.items()},
                    mesh=mesh,
                )
            )
        examined = [index for index, face in enumerate(faces) if face.p_fake is not None]
        deciding = max(examined, key=lambda index: faces[index].logit or 0.0) if examined else None
        outcome, reason = NOT_APPLICABLE, image.code or (faces[0].reason if faces else "no_face")
        if deciding is not None:
            outcome, reason = faces[deciding].verdict, None
        seconds = image.seconds + per_crop * len(own) + time.perf_counter() - start
        return ImageResult(
            name=image.name,
            verdict=outcome,
            reason=reason,
            thresholds=self.thresholds,
            checkpoint=self.checkpoint.name,
            checkpoint_sha256=self.checkpoint.sha256,
            runtime=self.runtime,
            version=model.__version__,
            sha256=image.sha256,
            size_bytes=image.size_bytes,
            format=image.format,
            width=image.width,
            height=image.height,
            notes=image.notes,
            faces=tuple(faces),
            deciding_face=deciding,
            elapsed_ms=seconds * 1000,
            error=image.error,
        )


class _Room:
    """How many faces may lie between the thread that cuts them out and the network."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._open = False
        self._changed = threading.Condition()

    def wait(self) -> None:
        """Return when there is room, for however many faces come next."""
        with self._changed:
            self._changed.wait_for(lambda: self._open or self._taken < self._size)

    def take(self, faces: int) -> None:
        with self._changed:
            self._taken += faces

    def give(self, faces: int) -> None:
        with self._changed:
            self._taken -= faces
            self._changed.notify_all()

    def open(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._open = True
            self._changed.notify_all()


def _reference(network: LinearHeadNet, precision: str) -> Runtime:
    from model.runtimes._torch import TorchRuntime

    return TorchRuntime(network, precision)


def _finder() -> FaceFinder:
    """One face finder per thread: its networks keep state between calls."""
    if not hasattr(_finders, "finder"):
        _finders.finder = FaceFinder()
    return _finders.finder


__all__ = ["Detector", "Readable"]
