"""Training pictures as a table, their faces, their weights, and the leave-one-out folds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from model.dataset import load_labelled
from model.faces import Face, FaceFinder, Framing
from model.files import write_whole
from model.imaging import ImageError, decode
from model.sources import Source
from model.training.config import ConfigError, DataConfig
from model.training.progress import Log
from model.training.views import box_for

SPLITS = ("train", "val", "test")
_TRAINING_MIN_SCORE = 0.6  # training pictures are known to show a face: a doubtful box beats none


@dataclass(frozen=True)
class Fold:
    """What one leave-one-out fold removes from training, and is then tested on (`leave_one_out.rows_tested`)."""

    name: str
    held_out: np.ndarray  # (N,) bool over the rows of the table


def load(config: DataConfig, seed: int) -> pd.DataFrame:
    """Read the labelled pictures.

    Returns
    -------
    DataFrame
        One row per picture: `path` (str, absolute), `name`, `label` (0 real, 1 fake), `source`, `generator`,
        `split` (train, val or test), `sha256` of the file, and `key`, the row's number in the table, which seeds its
        random views.

    Raises
    ------
    ConfigError
        If a table or a picture cannot be read, or there are no usable pictures of both labels in train and val.
    """
    if config.manifest is not None:
        frame = _from_manifest(config.root, config.manifest)
    else:
        labelled = load_labelled(config.root)
        if not all(isinstance(source, Source) and source.member is None for source in labelled.sources):
            raise ConfigError(f"{config.root}: training reads a folder or a manifest; unpack the archive first")
        frame = pd.DataFrame(
            {
                "path": [str(source.location) for source in labelled.sources if isinstance(source, Source)],
                "name": labelled.frame["name"].astype(str),
                "label": labelled.frame["label"].astype(int),
                "source": labelled.frame["group"].astype(str),
                "generator": "",
            }
        )
        frame["split"] = ""
    more = [_from_manifest(extra.root, extra.manifest) for extra in config.extra]
    frame = pd.concat([frame, *more], ignore_index=True)
    frame["sha256"] = [hashlib.sha256(_read(path)).hexdigest() for path in frame["path"]]
    unassigned = frame["split"] == ""
    frame.loc[unassigned, "split"] = _random_split(frame.loc[unassigned, "sha256"], config.validation_share, seed)
    for split in ("train", "val"):
        labels = set(frame.loc[frame["split"] == split, "label"])
        if labels != {0, 1}:
            raise ConfigError(f"{config.root}: split {split!r} needs pictures of both labels, has {sorted(labels)}")
    return frame.reset_index(names="key")


def _from_manifest(root: Path, manifest: Path) -> pd.DataFrame:
    raw = _table(manifest)
    missing = {"path", "label", "split"} - set(raw.columns)
    if missing:
        raise ConfigError(f"{manifest}: lacks the column(s) {', '.join(sorted(missing))}")
    raw = raw[raw["split"].isin(SPLITS) & raw["label"].isin(("real", "fake"))]
    return pd.DataFrame(
        {
            "path": [str((root / path).resolve()) for path in raw["path"]],
            "name": raw["path"],
            "label": (raw["label"] == "fake").astype(int),
            "source": raw.get("source", ""),
            "generator": raw.get("generator", ""),
            "split": raw["split"],
        }
    )


def _table(path: Path) -> pd.DataFrame:
    """A CSV table as text: what looks like a number may be a name."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # ValueError: pandas' errors of parsing, and text that is not UTF-8
        raise ConfigError(f"{path}: cannot be read as a CSV table ({error})") from error


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error


def _random_split(pictures: pd.Series, share: float, seed: int) -> list[str]:
    """Assign pictures by their content: copies stay together, and adding pictures never moves others."""
    split = []
    for picture in pictures:
        digest = hashlib.sha256(f"{seed}:{picture}".encode()).digest()
        split.append("val" if int.from_bytes(digest[:8], "big") / 2**64 < share else "train")
    return split


def folds(path: Path, frame: pd.DataFrame) -> list[Fold]:
    """Leave-one-out folds from a CSV with the columns fold, label, source, generator (empty generator: all).

    Raises
    ------
    ConfigError
        If the table cannot be read, a label is unknown, or a fold holds out nothing or all of a label.
    """
    table = _table(path)
    if missing := {"fold", "label", "source", "generator"} - set(table.columns):
        raise ConfigError(f"{path}: lacks the column(s) {', '.join(sorted(missing))}")
    if unknown := set(table["label"]) - {"real", "fake"}:
        raise ConfigError(f"{path}: label must be real or fake, not {min(unknown)!r}")
    out = []
    for name, rules in table.groupby("fold", sort=False):
        held_out = np.zeros(len(frame), dtype=bool)
        for rule in rules.itertuples():
            match = (frame["label"] == (rule.label == "fake")) & (frame["source"] == rule.source)
            if rule.generator:
                match &= frame["generator"] == rule.generator
            held_out |= match.to_numpy()
        if not held_out.any():
            raise ConfigError(f"{path}: fold {name!r} holds out no picture; do its sources and generators exist?")
        for split in ("train", "val"):
            if set(frame.loc[(frame["split"] == split) & ~held_out, "label"]) != {0, 1}:
                raise ConfigError(f"{path}: without fold {name!r}, split {split!r} has not both labels")
        out.append(Fold(str(name), held_out))
    return out


def importance(frame: pd.DataFrame) -> np.ndarray:
    """Weight of each row (N,) such that a source counts as the square root of its size."""
    kind = _kind(frame)
    return 1 / np.sqrt(kind.map(kind.value_counts()).to_numpy(dtype=float))


def balanced_weights(frame: pd.DataFrame) -> np.ndarray:
    """Weight per row: labels weigh the same, and a source within a label as the square root of its size.

    Returns
    -------
    ndarray of shape (N,), float64
        Sums to one.
    """
    weights = importance(frame)
    for label in (0, 1):
        mine = frame["label"].to_numpy() == label
        if mine.any():
            weights[mine] /= 2 * weights[mine].sum()
    return weights


def sample_by_source(frame: pd.DataFrame, among: np.ndarray, count: int, seed: int) -> np.ndarray:
    """At most `count` rows of each source and generator among the rows of a mask (N,), in rising order."""
    kinds = _kind(frame).to_numpy()
    candidates = np.random.default_rng(seed).permutation(np.flatnonzero(among))
    place = pd.Series(kinds[candidates]).groupby(kinds[candidates]).cumcount().to_numpy()  # among its own kind
    return np.sort(candidates[place < count])


def _kind(frame: pd.DataFrame) -> pd.Series:
    return frame["label"].astype(str) + "/" + frame["source"] + "/" + frame["generator"]


def crop_boxes(frame: pd.DataFrame, framing: Framing, cache: Path, log: Log) -> list[tuple[float, float, float, float]]:
    """The crop of every row, found once and kept in `cache` (JSON, by content hash).

    Raises
    ------
    ConfigError
        If a picture cannot be decoded.
    """
    known: dict[str, list[dict]] = json.loads(cache.read_text()) if cache.is_file() else {}
    finder = FaceFinder(min_score=_TRAINING_MIN_SCORE)
    boxes = []
    added = 0
    for path, key in log.track(list(zip(frame["path"], frame["sha256"], strict=True)), "finding faces"):
        try:
            image = decode(_read(path)).pixels
        except ImageError as error:
            raise ConfigError(f"{path}: {error}") from error
        if key not in known:
            known[key] = [asdict(face) for face in finder.find(image)]
            added += 1
            if added % 1000 == 0:
                _keep(known, cache)
        faces = [Face(tuple(face["box"]), face["score"], tuple(map(tuple, face["landmarks"]))) for face in known[key]]
        boxes.append(box_for(image, faces, framing))
    if added:
        _keep(known, cache)
    return boxes


def _keep(known: dict[str, list[dict]], cache: Path) -> None:
    write_whole(cache, lambda partial: partial.write_text(json.dumps(known)))


def digest(frame: pd.DataFrame) -> str:
    """SHA-256 over the sorted content hashes of the pictures of a table."""
    return hashlib.sha256("\n".join(sorted(frame["sha256"])).encode()).hexdigest()
