"""`python -m benchmarks.aligned`: whether photographs that passed a latent decoder help to find generators never seen.

Aligned fakes show what their photograph shows and differ in the traces of a latent decoder alone: AlignedForensics
(Rajan et al. 2025) and DDA (Chen et al. 2025, "Dual Data Alignment") train on such pairs. Made are plain
reconstructions, and mixtures, which keep some of the photograph's high frequencies and some of its pixels' values, so
that softness alone gives nothing away. They come from training photographs that no fold holds out, and join training
only: every row of the table is tested on the same pictures, by the same folds.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

from benchmarks._page import machine, publish, table
from benchmarks.ablations import FIGURES, PAGE, arguments, drawn_at_random, loader_of, measure, penalty_of
from model.checkpoint import CheckpointError
from model.detector import Detector
from model.imaging import decode
from model.training import data
from model.training.config import ConfigError
from model.training.features import mean_cells
from model.training.progress import Log
from model.training.synthesise import Autoencoder, load_taef2, reconstruct

KINDS = ("reconstruction", "mixture")
ROWS: dict[str, tuple[str, ...]] = {
    "as shipped": (),
    "and {count} reconstructions": ("reconstruction",),
    "and {count} mixtures": ("mixture",),
    "and both": KINDS,
}


def main() -> int:
    """Measure, print and, if asked, write."""
    parser = arguments("aligned", __doc__.split("\n")[0])
    parser.add_argument("--autoencoder", type=Path, required=True, help="weights of taef2, safetensors")
    parser.add_argument("--fakes", type=int, default=512, help="aligned fakes of either kind (default 512)")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    log = Log(options.cache)
    try:
        frame = drawn_at_random(options)
        folds = data.folds(options.folds, frame)
        autoencoder = load_taef2(options.autoencoder)
        made = aligned(frame, folds, options.fakes, autoencoder, options.cache / "fakes", log)
        detector = Detector.load()
    except (CheckpointError, ConfigError, FileNotFoundError) as error:
        print(f"benchmarks.aligned: {error}", file=sys.stderr)
        return 2
    both = pd.concat([frame, made], ignore_index=True)
    both["key"] = np.arange(len(both))
    key = detector.checkpoint.sha256
    loader = loader_of(detector, both, options.cache, log)
    rows = np.arange(len(both))
    values = mean_cells(detector.network, loader, rows, "clean", options.cache / "features", log, key=key)
    folds = data.folds(options.folds, both)
    found = []
    for title, kinds in ROWS.items():
        title = title.format(count=options.fakes)
        log.line(title)
        used = both["generator"].isin((*frame["generator"], *kinds)).to_numpy()
        mine = both[used].reset_index(drop=True)
        own = [data.Fold(fold.name, fold.held_out[used]) for fold in folds]
        found.append([title, *(f"{x:.3f}" for x in measure(mine, own, values[used], penalty_of(detector), log))])
    text = "\n\n".join(
        (
            f"**Aligned fakes**: photographs passed through the decoder of taef2. {machine()} Written by `python -m "
            "benchmarks.aligned --data FOLDER --folds TABLE --autoencoder FILE --write` on "
            f"{len(frame):,} pictures drawn at random, clean views, penalty {penalty_of(detector):g}.",
            table(("Trained on", *FIGURES), found),
        )
    )
    publish(text, PAGE, "aligned", write=options.write)
    return 0


def aligned(
    frame: pd.DataFrame, folds: Sequence[data.Fold], count: int, autoencoder: Autoencoder, folder: Path, log: Log
) -> pd.DataFrame:
    """Write `count` fakes of either kind, as a table like `frame`; photographs are drawn evenly from their sources."""
    held_out = np.logical_or.reduce([fold.held_out for fold in folds])
    usable = np.flatnonzero((frame["split"] == "train") & (frame["label"] == 0) & ~held_out)
    chance = data.importance(frame.iloc[usable])
    rng = np.random.default_rng(0)
    drawn = rng.choice(usable, min(count, len(usable)), replace=False, p=chance / chance.sum())
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for row in log.track(drawn, "aligned fakes"):
        photograph = decode(Path(frame["path"][row]).read_bytes()).pixels
        again = reconstruct(autoencoder, photograph)
        quality = int(rng.integers(75, 96))  # as the photograph was stored; the same for both kinds
        for kind, picture in zip(KINDS, (again, mixed(photograph, again, rng)), strict=True):
            path = folder / f"{kind}_{row}.jpg"
            picture.save(path, quality=quality)
            own = {
                "path": str(path),
                "name": path.name,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "label": 1,
                "source": kind,
                "generator": kind,
                "split": "train",
            }
            rows.append(frame.iloc[row].to_dict() | own)
    return pd.DataFrame(rows)


def mixed(photograph: Image.Image, again: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A reconstruction with a random share of the photograph's high frequencies and of its values."""
    blur = ImageFilter.GaussianBlur(float(rng.uniform(0.7, 2.5)))
    original, decoded = (np.asarray(image, np.float32) for image in (photograph, again))
    high, low = original - np.asarray(photograph.filter(blur)), np.asarray(again.filter(blur))
    decoded = decoded + float(rng.uniform(0, 1)) * (low + high - decoded)
    share = float(rng.uniform(0, 0.5))
    return Image.fromarray((share * original + (1 - share) * decoded).round().clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    sys.exit(main())
