"""What all sessions of this process share: loaded networks and the background queue. Nothing of any visitor."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import streamlit as st
import torch

from dashboard.jobs import JobQueue
from dashboard.settings import get_settings
from model.checkpoint import WEIGHTS, CheckpointError, CheckpointInfo, read_info, resolve
from model.detector import Detector


def detector(name: str | None = None) -> Detector:
    """The shared detector of a bundled checkpoint, or of the configured default.

    Raises
    ------
    model.checkpoint.CheckpointError
        If there is no such checkpoint or it is refused.
    """
    info = checkpoint(name)
    settings = get_settings()
    return _load(str(info.path), info.sha256, settings.precision, settings.threads)


def checkpoint(name: str | None = None) -> CheckpointInfo:
    """Header and digest of a checkpoint; the file is hashed again only when it changed."""
    path = resolve(name or get_settings().default_checkpoint)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path.name} does not exist; see the setting default_checkpoint")
    status = path.stat()
    return _read(str(path), status.st_mtime_ns, status.st_size)


def checkpoints() -> list[CheckpointInfo]:
    """The configured default, then every other bundled checkpoint that can be read."""
    found: list[CheckpointInfo] = []
    with suppress(CheckpointError):  # the models page reports an unusable default apart
        found.append(checkpoint())
    for path in sorted(WEIGHTS.glob("*.safetensors")):
        try:
            info = checkpoint(path.stem)
        except CheckpointError:
            continue
        if all(info.sha256 != other.sha256 for other in found):
            found.append(info)
    return found


@st.cache_resource(show_spinner=False)
def job_queue() -> JobQueue:
    """The one background queue of this process."""
    settings = get_settings()
    return JobQueue(
        settings.data_dir / "spool",
        max_queued=settings.max_queued_jobs,
        keep=settings.keep_jobs,
        keep_hours=settings.keep_hours,
    )


@st.cache_resource(max_entries=8, show_spinner=False)
def _read(path: str, modified: int, size: int) -> CheckpointInfo:  # modified and size are part of the key
    return read_info(Path(path))


@st.cache_resource(max_entries=2, show_spinner="Loading the network …")
def _load(path: str, sha256: str, precision: str, threads: int) -> Detector:  # the digest is part of the key
    if threads:
        torch.set_num_threads(threads)
    return Detector.load(path, precision=precision)
