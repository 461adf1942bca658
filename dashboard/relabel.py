"""Other labels for the images of an evaluation: as a manifest, or as a new run that reuses what was judged.

The visitor's own files and the run that is corrected stay as they are.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from dashboard import tasks
from dashboard.store import Run, RunStore, StoreError, write_atomically
from dashboard.tasks import EvaluationResult
from model.dataset import LABELS, LabelledSet
from model.results import guard_text

LEFT_OUT = "left out"
CHOICES = (*LABELS, LEFT_OUT)


@dataclass(frozen=True)
class Correction:
    """What one image is to be; None leaves a part as it was.

    Attributes
    ----------
    label : str or None
        One of `CHOICES`.
    group : str or None
    """

    label: str | None = None
    group: str | None = None


def corrected(labelled: LabelledSet, changes: Mapping[str, Correction]) -> LabelledSet:
    """The set with other labels and groups, by name; what is left out is in `skipped`.

    Raises
    ------
    ValueError
        If nothing is left.
    """
    frame = labelled.frame.copy()
    labels = frame["name"].map(lambda name: changes.get(name, Correction()).label)
    groups = frame["name"].map(lambda name: changes.get(name, Correction()).group)
    frame["label_name"] = labels.where(labels.notna(), frame["label_name"])
    frame["group"] = groups.where(groups.notna(), frame["group"])
    kept = frame["label_name"] != LEFT_OUT
    if not kept.any():
        raise ValueError("Every picture is left out: nothing remains to be measured.")
    skipped = [*labelled.skipped, *((str(name), "left out by hand") for name in frame["name"][~kept])]
    sources = [source for source, keep in zip(labelled.sources, kept, strict=True) if keep]
    frame = frame[kept].reset_index(drop=True)
    frame["label"] = frame["label_name"].map({name: label for label, name in enumerate(LABELS)}).astype(int)
    counted = Counter(frame["label_name"])
    folders = pd.DataFrame(
        [
            {"folder": f"{name}, as corrected", "label": name, "images": counted[name]}
            for name in LABELS
            if counted[name]
        ]
    )
    return LabelledSet(sources, frame, folders, skipped)


def manifest(labelled: LabelledSet) -> pd.DataFrame:
    """The set as `reality-check evaluate` reads it: `path`, `label`, then what else is known of each image."""
    frame = labelled.frame.drop(columns="label").rename(columns={"name": "path", "label_name": "label"})
    return frame[["path", "label", *(name for name in frame if name not in ("path", "label"))]]


def manifest_csv(labelled: LabelledSet) -> bytes:
    """The manifest for people and spreadsheets, which run nothing in it; its paths stay those of the same files."""
    frame = manifest(labelled)
    frame["path"] = [f"./{path}" if guard_text(path) != path else path for path in frame["path"]]
    return tasks.csv_bytes(frame)


def copy_run(store: RunStore, run: Run, result: EvaluationResult, labelled: LabelledSet) -> Run:
    """A new run on the same images with the labels of `labelled`, ready to be queued; nothing is judged again.

    Raises
    ------
    StoreError
        If it cannot be written, or `run` is damaged; nothing is left of it then.
    """
    try:
        inputs = pd.read_parquet(run.folder / "inputs.parquet")  # places in the run's folder are kept relative to it
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError("This run is damaged: its list of pictures cannot be read.") from error
    new = store.create(
        run.kind,
        f"{run.name}, relabelled",
        checkpoint=run.checkpoint,
        checkpoint_sha256=run.checkpoint_sha256,
        settings=run.settings,
        origin=run.origin,
        owner=run.owner,
        purpose=run.purpose,
    )
    try:
        _copy(run.uploads, new.uploads)
        names = set(labelled.frame["name"])
        about = {"skipped": labelled.skipped, "folders": labelled.folders.to_dict("list")}
        predictions = result.predictions[result.predictions["path"].isin(names)].reset_index(drop=True)
        write_atomically(new.folder / "labels.parquet", tasks.parquet_bytes(labelled.frame))
        write_atomically(new.folder / "inputs.json", tasks.json_bytes(about))
        write_atomically(new.table, tasks.parquet_bytes(predictions))
        kept = inputs[inputs["name"].isin(names)].reset_index(names="position")
        small = tasks.load_thumbnails(run)
        tasks.keep_thumbnails(
            new, {now: small[before] for now, before in enumerate(kept.pop("position")) if before in small}
        )
        write_atomically(new.folder / "inputs.parquet", tasks.parquet_bytes(kept))
        return store.update(new.id, total=len(kept)) or new
    except BaseException as error:  # whatever it was: a run that cannot begin must not wait for ever
        with suppress(StoreError):  # out of sight all the same
            store.discard(new.id)
        if isinstance(error, (OSError, StoreError)):
            reason = (error.strerror or "the server's disk") if isinstance(error, OSError) else error
            raise StoreError(f"The relabelled run cannot be written ({reason}).") from error
        raise


def _copy(source: Path, target: Path) -> None:
    """The files of a folder in another one: links where the disk can, so that no room is taken twice."""

    def link(here: str, there: str) -> None:
        try:
            os.link(here, there)
        except OSError:
            shutil.copy2(here, there)

    shutil.copytree(source, target, copy_function=link, dirs_exist_ok=True)
