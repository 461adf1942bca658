"""The usual ledger: what each region brings in real and in generated faces, measured once beside each checkpoint.

`python -m model.typical --data FOLDER` judges labelled faces and writes `NAME.typical.json` beside the weights, which
stay as they are. A file that was measured with other weights is not used.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.checkpoint import CheckpointError, CheckpointInfo, read_info, resolve
from model.detector import Detector
from model.imaging import SUFFIXES
from model.regions import REGIONS
from model.sources import Source

FORMAT = 3
QUANTILES = (5, 25, 50, 75, 95)  # percent
MIN_FACES = 20  # of a label, below which its quantiles say nothing


@dataclass(frozen=True)
class Band:
    """Log-odds of one region over many faces of one label: quantiles of `QUANTILES`."""

    p5: float
    p25: float
    p50: float
    p75: float
    p95: float


@dataclass(frozen=True)
class Unusual:
    """A region that brings more, or less, than nine in ten real faces do.

    Attributes
    ----------
    region : str
    value : float
        Log-odds.
    band : Band
        Of real faces.
    """

    region: str
    value: float
    band: Band

    @property
    def above(self) -> bool:
        """Whether it brings more: it is more like a generated face, else more like a photograph."""
        return self.value > self.band.p95


@dataclass(frozen=True)
class Typical:
    """The usual ledger of a checkpoint.

    Attributes
    ----------
    real, fake : mapping of str to Band
        By region.
    above_real, above_fake : float
        Share in [0, 1] of the faces that have a region above the 95th percentile of real faces: what finding one is
        worth.
    n_real, n_fake : int
        Faces measured.
    """

    checkpoint: str
    checkpoint_sha256: str
    real: Mapping[str, Band]
    fake: Mapping[str, Band]
    above_real: float
    above_fake: float
    n_real: int
    n_fake: int

    def unusual(self, ledger: Mapping[str, float]) -> list[Unusual]:
        """Regions outside the band from the 5th to the 95th percentile of real faces, the farthest outside first."""
        found = [
            Unusual(name, ledger[name], band)
            for name, band in self.real.items()
            if name in ledger and not band.p5 <= ledger[name] <= band.p95
        ]
        return sorted(found, key=lambda one: -max(one.value - one.band.p95, one.band.p5 - one.value))


def path_of(info: CheckpointInfo) -> Path:
    """Where a checkpoint's usual ledger lies."""
    return info.path.with_suffix(".typical.json")


def load(checkpoint: CheckpointInfo | str | Path | None = None) -> Typical | None:
    """The usual ledger of a checkpoint, given as `Detector.load` takes it; None where none was measured with it.

    Raises
    ------
    model.checkpoint.CheckpointError
        If there is no such checkpoint, or the file beside it is damaged.
    """
    info = checkpoint if isinstance(checkpoint, CheckpointInfo) else read_info(resolve(checkpoint))
    path = path_of(info)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["checkpoint_sha256"] != info.sha256:
            return None
        bands = {
            label: {name: Band(*(float(value) for value in content[label][name])) for name in REGIONS}
            for label in ("real", "fake")
        }
        above = float(content["above"]["real"]), float(content["above"]["fake"])
        counts = int(content["n_real"]), int(content["n_fake"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path.name}: is damaged ({error}). Write it again with python -m model.typical."
        ) from error
    return Typical(info.name, info.sha256, bands["real"], bands["fake"], *above, *counts)


def measure(detector: Detector, folder: Path, count: int) -> dict[str, Any]:
    """Judge faces of both labels and take quantiles of their ledgers; returns what is to be written.

    Parameters
    ----------
    folder : Path
        Holds `real/` and `fake/`; pictures are taken in turn from the folders in them, always the same ones.
    count : int
        Pictures, half of them real.

    Raises
    ------
    ValueError
        If a label has fewer than `MIN_FACES` faces.
    """
    content: dict[str, Any] = {
        "format": FORMAT,
        "checkpoint": detector.checkpoint.name,
        "checkpoint_sha256": detector.checkpoint.sha256,
        "runtime": detector.runtime,
        "quantiles": QUANTILES,
    }
    measured: dict[str, np.ndarray] = {}
    for label in ("real", "fake"):
        paths = pictures(folder / label, count // 2)
        results = detector.classify_many(Source(path.name, path) for path in paths)
        ledgers = [result.deciding.ledger for result in results if result.deciding is not None]
        if len(ledgers) < MIN_FACES:
            raise ValueError(f"{folder / label}: {len(ledgers)} faces were examined; it takes {MIN_FACES}.")
        measured[label] = np.array([[one[name] for name in REGIONS] for one in ledgers])  # (faces, regions)
        content[f"n_{label}"] = len(ledgers)
        content[label] = {
            name: [round(float(value), 5) for value in quantiles]
            for name, quantiles in zip(REGIONS, np.percentile(measured[label], QUANTILES, axis=0).T, strict=True)
        }
    high = np.percentile(measured["real"], QUANTILES[-1], axis=0)
    content["above"] = {
        label: round(float((values > high).any(axis=1).mean()), 4) for label, values in measured.items()
    }
    return content


def pictures(folder: Path, count: int) -> list[Path]:
    """Pictures of a folder, in turn from each folder in it, drawn at random but always the same."""
    groups: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            groups.setdefault(path.parent, []).append(path)
    for paths in groups.values():
        paths.sort(key=lambda path: hashlib.sha256(path.relative_to(folder).as_posix().encode()).digest())
    turns = itertools.zip_longest(*groups.values())
    return [path for turn in turns for path in turn if path is not None][:count]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m model.typical", description="Measure the usual ledger.")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds real/ and fake/, not trained on")
    parser.add_argument("--images", type=int, default=300, help="pictures, half of them real (default 300)")
    parser.add_argument("--checkpoint", help="name or path; the default checkpoint if not given")
    options = parser.parse_args(arguments)
    try:
        detector = Detector.load(options.checkpoint)
        content = measure(detector, options.data, options.images)
        path = path_of(detector.checkpoint)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except (CheckpointError, OSError, ValueError) as error:
        print(f"model.typical: {error}", file=sys.stderr)
        return 2
    print(f"{path}: {content['n_real']} real and {content['n_fake']} generated faces")
    return 0


if __name__ == "__main__":
    sys.exit(main())
