"""A pair of networks is judged by the mean of logits, each calibrated on pictures that may be used."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.pair import mean_of
from model.training.calibrate import fit_calibration


def test_logits_of_either_scale_count_alike() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    frame = pd.DataFrame({"label": labels, "split": rng.choice(["train", "val"], 400)})
    first, second = (2.0 * (labels - 0.5) + rng.normal(size=400) for _ in range(2))
    allowed = rng.random(400) < 0.8
    found = mean_of(frame, [lambda _: first, lambda _: 50 * second])(allowed)
    used = allowed & (frame["split"] == "val").to_numpy()
    halves = []
    for scores in (first, second):
        calibration = fit_calibration(scores[used], labels[used])
        halves.append(scores / calibration.temperature + calibration.bias)
    np.testing.assert_allclose(found, np.mean(halves, axis=0), atol=2e-3)


def test_pictures_that_are_held_out_do_not_calibrate() -> None:
    labels = np.tile([0, 1], 50)
    frame = pd.DataFrame({"label": labels, "split": "val"})
    scores = np.random.default_rng(0).normal(size=100) + labels
    allowed = np.arange(100) < 60
    spoilt = np.where(allowed, scores, -40 * (labels - 0.5))
    kept, changed = (mean_of(frame, [lambda _, own=own: own])(allowed)[allowed] for own in (scores, spoilt))
    np.testing.assert_array_equal(kept, changed)
