"""The same bulk run on many machines: Ray Data with one detector per process.

`ClusterDetector` takes the place of a `Detector` in `model.bulk.run`, which keeps the journal, resumes and writes the
table as always. Workers get paths, never pixels, and send back rows of the table; a checkpoint is loaded once per
process, by its path and digest, which must be the same on every machine.

Batches depend here on the number of workers, and the journal has the order in which they finish. So, other than with
the local engine, the last bits of a score may differ between two runs, and after a resume.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model.calibration import Thresholds
from model.detector import Detector, Readable
from model.remote import RemoteSource, is_url
from model.sources import Archive, Source

_TASK = 128  # images per task, at most: large enough for full batches, small enough that little is lost with a worker
_STORE_BYTES = 256 * 2**20  # rows are small; Ray would reserve a third of the memory


class ClusterError(ValueError):
    """A run that cannot be made on Ray; the message says what to change."""


@dataclass(frozen=True)
class _Judged:
    """What a worker said about one image."""

    name: str
    entries: list[dict[str, Any]]

    def rows(self) -> list[dict[str, Any]]:
        return self.entries


class ClusterDetector:
    """A detector's identity here, its work on Ray.

    Parameters
    ----------
    detector : Detector
        Loaded from a file that every machine has at the same path.
    workers : int, optional
        Processes, one processor each, and one GPU where the detector's runtime is `cuda`; as many as the cluster has of
        either by default.

    Raises
    ------
    ClusterError
        If Ray is not installed.
    """

    def __init__(self, detector: Detector, *, workers: int | None = None) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ClusterError(
                "the engine ray is not installed. Install it with: pip install -e '.[ray]' -c constraints.txt"
            )
        self.checkpoint, self.thresholds, self.runtime = detector.checkpoint, detector.thresholds, detector.runtime
        self.workers = workers

    def classify_many(self, sources: Iterable[Readable], *, batch_size: int = 16) -> Iterator[_Judged]:
        """Judge images that every machine can read, in whatever order workers finish them.

        Raises
        ------
        ClusterError
            If a source is not a file, a member of a ZIP archive or behind a URL, or a worker has another checkpoint.
        """
        items = [_described(source) for source in sources]
        if not items:
            return
        import ray
        import ray.data

        _connect()
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        gpu = self.runtime.startswith("cuda-")  # then one for each worker
        there = int(ray.cluster_resources().get("GPU" if gpu else "CPU", 0))
        if gpu and not there:
            raise ClusterError("the cluster has no GPU. Choose another runtime.")
        count = self.workers or max(1, there)
        tasks, processes = shares(len(items), count)
        judged = ray.data.from_items(items, override_num_blocks=tasks).map_batches(
            _Worker,
            fn_constructor_kwargs={
                "path": str(self.checkpoint.path.resolve()),
                "sha256": self.checkpoint.sha256,
                "thresholds": asdict(self.thresholds),
                "runtime": self.runtime,
                "batch_size": batch_size,
            },
            batch_size=len(items) // tasks,  # of the smallest; Ray puts smaller ones together
            compute=ray.data.ActorPoolStrategy(size=processes),
            num_cpus=1,
            num_gpus=1 if gpu else 0,
            max_restarts=2,
        )
        try:
            for batch in judged.iter_batches(batch_size=None, batch_format="numpy"):
                for name, rows in zip(batch["name"], batch["rows"], strict=True):
                    yield _Judged(str(name), json.loads(rows))
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            raise ClusterError(
                f"the run on Ray ended early: {cause or error}. What was judged is kept: --resume."
            ) from error


def shares(images: int, workers: int) -> tuple[int, int]:
    """Into how many tasks images are cut, and how many processes share them.

    A few images make smaller tasks, so that every worker gets some; none is started that would get nothing.

    >>> shares(2000, 2), shares(200, 64), shares(3, 64)
    ((16, 2), (64, 64), (3, 3))
    """
    tasks = max(-(-images // _TASK), min(workers, images))
    return tasks, min(workers, tasks)


class _Worker:
    """One process of the cluster: a detector, loaded once."""

    def __init__(self, *, path: str, sha256: str, thresholds: dict[str, Any], runtime: str, batch_size: int) -> None:
        name, precision = runtime.rsplit("-", 1)
        cv2.setNumThreads(1)  # as `threads` below: the processor that a worker asks for
        self.detector = Detector.load(
            path, precision=precision, thresholds=Thresholds(**thresholds), runtime=name, threads=1
        )
        if self.detector.checkpoint.sha256 != sha256:
            raise ClusterError(f"{path} is another checkpoint on this machine. Put the same file on every machine.")
        self.batch_size = batch_size
        self.archives: dict[Path, Archive] = {}  # those of the last batch: opening one reads its whole directory

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        items = [tuple(map(str, item)) for item in zip(batch["name"], batch["location"], batch["member"], strict=True)]
        packed = {Path(location) for _, location, member in items if member and not is_url(location)}
        self.archives = {location: self.archives.get(location) or Archive(location) for location in packed}
        sources = [
            RemoteSource(name, location, member or None)
            if is_url(location)
            else Source(name, Path(location), member or None, self.archives.get(Path(location)))
            for name, location, member in items
        ]
        results = list(self.detector.classify_many(sources, batch_size=self.batch_size))
        return {
            "name": np.array([result.name for result in results], dtype=object),
            "rows": np.array([json.dumps(result.rows()) for result in results], dtype=object),
        }


def _described(source: Readable) -> dict[str, str]:
    if isinstance(source, RemoteSource):
        return {"name": source.name, "location": source.url, "member": source.path or ""}
    if not isinstance(source, Source):
        raise ClusterError(f"{source.name}: is not a file. Ray's workers read files that every machine sees.")
    return {"name": source.name, "location": str(source.location.resolve()), "member": source.member or ""}


def _connect() -> None:
    """Join the cluster that `RAY_ADDRESS` names, or start one on this machine."""
    import ray

    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if not os.environ.get("RAY_ADDRESS"):
        quiet |= {"address": "local", "include_dashboard": False, "object_store_memory": _STORE_BYTES}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves this machine
    try:
        ray.init(**quiet)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        where = os.environ.get("RAY_ADDRESS")
        asked = f"the cluster that RAY_ADDRESS names ({where}) cannot be joined from here"
        hint = (
            ". Run `ray start --address` on this machine first, and set RAY_AUTH_MODE=token if the cluster asks for one"
        )
        raise ClusterError(f"{asked}: {error}{hint}" if where else f"Ray cannot be started here: {error}") from error
