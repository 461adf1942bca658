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
from model.imaging import decode
from model.sources import Source
from model.training.config import ConfigError, DataConfig
from model.training.progress import Log
from model.training.views import box_for

SPLITS = ("train", "val", "test")
_TRAINING_MIN_SCORE = 0.6  # training pictures are known to show a face: a doubtful box beats none


@dataclass(frozen=True)
class Fold:
    """What one leave-one-out fold removes from training; its rows, and real rows of `test`, are then its test."""

    name: str
    held_out: np.ndarray  # (N,) bool over the rows of the table


def load(config: DataConfig, seed: int) -> pd.DataFrame:
    """Read the labelled pictures.

    Returns
    -------
    DataFrame
        One row per picture: `path` (str, absolute), `name`, `label` (0 real, 1 fake), `source`, `generator`, `group`,
        `split` (train, val or test) and `key`, the row's number in the manifest, which seeds its random views.

    Raises
    ------
    ConfigError
        If there are no usable pictures of both labels in train and val.
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
                "group": labelled.frame["name"].astype(str),
            }
        )
        frame["split"] = _random_split(frame["group"], config.validation_share, seed)
    more = [_from_manifest(extra.root, extra.manifest) for extra in config.extra]
    frame = pd.concat([frame, *more], ignore_index=True)
    for split in ("train", "val"):
        labels = set(frame.loc[frame["split"] == split, "label"])
        if labels != {0, 1}:
            raise ConfigError(f"{config.root}: split {split!r} needs pictures of both labels, has {sorted(labels)}")
    return frame.reset_index(names="key")


def _from_manifest(root: Path, manifest: Path) -> pd.DataFrame:
    raw = pd.read_csv(manifest, keep_default_na=False)
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
            "group": raw.get("group", raw["path"]),
            "split": raw["split"],
        }
    )


def _random_split(groups: pd.Series, share: float, seed: int) -> list[str]:
    """Assign whole groups by a hash, so that adding pictures never moves others between splits."""
    split = []
    for group in groups:
        digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
        split.append("val" if int.from_bytes(digest[:8], "big") / 2**64 < share else "train")
    return split


def folds(path: Path, frame: pd.DataFrame) -> list[Fold]:
    """Leave-one-out folds from a CSV with the columns fold, label, source, generator (empty generator: all)."""
    table = pd.read_csv(path, keep_default_na=False)
    out = []
    for name, rules in table.groupby("fold", sort=False):
        held_out = np.zeros(len(frame), dtype=bool)
        for rule in rules.itertuples():
            match = (frame["label"] == (rule.label == "fake")) & (frame["source"] == rule.source)
            if rule.generator:
                match &= frame["generator"] == rule.generator
            held_out |= match.to_numpy()
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
    """The crop of every row, found once and kept in `cache` (JSON, by content hash)."""
    known: dict[str, list[dict]] = json.loads(cache.read_text()) if cache.is_file() else {}
    finder = FaceFinder(min_score=_TRAINING_MIN_SCORE)
    boxes = []
    added = 0
    for path in log.track(frame["path"], "finding faces"):
        data = Path(path).read_bytes()
        key = hashlib.sha256(data).hexdigest()
        image = decode(data).pixels
        if key not in known:
            known[key] = [asdict(face) for face in finder.find(image)]
            added += 1
            if added % 1000 == 0:
                cache.write_text(json.dumps(known))
        faces = [Face(tuple(face["box"]), face["score"], tuple(map(tuple, face["landmarks"]))) for face in known[key]]
        boxes.append(box_for(image, faces, framing))
    if added:
        cache.write_text(json.dumps(known))
    return boxes


def digest(frame: pd.DataFrame) -> str:
    """SHA-256 over the sorted content hashes of the pictures of a table."""
    hashes = sorted(hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in frame["path"])
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
