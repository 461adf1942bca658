"""Training from configuration to checkpoint, on generated pictures and the smallest network."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from urllib.error import URLError
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import Ridge
from typer.testing import CliRunner

from dashboard import cli
from model import checkpoint
from model.audit import perceptual_hash
from model.backbones import LinearHeadNet, build
from model.detector import Detector
from model.faces import Framing
from model.network import load_network
from model.tiers import TIERS
from model.training import finetune, fold_runs, linear
from model.training.config import ConfigError, TrainConfig, load
from model.training.data import Fold, balanced_weights, folds
from model.training.data import load as load_table
from model.training.features import CropLoader
from model.training.finetune import run_key
from model.training.gradient import average
from model.training.leave_one_out import leave_one_out, rows_tested
from model.training.precision import autocast
from model.training.progress import Log
from model.training.resnet import load_folded, settle_batch_norms, widen
from model.training.run import initial_network, train
from model.training.views import box_for
from tests.support import labelled_faces, save_tiny, whole_pictures

CONFIGS = Path(checkpoint.__file__).parent / "training" / "configs"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn faces: the "generated" ones carry a fine checkerboard."""
    counts = {"train": 12, "val": 6, "test": 6}
    return labelled_faces(tmp_path_factory.mktemp("pictures"), counts, side=160, board=60).parent


def config(pictures: Path, method: dict, **changes: object) -> TrainConfig:
    data = {"root": pictures, "manifest": pictures / "manifest.csv", "folds": pictures / "folds.csv"}
    return TrainConfig.model_validate(
        {"name": "small", "architecture": "tiny", "framing": {"side": 64}, "data": data, "method": method} | changes
    )


def logged(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "log.csv")


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


def test_features_of_other_pictures_are_not_taken_over(pictures: Path, tmp_path: Path) -> None:
    recipe = config(pictures, {"kind": "linear"})
    head, *rows = (pictures / "manifest.csv").read_text().splitlines()
    (tmp_path / "turned.csv").write_text("\n".join([head, *reversed(rows)]))
    turned = recipe.model_copy(update={"data": recipe.data.model_copy(update={"manifest": tmp_path / "turned.csv"})})
    train(recipe, tmp_path / "both", quiet=True)
    after = load_network(train(turned, tmp_path / "both", quiet=True))
    alone = load_network(train(turned, tmp_path / "alone", quiet=True))
    assert torch.equal(after.head.weight, alone.head.weight)


def test_the_table_of_a_linear_run_has_one_row_per_fit(pictures: Path, tmp_path: Path) -> None:
    train(config(pictures, {"kind": "linear"}), tmp_path, quiet=True)
    table = logged(tmp_path).set_index("fit")
    assert table.index.tolist() == ["all sources", "without b"]
    assert table["pictures"].tolist() == [24, 12]
    assert table.loc["all sources", ["val_clean_auc", "val_web_auc", "val_hard_auc"]].min() > 0.8
    figures = pd.read_csv(tmp_path / "leave_one_out.csv").set_index("fold")
    assert figures.loc["b", "roc_auc"] == table.loc["without b", "unseen_auc"] > 0.8
    assert figures.loc["b", "roc_auc_low"] <= figures.loc["b", "roc_auc"] <= figures.loc["b", "roc_auc_high"]


GRADIENT = {"kind": "finetune", "epochs": 30, "batch_size": 12, "learning_rate": 5e-3, "evaluate_every": 20}


def test_fine_tuning_learns_and_leaves_its_table_and_curves(pictures: Path, tmp_path: Path) -> None:
    info = train(config(pictures, GRADIENT), tmp_path, quiet=True)
    table = logged(tmp_path)
    assert table["step"].tolist() == [20, 40, 60]
    assert table["val_auc"].max() > 0.8
    assert np.allclose(table["val_auc"], (table["val_clean_auc"] + table["val_hard_auc"]) / 2)
    assert table["learning_rate"].is_monotonic_decreasing
    assert table["loss"].iloc[-1] < table["loss"].iloc[0]
    with Image.open(tmp_path / "curves.png") as image:
        assert image.width > 400
    drawing = ElementTree.parse(tmp_path / "curves.svg").getroot()
    panels = [node.get("id") for node in drawing.iter() if str(node.get("id")).startswith("axes_")]
    assert panels == ["axes_1", "axes_2", "axes_3"]
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    again = train(config(pictures, GRADIENT), tmp_path, quiet=True)  # nothing is left to do
    assert again.sha256 == info.sha256
    assert torch.equal(load_network(again).head.weight, state["best_weights"]["head.weight"])
    assert logged(tmp_path).equals(table)


@pytest.mark.parametrize(("capability", "mixed"), [("AVX512", True), ("AVX2", False), ("DEFAULT", False)])
def test_processors_that_only_emulate_bfloat16_train_in_float32(
    monkeypatch: pytest.MonkeyPatch, capability: str, mixed: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    with autocast(torch.device("cpu")):
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == (
            torch.bfloat16 if mixed else torch.float32
        )


def test_a_run_that_was_interrupted_ends_with_the_same_weights(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = config(pictures, GRADIENT | {"epochs": 10, "evaluate_every": 8})
    frame, loader = whole_pictures(recipe, 160)
    average, left = finetune.average, [12]

    def run(folder: Path) -> dict[str, torch.Tensor]:
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        log = Log(folder, quiet=True)
        return finetune.fit_network(recipe, recipe.method, build("tiny"), frame, loader, folder, log).state_dict()

    def interrupt(*arguments: object) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        average(*arguments)

    whole = run(tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(finetune, "average", interrupt)
        run(tmp_path / "parts")
    assert torch.load(tmp_path / "parts" / "state.pt", weights_only=True)["step"] == 8  # of 20
    parts = run(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    assert logged(tmp_path / "parts").equals(logged(tmp_path / "whole"))


def test_the_state_of_another_recipe_is_refused(pictures: Path, tmp_path: Path) -> None:
    few = GRADIENT | {"epochs": 1}
    recipe = config(pictures, few)
    frame, loader = whole_pictures(recipe, 160)
    finetune.fit_network(recipe, recipe.method, build("tiny"), frame, loader, tmp_path, Log(tmp_path, quiet=True))
    other = config(pictures, few | {"learning_rate": 1e-3})
    moved = frame.assign(split=frame["split"].replace("test", "train"))
    for changed, table in ((other, frame), (recipe, moved)):
        with pytest.raises(ConfigError, match="another recipe or other pictures"):
            finetune.fit_network(
                changed, changed.method, build("tiny"), table, loader, tmp_path, Log(tmp_path, quiet=True)
            )


def test_training_stops_early_and_keeps_the_weights_of_the_best_mean_over_tiers(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = config(pictures, GRADIENT | {"evaluate_every": 2, "patience": 2})
    frame, loader = whole_pictures(recipe, 160)
    labels = frame.loc[frame["split"] == "val", "label"].to_numpy()
    most = labels * (np.arange(len(labels)) > 1)  # five of six fakes on top, one tied with the real: AUC 11/12
    assert most.sum() == 5
    made = {"all": labels, "most": most, "none": np.zeros(len(labels))}
    planned = [{"clean": "all", "hard": "none"}, {"clean": "none", "hard": "most"}, {"clean": "none", "hard": "none"}]
    seen: list[torch.Tensor] = []

    def predict(network: LinearHeadNet, *arguments: object) -> np.ndarray:
        tier = arguments[2]
        if tier == "clean":
            seen.append(network.head.weight.clone())
        return made[planned[len(seen) - 1][str(tier)]]

    monkeypatch.setattr(finetune, "predict", predict)

    def run() -> torch.Tensor:
        network = finetune.fit_network(
            recipe, recipe.method, build("tiny"), frame, loader, tmp_path, Log(tmp_path, quiet=True)
        )
        return network.head.weight

    kept = run()
    table = logged(tmp_path)
    assert table["step"].tolist() == [2, 4, 6]  # of 60
    assert table["val_clean_auc"].tolist() == [1, 0.5, 0.5]
    assert table["val_hard_auc"].tolist() == pytest.approx([0.5, 11 / 12, 0.5])
    assert table["val_auc"].tolist() == pytest.approx([0.75, 17 / 24, 0.5])
    assert torch.equal(kept, seen[0])
    assert not torch.equal(kept, seen[2])
    assert torch.equal(run(), kept)  # a run that has stopped does not go on
    assert len(seen) == 3


def test_averaged_weights_are_the_exponential_moving_average() -> None:
    torch.manual_seed(0)
    network, averaged = build("resnet50", {"width": 0.0625}), build("resnet50", {"width": 0.0625})
    name, counter = "head.weight", "extractor.bn1.num_batches_tracked"
    decay, steps = 0.9, 5
    values = [averaged.state_dict()[name].clone()]
    for step in range(steps):
        with torch.no_grad():
            network.head.weight.copy_(torch.randn_like(network.head.weight))
            network.state_dict()[counter].fill_(step)
        values.append(network.state_dict()[name].clone())
        average(averaged, network, decay, 1000 + step)
    shares = [decay**steps, *((1 - decay) * decay ** (steps - step) for step in range(1, steps + 1))]
    expected = sum(share * value for share, value in zip(shares, values, strict=True))
    assert torch.allclose(averaged.state_dict()[name], expected, atol=1e-6)
    assert averaged.state_dict()[counter] == steps - 1  # counts are copied


def test_training_averages_after_each_step(pictures: Path, tmp_path: Path) -> None:
    recipe = config(pictures, GRADIENT | {"epochs": 0.5, "average_decay": 0.05})  # one step
    frame, loader = whole_pictures(recipe, 160)
    network = build("tiny")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    finetune.fit_network(recipe, recipe.method, network, frame, loader, tmp_path, Log(tmp_path, quiet=True))
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 1
    for name, value in state["averaged"].items():
        expected = before[name].lerp(state["network"][name], 0.95)
        assert torch.allclose(value, expected, atol=1e-7), name
    assert not torch.equal(state["averaged"]["head.weight"], state["network"]["head.weight"])


def test_folds_of_gradient_training_leave_their_sources_out_and_are_done_once(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = config(pictures, GRADIENT | {"epochs": 10})
    fit, tables = fold_runs.fit_network, []

    def noted(given: object, method: object, network: object, frame: pd.DataFrame, *rest: object) -> LinearHeadNet:
        tables.append(frame)
        return fit(given, method, network, frame, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(fold_runs, "fit_network", noted)
    assert train(recipe, tmp_path, fold_names=["b"], folds_only=True, quiet=True) is None
    assert not list(tmp_path.glob("*.safetensors"))
    (table,) = tables
    left_out = table["source"].isin(("fake_b", "real_b"))
    assert set(table.loc[left_out, "split"]) == {"held_out"}
    assert set(table.loc[~left_out, "split"]) == {"train", "val", "test"}
    folder = tmp_path / "folds" / "b"
    assert {path.name for path in folder.iterdir()} == {
        *("state.pt", "log.csv", "curves.svg", "curves.png", "figures.json", "scores.csv", "logits.npy")
    }
    scores = pd.read_csv(folder / "scores.csv")
    assert scores.groupby(["tier", "source"]).size().tolist() == [12] * 6  # every split of both sources, in every tier
    assert scores["p_fake"].between(0, 1).all()
    csv_auc = pd.read_csv(tmp_path / "leave_one_out.csv").set_index("fold").loc["b", "roc_auc"]
    figures = json.loads((folder / "figures.json").read_text())["figures"]
    assert figures["roc_auc"]["value"] == csv_auc
    assert (figures["n_real"], figures["n_fake"]) == (12 + 3, 12)  # photographs of `test` of the other source join

    monkeypatch.setattr(fold_runs, "fit_network", None)  # would fail if a fold were trained again
    info = train(recipe, tmp_path, quiet=True)
    assert info.header["metrics"]["leave_one_out"]["b"]["roc_auc"]["value"] == csv_auc
    assert info.header["metrics"]["leave_one_out_means"]["roc_auc"]["value"] == csv_auc  # of the only fold
    assert info.header["training"]["command"].endswith("--folds FOLDS.csv --fold all")
    assert info.header["thresholds"]["unseen"] is True
    for name in TIERS:
        alarms = info.header["metrics"]["unseen_real"]["real_b"][name]
        photographs = scores[(scores["tier"] == name) & (scores["label"] == 0)]
        assert alarms["n"] == 12
        assert alarms["errors"] == (photographs["p_fake"] >= info.thresholds.fake).sum() == 0  # 1 % of 12
    with pytest.raises(ConfigError, match="no fold 'c'; there are b, and all"):
        train(recipe, tmp_path, fold_names=["c"], quiet=True)
    without = recipe.model_copy(update={"data": recipe.data.model_copy(update={"folds": None})})
    with pytest.raises(ConfigError, match="no table of folds"):
        train(without, tmp_path, folds_only=True, quiet=True)


def test_a_fold_is_the_same_whatever_was_trained_before(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "folds.csv").write_text(
        "fold,label,source,generator\na,fake,fake_a,\na,real,real_a,\nb,fake,fake_b,\nb,real,real_b,\n"
    )
    recipe = config(pictures, GRADIENT | {"epochs": 2})
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"folds": tmp_path / "folds.csv"})})
    train(recipe, tmp_path / "both", fold_names=["all"], folds_only=True, quiet=True)
    train(recipe, tmp_path / "one", fold_names=["b"], folds_only=True, quiet=True)
    one, both = ((tmp_path / name / "folds" / "b" / "scores.csv").read_bytes() for name in ("one", "both"))
    assert one == both
    assert len(pd.read_csv(tmp_path / "both" / "leave_one_out.csv")) == 2


def test_a_checkpoint_carries_hashes_of_what_it_was_trained_on(pictures: Path, tmp_path: Path) -> None:
    info = train(config(pictures, {"kind": "linear"}), tmp_path, quiet=True)
    found = checkpoint.training_hashes(info)
    assert found is not None
    known, looks = ({row.tobytes() for row in rows} for rows in found)
    for path in pictures.glob("*.png"):
        digest = hashlib.sha256(path.read_bytes()).digest()[:8]
        assert (digest in known) == (not path.name.startswith("test_")), path.name
        with Image.open(path) as image:
            look = checkpoint.short_hash(perceptual_hash(image.convert("L"))).tobytes()
        assert look in looks or path.name.startswith("test_")
    assert len(found[0]) == len(found[1]) == 36


@pytest.mark.parametrize("reason", [URLError("no route to host"), TimeoutError("timed out"), RuntimeError("bad hash")])
def test_weights_that_cannot_be_downloaded_are_one_clear_line(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: Exception
) -> None:
    def fail(*_: object) -> None:
        raise reason

    monkeypatch.setattr("model.training.run.load_imagenet", fail)
    for label in ("real", "fake"):
        (tmp_path / label).mkdir()
        for file in pictures.glob(f"*_{label}_*.png"):
            (tmp_path / label / file.name).write_bytes(file.read_bytes())
    command = ["train", str(tmp_path), "--architecture", "resnet50", "--init", "imagenet"]
    done = CliRunner().invoke(cli.app, [*command, "--out", str(tmp_path / "run")])
    assert done.exit_code == 2, done.output
    last = done.stderr.strip().splitlines()[-1]
    assert "could not be downloaded" in last
    assert "--init" in last


def test_an_unknown_donor_is_refused_with_those_there_are(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no donor 'nobody'; there are clip_vit_b16"):
        initial_network(config(pictures, {"kind": "linear"}, init="donor:nobody"), tmp_path)


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
    for split, file in frame.loc[frame["label"] == 0, ["split", "path"]].head(4).itertuples(index=False):
        (tmp_path / "real" / f"copy_of_{Path(file).name}").write_bytes(Path(file).read_bytes())
        found = load_table(data, seed=0).set_index("name")["split"]
        assert found[f"real/copy_of_{Path(file).name}"] == split  # else what is trained on would be validated on
        (tmp_path / "real" / f"copy_of_{Path(file).name}").unlink()


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


@pytest.mark.parametrize(("pictures", "copies"), [(300, 1), (80, 30)])
def test_the_linear_fit_agrees_with_scikit_learn(pictures: int, copies: int) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, pictures)
    means, scales = np.tile([1, 0, -1, 0.2, 0], copies), np.tile([1, 2, 3, 0.5, 1], copies)
    cells = rng.normal(size=(pictures, 5 * copies)) * scales + labels[:, None] * means + 4
    weights = rng.uniform(0.5, 1.5, pictures)
    penalty = 0.01
    mine = linear.LeastSquares(cells, labels, weights).fit(penalty)
    share = np.where(labels == 1, weights / weights[labels == 1].sum(), weights / weights[labels == 0].sum()) / 2
    centre = share @ cells
    spread = np.sqrt(share @ (cells - centre) ** 2)
    oracle = Ridge(alpha=penalty).fit((cells - centre) / spread, 2 * labels - 1, sample_weight=share)
    expected = oracle.predict((cells - centre) / spread)
    assert np.abs(mine.logits(cells) - 4 * expected).max() < 1e-3


@pytest.mark.parametrize("channels", [6, 400])
def test_leaving_pictures_out_is_fitting_without_them(channels: int) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 200)
    cells = rng.normal(size=(200, channels)) + labels[:, None] * 0.5 + 3
    weights = rng.uniform(0.5, 1.5, 200)
    without = rng.random(200) < 0.3
    mine = linear.LeastSquares(cells, labels, weights).fit(0.1, without=without)
    fresh = linear.LeastSquares(cells[~without], labels[~without], weights[~without]).fit(0.1)
    assert np.abs(mine.logits(cells) - fresh.logits(cells)).max() < 1e-3


def test_balanced_weights_even_out_labels_and_damp_sources(pictures: Path) -> None:
    frame = load_table(config(pictures, {"kind": "linear"}).data, seed=0)
    frame = frame[(frame["label"] == 1) | (frame["source"] == "real_a")]
    weights = balanced_weights(frame)
    assert weights.sum() == pytest.approx(1)
    assert weights[frame["label"] == 1].sum() == pytest.approx(0.5)


def test_random_views_depend_on_the_row_and_number_only(pictures: Path) -> None:
    frame = load_table(config(pictures, {"kind": "linear"}).data, seed=0)
    framing = Framing(side=64)
    boxes = [box_for(Image.new("RGB", (160, 160)), [], framing)] * len(frame)
    loader = CropLoader(frame, boxes, framing, [0.5] * 3, [0.5] * 3, seed=0)
    half = CropLoader(frame.iloc[4:], boxes[4:], framing, [0.5] * 3, [0.5] * 3, seed=0)
    assert torch.equal(loader.crop(5, 1), half.crop(1, 1))
    assert not torch.equal(loader.crop(5, 1), loader.crop(5, 2))


def test_a_fold_is_tested_on_what_it_holds_out_and_on_photographs_of_test(pictures: Path) -> None:
    recipe = config(pictures, {"kind": "linear"})
    frame = load_table(recipe.data, seed=0)
    assert recipe.data.folds is not None
    (fold,) = folds(recipe.data.folds, frame)
    chosen = frame[rows_tested(frame, fold)]
    others = chosen[~chosen["source"].isin(("fake_b", "real_b"))]
    assert len(chosen) - len(others) == 24
    assert set(others["split"]) == {"test"}
    assert set(others["source"]) == {"real_a"}
    frame.loc[frame.index[frame["source"] == "fake_a"][-1], ["split", "label", "source"]] = (
        "test",
        0,
        "k140_train",
    )  # a copy of FFHQ: it alone
    assert set(frame.loc[rows_tested(frame, fold) & ~fold.held_out, "source"]) == {"k140_train"}


def test_a_fold_without_photographs_is_stated_as_not_defined(pictures: Path, tmp_path: Path) -> None:
    frame = load_table(config(pictures, {"kind": "linear"}).data, seed=0)
    frame = frame[frame["split"] != "test"]
    only_fakes = Fold("b", (frame["source"] == "fake_b").to_numpy())
    entry = leave_one_out(frame, only_fakes, np.zeros(len(frame)), Log(tmp_path, quiet=True))
    assert entry["n_real"] == 0
    assert entry["roc_auc"]["value"] is None  # type: ignore[index]
    assert entry["roc_auc"]["reason"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("b,fake,fake_c,", "fold 'b' holds out no picture"),
        ("b,generated,fake_b,", "label must be real or fake, not 'generated'"),
        ("b,fake,fake_a,\nb,fake,fake_b,", "without fold 'b', split 'train' has not both labels"),
    ],
)
def test_folds_that_cannot_be_measured_are_refused_before_training(
    pictures: Path, tmp_path: Path, rules: str, message: str
) -> None:
    frame = load_table(config(pictures, {"kind": "linear"}).data, seed=0)
    (tmp_path / "folds.csv").write_text(f"fold,label,source,generator\n{rules}\n")
    with pytest.raises(ConfigError, match=message):
        folds(tmp_path / "folds.csv", frame)


def test_a_fold_of_generators_alone_leaves_the_threshold_to_val(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "folds.csv").write_text("fold,label,source,generator\nb,fake,fake_b,\n")
    recipe = config(pictures, {"kind": "linear"})
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"folds": tmp_path / "folds.csv"})})
    info = train(recipe, tmp_path / "run", quiet=True)
    assert info.header["thresholds"]["unseen"] is False
    assert info.header["metrics"]["unseen_real"] == {}
    assert set(info.header["metrics"]["unseen_fake"]) == {"fake_b"}


def test_leaving_out_what_the_initial_weights_were_trained_on_is_refused(pictures: Path, tmp_path: Path) -> None:
    before = train(config(pictures, {"kind": "linear"}), tmp_path / "before", quiet=True)
    again = config(pictures, GRADIENT, init=str(before.path))
    with pytest.raises(ConfigError, match="small.safetensors was trained on 18 of the pictures that fold 'b' holds"):
        train(again, tmp_path / "after", fold_names=["all"], quiet=True)


def test_what_decides_the_weights_tells_one_run_from_another(pictures: Path, tmp_path: Path) -> None:
    recipe = config(pictures, GRADIENT)
    frame = load_table(recipe.data, seed=0)
    same = run_key(recipe, frame)
    assert run_key(config(pictures, GRADIENT), load_table(recipe.data, seed=0)) == same
    for column in ("sha256", "label", "split", "source", "generator"):
        assert run_key(recipe, frame.assign(**{column: "x"})) != same, column
    for change in ({"seed": 1}, {"options": {"channels": 4}}, {"framing": {"side": 96}}, {"init": "imagenet"}):
        assert run_key(config(pictures, GRADIENT, **change), frame) != same, change
    initial = config(pictures, GRADIENT, init=str(save_tiny(tmp_path / "start.safetensors", seed=1)))
    first = run_key(initial, frame)
    save_tiny(tmp_path / "start.safetensors", seed=2)  # other weights under the same name
    assert run_key(initial, frame) != first


def test_a_picture_that_was_replaced_is_looked_at_again(pictures: Path, tmp_path: Path) -> None:
    copied = tmp_path / "pictures"
    shutil.copytree(pictures, copied)
    recipe = config(copied, {"kind": "linear"})
    train(recipe, tmp_path / "run", quiet=True)
    (copied / "train_real_0.png").write_bytes((copied / "val_real_1.png").read_bytes())
    again, alone = (train(recipe, tmp_path / name, quiet=True) for name in ("run", "alone"))
    assert torch.equal(load_network(again).head.weight, load_network(alone).head.weight)


def test_a_file_that_cannot_be_read_is_named(pictures: Path, tmp_path: Path) -> None:
    copied = tmp_path / "pictures"
    shutil.copytree(pictures, copied)
    (copied / "train_fake_1.png").write_bytes(b"not a picture")
    with pytest.raises(ConfigError, match=r"train_fake_1\.png: "):
        train(config(copied, {"kind": "linear"}), tmp_path / "run", quiet=True)
    (copied / "train_fake_1.png").unlink()
    with pytest.raises(ConfigError, match=r"train_fake_1\.png: cannot be read"):
        train(config(copied, {"kind": "linear"}), tmp_path / "run", quiet=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "huge"}, "unknown architecture 'huge'"),
        ({"options": {"colour": 1}}, "architecture 'tiny'"),
        ({"framing": {"colour": 1}}, "framing: "),
    ],
)
def test_a_network_that_cannot_be_made_is_one_clear_line(
    pictures: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(config(pictures, {"kind": "linear"}, **changes), tmp_path, quiet=True)


def test_weights_of_another_architecture_are_refused(pictures: Path, tmp_path: Path) -> None:
    start = save_tiny(tmp_path / "start.safetensors")
    wanted = config(pictures, GRADIENT, architecture="resnet50", options={"width": 0.0625}, init=str(start))
    with pytest.raises(ConfigError, match=r"start\.safetensors do not fit resnet50"):
        initial_network(wanted, tmp_path)


def test_numbers_in_a_table_are_names(pictures: Path, tmp_path: Path) -> None:
    text = (pictures / "manifest.csv").read_text().replace("real_a", "2019").replace("fake_a", "2019")
    (tmp_path / "manifest.csv").write_text(text)
    data = config(pictures, {"kind": "linear"}).data.model_copy(update={"manifest": tmp_path / "manifest.csv"})
    assert balanced_weights(load_table(data, seed=0)).sum() == pytest.approx(1)


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
