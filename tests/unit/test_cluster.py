"""The Ray engine: the same verdicts as the local one, resumable, clear refusals."""

from __future__ import annotations

import importlib.util
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from model import bulk, cluster
from model.detector import Detector, Readable
from model.sources import MemorySource, Source, from_zip

IMAGES = 6


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """A cluster of two processes on this machine."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the extra ray is not installed")
    os.environ.setdefault("RAY_worker_niceness", "0")  # by default workers wait for all else on the machine
    import ray

    yield
    ray.shutdown()


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    """Pictures with a face, one without, one broken. The workers use the real face finder."""
    from tests.support import draw_face, encode

    found = []
    for index in range(IMAGES):
        path = tmp_path / f"{index}.png"
        path.write_bytes(encode(draw_face(160, skin=(225 - 9 * index, 175 - 5 * index, 150))))
        found.append(Source(path.name, path))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    return [*found, Source("broken.jpg", tmp_path / "broken.jpg")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own, of several libraries
def test_the_table_is_that_of_the_local_engine(
    ray: None, sources: list[Source], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    detector = Detector.load(tiny_checkpoint)
    local, remote = tmp_path / "local.parquet", tmp_path / "ray.parquet"
    bulk.run(detector, sources, local)
    summary = bulk.run(cluster.ClusterDetector(detector, workers=1), sources, remote)
    assert summary.images == IMAGES + 1 and [name for name, _ in summary.failed] == ["broken.jpg"]
    a, b = (pd.read_parquet(path).drop(columns="elapsed_ms") for path in (local, remote))
    assert list(a["path"]) == list(b["path"])
    exact = [column for column in a if not pd.api.types.is_float_dtype(a[column])]
    pd.testing.assert_frame_equal(a[exact], b[exact])
    for column in set(a) - set(exact):
        np.testing.assert_allclose(a[column], b[column], atol=1e-4, err_msg=column)
    again = bulk.run(cluster.ClusterDetector(detector, workers=1), sources, remote, resume=True)
    assert again.taken_over == IMAGES  # all but the broken one, which is tried again


@pytest.mark.parametrize("workers", [1, 3, 64])
@pytest.mark.parametrize("images", [1, 3, 127, 129, 200, 100_000])
def test_no_worker_is_idle_and_no_task_too_large(images: int, workers: int) -> None:
    tasks, processes = cluster.shares(images, workers)
    assert images / 128 <= tasks <= images
    assert processes == min(images, workers) and processes <= tasks
    assert tasks < images / 128 + 1 or tasks == processes  # cut smaller for the sake of workers alone


def test_what_workers_cannot_read_is_refused(tiny_checkpoint: Path, picture: Callable[..., bytes]) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the extra ray is not installed")
    detector = cluster.ClusterDetector(Detector.load(tiny_checkpoint))
    with pytest.raises(cluster.ClusterError, match="upload.png: is not a file"):
        list(detector.classify_many([MemorySource("upload.png", picture(0))]))


def test_without_ray_the_engine_says_how_to_install_it(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector.load(tiny_checkpoint)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(cluster.ClusterError, match=r"pip install -e '\.\[ray\]'"):
        cluster.ClusterDetector(detector)


def test_a_worker_refuses_another_checkpoint(tiny_checkpoint: Path) -> None:
    detector = Detector.load(tiny_checkpoint)
    with pytest.raises(cluster.ClusterError, match="another checkpoint on this machine"):
        cluster._Worker(
            path=str(tiny_checkpoint),
            sha256="0" * 64,
            thresholds=vars(detector.thresholds),
            runtime=detector.runtime,
            batch_size=4,
        )


def worker_of(detector: Detector) -> cluster._Worker:
    return cluster._Worker(
        path=str(detector.checkpoint.path),
        sha256=detector.checkpoint.sha256,
        thresholds=vars(detector.thresholds),
        runtime=detector.runtime,
        batch_size=16,
    )


def batch_of(sources: Sequence[Readable]) -> dict[str, np.ndarray]:
    items = [cluster._described(source) for source in sources]
    return {key: np.array([item[key] for item in items], dtype=object) for key in ("name", "location", "member")}


def test_a_worker_opens_an_archive_once_and_keeps_those_that_it_needs(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    found = []
    for name in ("a", "b"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for number in range(4):
                archive.writestr(f"{number}.jpg", b"\xff\xd8 not a picture")
        found.append(from_zip(tmp_path / f"{name}.zip"))
    worker = worker_of(Detector.load(tiny_checkpoint))
    opened: list[object] = []

    class Opened(zipfile.ZipFile):
        def __init__(self, file: Path) -> None:
            opened.append(file)
            super().__init__(file)

    monkeypatch.setattr(zipfile, "ZipFile", Opened)
    for part in (found[0][:2], found[0][2:], found[1][:2], found[1][2:]):
        rows = [json.loads(rows)[0] for rows in worker(batch_of(part))["rows"]]
        assert [row["reason"] for row in rows] == ["unknown_format"] * 2
    assert opened == [tmp_path / "a.zip", tmp_path / "b.zip"]
    assert list(worker.archives) == [tmp_path / "b.zip"]


def test_a_worker_gives_the_rows_of_the_local_engine(
    sources: list[Source], tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    detector = Detector.load(tiny_checkpoint)
    out = worker_of(detector)(batch_of(sources))
    assert list(out["name"]) == [source.name for source in sources]
    judged = cluster._Judged(str(out["name"][0]), json.loads(out["rows"][0]))
    (row,), (expected,) = judged.rows(), next(iter(detector.classify_many(sources[:1]))).rows()
    assert row["verdict"] == expected["verdict"] and row["logit"] == pytest.approx(expected["logit"], abs=1e-4)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", "Ray cannot be started here: no"),
        ("auto", r"RAY_ADDRESS names \(auto\) cannot be joined from here: no.*RAY_AUTH_MODE=token"),
    ],
)
def test_a_cluster_that_is_not_there_is_no_fault_of_the_table(
    address: str,
    said: str,
    sources: list[Source],
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray")

    def fail(**options: object) -> None:
        assert (options.get("address") == "local") == (not address)
        raise ray.exceptions.RayError("no") if address else ConnectionError("no")

    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(cluster.ClusterError, match=said):
        bulk.run(cluster.ClusterDetector(Detector.load(tiny_checkpoint)), sources, tmp_path / "out.csv")
