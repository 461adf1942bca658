"""The bundled smoke recipes through the real command: pictures in, a checkpoint that works out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dashboard.settings import ROOT
from model import checkpoint
from model.checkpoint import read_info, training_hashes
from model.network import load_network
from tests.support import draw_face

pytestmark = pytest.mark.slow
CONFIGS = Path(checkpoint.__file__).parent / "training" / "configs"
SOURCES = {"real": ("camera", "phone"), "fake": ("coarse", "fine")}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn faces in `train/` and `held_out/`; around the "generated" ones lies a checkerboard."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    y, x = np.indices((160, 160))
    around = ((x - 80) / 45) ** 2 + ((y - 80) / 60) ** 2 > 1  # on the face it would hide it from the finder
    for part, count in (("train", 20), ("held_out", 8)):
        for label, sources in SOURCES.items():
            for source in sources:
                folder = root / part / label / source
                folder.mkdir(parents=True)
                period = {"coarse": 10, "fine": 8}.get(source)
                trace = 0 if period is None else (30 * around * np.sign((x + y) % period - period / 2 + 0.5))[..., None]
                for index in range(count // 2):
                    skin = tuple(int(level) for level in np.array([225, 175, 150]) + rng.integers(-12, 12, 3))
                    pixels = np.asarray(draw_face(160, skin=skin)) + rng.integers(-6, 6, (160, 160, 3)) + trace
                    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    rules = ["fold,label,source,generator", "fine,fake,fine,", "fine,real,phone,"]
    (root / "folds.csv").write_text("\n".join(rules) + "\n")
    return root


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "dashboard", *map(str, arguments)]


def training(recipe: str, pictures: Path, out: Path, *more: object) -> list[str]:
    return command("train", "--config", CONFIGS / f"{recipe}.toml", "--data", pictures / "train", "--out", out, *more)


ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(arguments: list[str]) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, env=ENVIRONMENT, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def tells_apart(path: Path, pictures: Path, out: Path) -> None:
    run(command("evaluate", pictures / "held_out", "--checkpoint", path, "--out", out))
    figures = json.loads((out / "metrics.json").read_text())
    assert figures["n"] == 16
    assert figures["roc_auc"]["value"] > 0.9
    assert figures["balanced_accuracy"]["value"] > 0.7


def test_linear_training_from_the_command_line(pictures: Path, tmp_path: Path) -> None:
    folds = ("--folds", pictures / "folds.csv")
    path = Path(run(training("smoke", pictures, tmp_path / "a", *folds)))
    assert path == tmp_path / "a" / "smoke.safetensors"
    tells_apart(path, pictures, tmp_path / "result")
    info = read_info(path)
    assert "fine" in info.header["metrics"]["leave_one_out"]
    assert "## How to reproduce it" in info.card.read_text("utf-8")
    assert pd.read_csv(tmp_path / "a" / "log.csv")["fit"].tolist() == ["all sources", "without fine"]
    assert len(pd.read_csv(tmp_path / "a" / "leave_one_out.csv")) == 1
    hashes = training_hashes(info)
    assert hashes is not None
    assert len(hashes[0]) == 40
    again = Path(run(training("smoke", pictures, tmp_path / "b", *folds)))
    assert read_info(again).sha256 == info.sha256


def test_gradient_training_from_the_command_line_killed_and_continued(pictures: Path, tmp_path: Path) -> None:
    folds = ("--folds", pictures / "folds.csv", "--fold", "all")
    whole = Path(run(training("smoke_finetune", pictures, tmp_path / "whole", *folds)))
    tells_apart(whole, pictures, tmp_path / "result")
    assert load_network(read_info(whole)).head.weight.isfinite().all()
    assert read_info(whole).header["metrics"]["leave_one_out"]["fine"]["n_fake"] == 10
    files = {path.relative_to(tmp_path / "whole").as_posix() for path in (tmp_path / "whole").rglob("*.*")}
    made = {"log.csv", "curves.svg", "curves.png", "state.pt"}
    made |= {f"folds/fine/{name}" for name in (*made, "scores.csv", "figures.json")}
    assert made | {"smoke_finetune.md", "leave_one_out.csv"} <= files

    parts = tmp_path / "parts"
    process = subprocess.Popen(training("smoke_finetune", pictures, parts), stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    end = time.monotonic() + 300
    while not (parts / "state.pt").is_file() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(parts.glob("*.safetensors")), "the run was to be killed in its midst"
    steps = pd.read_csv(tmp_path / "whole" / "log.csv")["step"].max()
    assert torch.load(parts / "state.pt", weights_only=True)["step"] < steps
    continued = Path(run(training("smoke_finetune", pictures, parts)))
    weights, same = load_file(whole), load_file(continued)
    assert weights.keys() == same.keys()
    assert all(torch.equal(value, same[name]) for name, value in weights.items())
    assert (parts / "log.csv").read_text() == (tmp_path / "whole" / "log.csv").read_text()
