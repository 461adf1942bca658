"""Training from configuration to checkpoint, on generated pictures and the smallest network."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import Ridge

from model import checkpoint
from model.backbones import build
from model.calibration import Calibration
from model.checkpoint import load_network, read_info
from model.detector import Detector
from model.faces import Framing
from model.training import card, linear
from model.training.calibrate import fit_calibration, fit_thresholds, probabilities
from model.training.config import ConfigError, TrainConfig, load
from model.training.data import balanced_weights, folds
from model.training.data import load as load_table
from model.training.features import CropLoader
from model.training.leave_one_out import leave_one_out
from model.training.progress import Log
from model.training.resnet import load_folded, settle_batch_norms, widen
from model.training.run import train
from model.training.views import box_for
from tests.support import draw_face

CONFIGS = Path(checkpoint.__file__).parent / "training" / "configs"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of drawn faces: the "generated" ones carry a fine checkerboard."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    board = (np.indices((160, 160)).sum(0) % 8 < 4)[..., None] * 60
    rows = []
    for split, count in (("train", 12), ("val", 6), ("test", 6)):
        for index in range(count):
            for label in ("real", "fake"):
                skin = tuple(int(level) for level in np.array([225, 175, 150]) + rng.integers(-10, 10, 3))
                pixels = np.asarray(draw_face(160, skin=skin)).astype(int) + rng.integers(-6, 6, (160, 160, 3))
                pixels = pixels + board - 30 if label == "fake" else pixels
                name = f"{split}_{label}_{index}.png"
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name)
                source = f"{label}_{'ab'[index % 2]}"
                rows.append({"path": name, "label": label, "split": split, "source": source, "generator": ""})
    with (root / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (root / "folds.csv").write_text("fold,label,source,generator\nb,fake,fake_b,\nb,real,real_b,\n")
    return root


def config(pictures: Path, method: dict) -> TrainConfig:
    data = {"root": pictures, "manifest": pictures / "manifest.csv", "folds": pictures / "folds.csv"}
    return TrainConfig.model_validate(
        {"name": "small", "architecture": "tiny", "framing": {"side": 64}, "data": data, "method": method}
    )


def test_linear_training_separates_and_its_checkpoint_judges(pictures: Path, tmp_path: Path) -> None:
    info = train(config(pictures, {"kind": "linear", "views": 1}), tmp_path, quiet=True)
    fold = info.header["metrics"]["leave_one_out"]["b"]
    assert fold["n_fake"] == 12  # all splits of the held-out source
    assert fold["roc_auc"]["value"] > 0.8
    assert info.header["training"]["train"] == 24
    detector = Detector.load(info.path)
    scores = {
        label: np.mean([detector.classify((pictures / f"test_{label}_{i}.png").read_bytes()).p_fake for i in range(6)])
        for label in ("real", "fake")
    }
    assert scores["fake"] > scores["real"] + 0.3
    assert "leave-one-out" in info.card.read_text("utf-8").lower()


def test_training_twice_gives_the_same_checkpoint(pictures: Path, tmp_path: Path) -> None:
    recipe = config(pictures, {"kind": "linear", "views": 1})
    first = train(recipe, tmp_path / "a", quiet=True)
    again = train(recipe, tmp_path / "b", quiet=True)
    assert first.sha256 == again.sha256


def test_fine_tuning_learns_and_resumes(pictures: Path, tmp_path: Path) -> None:
    method = {"kind": "finetune", "epochs": 30, "batch_size": 12, "learning_rate": 5e-3, "evaluate_every": 20}
    info = train(config(pictures, method), tmp_path, quiet=True)
    with (tmp_path / "log.csv").open() as stream:
        measured = [float(row["val_hard_auc"]) for row in csv.DictReader(stream)]
    assert max(measured) > 0.8
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    info.path.unlink()
    again = train(config(pictures, method), tmp_path, quiet=True)  # nothing is left to do: same weights
    for name, value in load_network(again).extractor.state_dict().items():
        assert torch.allclose(value, state["best_weights"][f"extractor.{name}"].float(), atol=1e-3), name
    assert torch.equal(load_network(again).head.weight, state["best_weights"]["head.weight"])


def test_a_folder_is_split_by_hash_into_train_and_val(pictures: Path, tmp_path: Path) -> None:
    for label in ("real", "fake"):
        (tmp_path / label / "source").mkdir(parents=True)
        for file in pictures.glob(f"*_{label}_*.png"):
            (tmp_path / label / "source" / file.name).write_bytes(file.read_bytes())
    data = config(pictures, {"kind": "linear"}).data.model_copy(
        update={"root": tmp_path, "manifest": None, "folds": None, "validation_share": 0.4}
    )
    frame = load_table(data, seed=0)
    assert len(frame) == 48
    assert set(frame["split"]) == {"train", "val"}
    assert set(frame["source"]) == {"source"}
    assert frame["label"].sum() == 24


def test_a_manifest_without_one_label_is_refused(pictures: Path, tmp_path: Path) -> None:
    lines = [line for line in (pictures / "manifest.csv").read_text().splitlines() if ",fake," not in line]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    data = config(pictures, {"kind": "linear"}).data.model_copy(update={"manifest": tmp_path / "manifest.csv"})
    with pytest.raises(ConfigError, match="needs pictures of both labels"):
        load_table(data, seed=0)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_bundled_recipes_are_valid(path: Path) -> None:
    recipe = load(path)
    assert recipe.name == path.stem
    with torch.device("meta"):
        build(recipe.architecture, recipe.options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 1 =", "not valid TOML"),
        ('name = "x"', "architecture: Field required"),
        ('name = "x"\narchitecture="tiny"\n[data]\nroot="."\n[method]\nkind="magic"', "magic"),
        ('name = "x"\narchitecture="tiny"\ncolour=1\n[data]\nroot="."\n[method]\nkind="linear"', "colour"),
    ],
)
def test_a_bad_recipe_is_refused_with_the_entry(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(path)


def test_the_linear_fit_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    cells = rng.normal(size=(300, 5)) * [1, 2, 3, 0.5, 1] + labels[:, None] * [1, 0, -1, 0.2, 0] + 4
    weights = rng.uniform(0.5, 1.5, 300)
    penalty = 0.01
    mine = linear.fit(cells, labels, weights, penalty)
    share = weights / weights.sum()
    centre = share @ cells
    spread = np.sqrt(share @ (cells - centre) ** 2)
    oracle = Ridge(alpha=penalty).fit((cells - centre) / spread, 2 * labels - 1, sample_weight=share)
    expected = oracle.predict((cells - centre) / spread)
    assert np.abs(mine.logits(cells) - 4 * expected).max() < 1e-3


def test_balanced_weights_even_out_labels_and_damp_sources(pictures: Path) -> None:
    frame = load_table(config(pictures, {"kind": "linear"}).data, seed=0)
    frame = frame[(frame["label"] == 1) | (frame["source"] == "real_a")]
    weights = balanced_weights(frame)
    assert weights.sum() == pytest.approx(1)
    assert weights[frame["label"] == 1].sum() == pytest.approx(0.5)


def test_calibration_recovers_temperature_and_bias() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 6, 20000)
    truth = Calibration(2.0, 0.5)
    labels = (rng.random(20000) < probabilities(logits, truth)).astype(int)
    found = fit_calibration(logits, labels, np.full(20000, 1 / 20000))
    assert found.temperature == pytest.approx(2.0, rel=0.1)
    assert found.bias == pytest.approx(0.5, abs=0.1)


def test_thresholds_hold_in_the_worst_condition() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 500)
    scores = {
        name: (np.clip(rng.normal(np.where(labels == 1, 0.8, 0.2), spread), 0, 1), labels)
        for name, spread in (("clean", 0.1), ("hard", 0.3))
    }
    thresholds = fit_thresholds(scores, 0.01)
    for p, y in scores.values():
        assert (p[y == 0] >= thresholds.fake).mean() <= 0.01
        assert (p[y == 1] <= thresholds.real).mean() <= 0.01
    assert thresholds.real <= 0.5 <= thresholds.fake
    assert thresholds.fpr == 0.01


def test_random_views_depend_on_the_row_and_number_only(pictures: Path) -> None:
    frame = load_table(config(pictures, {"kind": "linear"}).data, seed=0)
    framing = Framing(side=64)
    boxes = [box_for(Image.new("RGB", (160, 160)), [], framing)] * len(frame)
    loader = CropLoader(frame, boxes, framing, [0.5] * 3, [0.5] * 3, seed=0)
    half = CropLoader(frame.iloc[4:], boxes[4:], framing, [0.5] * 3, [0.5] * 3, seed=0)
    assert torch.equal(loader.crop(5, 1), half.crop(1, 1))
    assert not torch.equal(loader.crop(5, 1), loader.crop(5, 2))


def test_leave_one_out_never_trains_on_what_it_tests(pictures: Path, tmp_path: Path) -> None:
    recipe = config(pictures, {"kind": "linear"})
    frame = load_table(recipe.data, seed=0)
    assert recipe.data.folds is not None
    kept: list[np.ndarray] = []

    def refit(keep: np.ndarray) -> np.ndarray:
        kept.append(keep)
        return frame["label"].to_numpy() * 2.0 - 1

    result = leave_one_out(frame, folds(recipe.data.folds, frame), refit, Log(tmp_path, quiet=True))
    assert not set(frame.loc[kept[0], "source"]) & {"fake_b", "real_b"}
    assert result["b"]["roc_auc"]["value"] == 1.0  # type: ignore[index]


def test_widening_a_resnet_keeps_what_it_computes() -> None:
    torch.manual_seed(0)
    narrow, wide = build("resnet50", {"width": 0.5}), build("resnet50")
    folded = {}
    for name, module in narrow.extractor.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            folded[f"{name}.weight"] = torch.randn_like(module.weight) * 0.05
            folded[f"{name}.bias"] = torch.randn(module.out_channels) * 0.1
    load_folded(narrow, folded)
    images = torch.randn(4, 3, 64, 64)
    narrow.eval()
    with torch.no_grad():
        before = narrow(images)
        settle_batch_norms(narrow, images)
        assert torch.allclose(narrow(images), before, atol=1e-4)
        assert torch.allclose(narrow.train()(images), before, atol=1e-3)  # training starts from the same function
        settled = narrow.eval()(images)
        widen(narrow, wide)
        assert torch.allclose(wide.eval()(images), settled, atol=1e-4)


def test_attaching_figures_keeps_weights_and_rewrites_the_card(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(tiny_checkpoint.read_bytes())
    before = load_network(read_info(path)).state_dict()
    rate = {"value": 0.9, "low": 0.85, "high": 0.95, "method": "x", "reason": ""}
    undefined = {"value": None, "low": None, "high": None, "method": "x", "reason": "no fake images"}
    figures = {"n": 10, "n_real": 5, "n_fake": 5, "accuracy": rate, "roc_auc": undefined, "tpr_at_fpr": {"0.01": rate}}
    (tmp_path / "metrics.json").write_text(json.dumps(figures))
    info = card.attach(path, {"test": tmp_path / "metrics.json"})
    after = load_network(info).state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    text = info.card.read_text("utf-8")
    assert "0.9000 [0.8500, 0.9500]" in text
    assert "undefined (no fake images)" in text
