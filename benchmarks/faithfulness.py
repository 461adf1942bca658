"""`python -m benchmarks.faithfulness --data FOLDER`: which maps are true to the network.

Removal tests (ROAD, deletion, insertion; see `model.faithfulness`) of our evidence map, of the Grad-CAM family, of a
random map and of the centre prior, on the same faces, explained toward `fake`. FOLDER holds `real/` and `fake/`; faces
are taken in turn from the folders in them. Every face is kept as one JSON line in the cache, so that a run can be
continued. With `--write` the table goes into docs/faithfulness.md.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks._page import publish
from model.cam import METHODS, class_activation_maps
from model.checkpoint import CheckpointError
from model.detector import Detector
from model.faithfulness import Curve, centre_prior, random_map, removal
from model.imaging import SUFFIXES, ImageError, decode

PAGE = Path(__file__).parents[1] / "docs" / "faithfulness.md"
OURS = "evidence"
TITLES = {OURS: "Evidence map (ours)", **METHODS, "centre": "Centre prior", "random": "Random map"}
SEED = 0


def chosen(folder: Path, count: int) -> list[Path]:
    """Pictures of both labels in equal number, in turn from each folder, drawn at random but always the same."""
    picked = []
    for label in ("real", "fake"):
        groups: dict[Path, list[Path]] = {}
        for path in sorted((folder / label).rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                groups.setdefault(path.parent, []).append(path)
        for paths in groups.values():
            paths.sort(key=lambda path: hashlib.sha256(path.relative_to(folder).as_posix().encode()).digest())
        turns = itertools.zip_longest(*groups.values())
        picked.append([path for turn in turns for path in turn if path is not None][: count // 2])
    return [path for pair in zip(*picked, strict=False) for path in pair]


def examine(detector: Detector, path: Path, levels: Sequence[float]) -> dict[str, Any] | None:
    """Curves of every map on the deciding face of a picture; None without such a face."""
    data = path.read_bytes()
    result = detector.classify(data, name=path.name)
    face = result.deciding
    if face is None or face.evidence is None:
        return None
    crop = detector.crop(decode(data).pixels, face.face)
    grid = face.evidence.shape
    maps = {OURS: face.evidence, **class_activation_maps(detector, crop)}
    maps |= {"centre": centre_prior(grid), "random": random_map(grid, int(result.sha256[:8], 16))}
    curves = removal(detector, crop, maps, levels=levels, seed=SEED)
    return {
        "logit": face.logit,
        "maps": {name: [curve.most_first, curve.least_first] for name, curve in curves.items()},
    }


def measure(
    detector: Detector, folder: Path, paths: Sequence[Path], levels: Sequence[float], cache: Path, until: float | None
) -> list[dict[str, Any]]:
    """One entry per face, those of earlier runs included; stops when the clock reaches `until`."""
    cache.mkdir(parents=True, exist_ok=True)
    key = f"{detector.checkpoint.name}-{detector.checkpoint.sha256[:12]}-{detector.runtime}"
    kept = cache / f"{key}-{'-'.join(f'{level:g}' for level in levels)}.jsonl"
    entries: dict[str, dict[str, Any]] = {}
    if kept.exists():
        for line in kept.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                entry = json.loads(line)
                entries[entry["image"]] = entry
    names = [path.relative_to(folder).as_posix() for path in paths]
    with kept.open("a", encoding="utf-8") as file:
        for done, (name, path) in enumerate(zip(names, paths, strict=True), start=1):
            if name in entries:
                continue
            if until is not None and time.time() > until:
                print("stopped by --minutes; run again to continue", file=sys.stderr)
                break
            try:
                found = examine(detector, path, levels)
            except ImageError as error:
                print(f"{path}: {error}", file=sys.stderr)
                continue
            entries[name] = {"image": name, "found": found}
            file.write(json.dumps(entries[name]) + "\n")
            file.flush()
            if done % 10 == 0:
                print(f"{detector.checkpoint.name}: {done} of {len(paths)}", file=sys.stderr, flush=True)
    return [entries[name] for name in names if name in entries and entries[name]["found"] is not None]


def table(detector: Detector, entries: Sequence[dict[str, Any]], levels: Sequence[float]) -> str:
    """The figures in Markdown."""
    curves = {
        name: [Curve(tuple(levels), *map(tuple, entry["found"]["maps"][name])) for entry in entries] for name in TITLES
    }
    road = {name: np.array([curve.road for curve in all_of]) for name, all_of in curves.items()}
    fake = sum(entry["image"].startswith("fake/") for entry in entries)
    lines = [
        f"### `{detector.checkpoint.name}`",
        "",
        f"SHA-256 `{detector.checkpoint.sha256}`, {detector.runtime}; {len(entries)} faces, {fake} of them generated; "
        f"{', '.join(f'{level:.0%}' for level in levels)} of the pixels filled in.",
        "",
        "| Map | ROAD, log-odds | Deletion | Insertion | Ours is better on | p |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in sorted(TITLES, key=lambda name: -float(road[name].mean())):
        deletion, insertion = (
            float(np.mean([getattr(curve, what) for curve in curves[name]])) for what in ("deletion", "insertion")
        )
        better, p = ("", "") if name == OURS else _against(road[OURS], road[name])
        lines.append(
            f"| {TITLES[name]} | {_interval(road[name])} | {deletion:+.2f} | {insertion:+.2f} | {better} | {p} |"
        )
    return "\n".join(lines) + "\n"


def _against(ours: np.ndarray, other: np.ndarray) -> tuple[str, str]:
    difference = ours - other
    if not np.any(np.abs(difference) > 1e-9):
        return "the same everywhere", ""
    p = float(stats.wilcoxon(difference).pvalue)
    return f"{np.mean(difference > 0):.0%} of faces", f"{p:.1e}" if p < 0.001 else f"{p:.3f}"


def _interval(values: np.ndarray) -> str:
    mean = float(values.mean())
    if len(values) < 2:
        return f"{mean:+.3f}"
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def main() -> int:
    """Measure, print and, if asked, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faithfulness", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds real/ and fake/")
    parser.add_argument("--images", type=int, default=200, help="pictures, half of them real (default 200)")
    parser.add_argument("--checkpoint", help="name or path; the default checkpoint if not given")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="arithmetic (default fp32)")
    parser.add_argument("--levels", default="0.2,0.5,0.8", help="shares to fill in (default 0.2,0.5,0.8)")
    parser.add_argument("--cache", type=Path, default=Path("runs/faithfulness"), help="folder of finished faces")
    parser.add_argument("--minutes", type=float, help="stop after so long with what is there")
    parser.add_argument("--write", action="store_true", help="write the table into docs/faithfulness.md")
    options = parser.parse_args()
    until = None if options.minutes is None else time.time() + 60 * options.minutes
    try:
        levels = tuple(float(level) for level in options.levels.split(","))
        paths = chosen(options.data, options.images)
        if not paths:
            raise ValueError(f"{options.data}: holds no pictures in real/ and fake/")
        detector = Detector.load(options.checkpoint, precision=options.precision)
        entries = measure(detector, options.data, paths, levels, options.cache, until)
        if not entries:
            raise ValueError(f"{options.data}: no face was examined")
    except (CheckpointError, OSError, ValueError) as error:
        print(f"benchmarks.faithfulness: {error}", file=sys.stderr)
        return 2
    text = table(detector, entries, levels)
    publish(text, PAGE, f"faithfulness of {detector.checkpoint.name}", write=options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
