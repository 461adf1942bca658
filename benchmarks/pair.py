"""`python -m benchmarks.pair`: whether both networks together find more than the default alone, by leave-one-out.

Two that look for different things may miss different fakes. Compared are each network's own head, the mean of their
calibrated logits, and one head on what both see; all on the clean view of the same pictures.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from benchmarks._page import machine, publish, table
from benchmarks.ablations import FIGURES, PAGE, arguments, drawn_at_random, figures, loader_of, penalty_of, refitting
from model.checkpoint import CheckpointError, list_checkpoints
from model.detector import Detector
from model.training import data
from model.training.calibrate import fit_calibration
from model.training.config import ConfigError
from model.training.features import mean_cells
from model.training.progress import Log

Refit = Callable[[np.ndarray], np.ndarray]  # mask of the pictures that may be fitted on (N,) -> scores of all (N,)


def main() -> int:
    """Measure, print and, if asked, write."""
    options = arguments("pair", __doc__.split("\n")[0]).parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    log = Log(options.cache)
    try:
        frame = drawn_at_random(options)
        folds = data.folds(options.folds, frame)
        detectors = [Detector.load(info.path) for info in list_checkpoints()]
    except (CheckpointError, ConfigError) as error:
        print(f"benchmarks.pair: {error}", file=sys.stderr)
        return 2
    rows, seen, alone = np.arange(len(frame)), [], []
    for detector in detectors:
        loader = loader_of(detector, frame, options.cache, log)
        seen.append(
            mean_cells(
                detector.network, loader, rows, "clean", options.cache / "features", log, key=detector.checkpoint.sha256
            )
        )
        alone.append(refitting(frame, seen[-1], penalty_of(detector)))
    both = refitting(frame, np.concatenate(seen, axis=1), penalty_of(detectors[0]))
    names = [f"`{detector.checkpoint.name}`" for detector in detectors]
    ways = dict(zip((f"{name} alone" for name in names), alone, strict=True))
    ways |= {"mean of their calibrated logits": mean_of(frame, alone), "one head on the cells of both": both}
    found = []
    for title, refit in ways.items():
        log.line(title)
        found.append([title, *(f"{figure:.3f}" for figure in figures(frame, folds, refit, log))])
    text = "\n\n".join(
        (
            f"**Both networks together**: {' and '.join(names)}. {machine()} Written by `python -m benchmarks.pair "
            f"--data FOLDER --folds TABLE --write` on {len(frame):,} pictures drawn at random, clean views, each with "
            "the penalty of its recipe.",
            table(("Judged by", *FIGURES), found),
        )
    )
    publish(text, PAGE, "pair", write=options.write)
    return 0


def mean_of(frame: pd.DataFrame, refits: Sequence[Refit]) -> Refit:
    """The mean of logits that are calibrated on those pictures of `val` that may be used."""
    labels, val = frame["label"].to_numpy(), (frame["split"] == "val").to_numpy()

    def refit(allowed: np.ndarray) -> np.ndarray:
        logits = []
        for own in refits:
            scores = own(allowed)
            calibration = fit_calibration(scores[val & allowed], labels[val & allowed])
            logits.append(scores / calibration.temperature + calibration.bias)
        mean: np.ndarray = np.mean(logits, axis=0)
        return mean

    return refit


if __name__ == "__main__":
    sys.exit(main())
