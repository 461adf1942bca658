"""Aligned fakes come from photographs that no fold holds out, and only join training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from benchmarks.aligned import KINDS, aligned, mixed
from model.imaging import decode
from model.training.data import Fold
from model.training.progress import Log
from model.training.synthesise import Autoencoder


def test_fakes_are_made_of_usable_photographs_alone(tmp_path):
    torch.manual_seed(0)
    rows = []
    for index, (label, split, source) in enumerate(
        [(0, "train", "a")] * 4 + [(0, "train", "held")] * 4 + [(1, "train", "a")] * 2 + [(0, "test", "a")] * 2
    ):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (64, 48), (20 * index, 90, 40)).save(path)
        rows.append(
            {"path": str(path), "name": path.name, "label": label, "source": source, "generator": "", "split": split}
        )
    frame = pd.DataFrame(rows)
    fold = Fold("held", (frame["source"] == "held").to_numpy())
    made = aligned(frame, [fold], 100, Autoencoder().eval(), tmp_path / "fakes", Log(tmp_path, quiet=True))
    assert sorted(made["name"]) == sorted(f"{kind}_{row}.jpg" for kind in KINDS for row in range(4))
    assert set(made["label"]) == {1} and set(made["split"]) == {"train"}
    assert all(decode(Path(path).read_bytes()).pixels.size == (64, 48) for path in made["path"])
    assert made["sha256"].is_unique
    assert set(made["source"]) == set(KINDS)  # what a fold or the table of sources would never name


def test_a_mixture_lies_between_the_photograph_and_its_reconstruction():
    pixels = np.random.default_rng(0).integers(60, 196, (64, 64, 3)).astype(np.uint8)
    photograph, again = Image.fromarray(pixels), Image.new("RGB", (64, 64), (128, 128, 128))
    for seed in range(8):
        made = np.asarray(mixed(photograph, again, np.random.default_rng(seed)), float)
        assert 0 < np.abs(made - pixels).mean() <= np.abs(np.asarray(again, float) - pixels).mean()
        assert np.corrcoef(made.ravel(), pixels.ravel())[0, 1] > 0  # some of the photograph is left
    assert mixed(photograph, photograph, np.random.default_rng(0)).tobytes() == photograph.tobytes()
