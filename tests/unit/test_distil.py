"""A student learns what its teacher's tokens hold, from pictures that may be looked at and from no label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from model import backbones
from model.backbones import LinearHeadNet, ViTCells, build, resnet50
from model.network import save
from model.training import distil as module
from model.training.config import IMAGENET_MEAN, IMAGENET_STD, ConfigError, DistilConfig, TrainConfig
from model.training.data import Fold
from model.training.distil import distil
from model.training.features import CropLoader
from model.training.frozen import fit_frozen
from model.training.progress import Log
from model.training.run import train
from tests.support import header, labelled_faces, whole_pictures

STUDENT = {"width": 0.0625, "taps": (3, 4)}
FEW = {"teacher": "", "blocks": [0, 1], "directions": 4, "views": 2, "epochs": 4, "batch_size": 4}


def small_teacher() -> LinearHeadNet:
    torch.manual_seed(0)
    cells = ViTCells(taps=(0, 1), normalise=True, width=32, heads=2, patch=16, grid=4)
    with torch.no_grad():
        for value in cells.parameters():
            value.normal_(std=0.3)
    return LinearHeadNet(cells, cells.moments.channels).eval()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    same = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}  # as the student's
    save(path, small_teacher(), header(architecture="small_teacher", framing={"side": 64}, **same))
    return path


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbones.REGISTRY, "small_teacher", small_teacher)


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[pd.DataFrame, CropLoader, TrainConfig]:
    manifest = labelled_faces(tmp_path, {"train": 8, "val": 8}, side=96, skins=80, noise=20)
    config = TrainConfig.model_validate(
        {
            "name": "student",
            "architecture": "resnet50",
            "options": STUDENT,
            "framing": {"side": 64},
            "data": {"root": tmp_path, "manifest": manifest},
            "method": {"kind": "linear"},
        }
    )
    return *whole_pictures(config, 96), config


def student() -> LinearHeadNet:
    torch.manual_seed(0)
    return build("resnet50", dict(STUDENT)).eval()


def method(teacher: Path, **changes: object) -> DistilConfig:
    return DistilConfig.model_validate(FEW | {"teacher": str(teacher)} | changes)


def test_a_student_comes_to_know_what_the_teacher_sees(pictures, teacher, tmp_path):
    _, loader, _ = pictures
    network = student()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    distil(method(teacher, epochs=40), network, loader, np.arange(12), tmp_path, Log(tmp_path, quiet=True))
    learnt = pd.read_csv(tmp_path / "log.csv")
    assert learnt["step"].tolist() == [50, 100, 150, 200, 240]
    assert learnt["learning_rate"].iloc[-1] < 1e-4
    for share in ("layer3_tokens", "layer3_means", "layer4_tokens", "layer4_means"):
        assert learnt[share].iloc[-1] < 0.7 * learnt[share].iloc[0], share
    assert not torch.equal(network.extractor.layer1[0].conv1.weight, before["extractor.layer1.0.conv1.weight"])
    assert torch.equal(network.head.weight, before["head.weight"])  # what says real or fake is fitted elsewhere
    assert not network.training
    assert not any(value.requires_grad for value in network.extractor.parameters())


def test_targets_are_the_teachers_tokens_at_the_same_place(pictures, teacher, tmp_path):
    _, loader, _ = pictures
    given = method(teacher, directions=32)  # all of them: nothing is lost
    rows = np.arange(6)
    distil(given, student(), loader, rows, tmp_path, Log(tmp_path, quiet=True))
    crops = np.load(next(tmp_path.glob("*-crops.npy")))
    targets = torch.from_numpy(np.load(next(tmp_path.glob("*-targets.npy")))).double()
    assert crops.shape == (12, 64, 64, 3)
    assert targets.shape == (12, 16, 64)
    first = [np.asarray(loader.picture(int(row), "clean")) for row in rows]
    assert sum(any(np.array_equal(crop, seen) for seen in first) for crop in crops) == 6  # a clean view of each
    images = torch.from_numpy(np.stack([loader.normalise(crop) for crop in crops]))
    with torch.inference_mode():
        _, tokens = small_teacher().extractor.tokens(images)
    inputs = torch.cat([targets[..., 32:], torch.ones(12, 16, 1)], dim=2).flatten(0, 1)
    wanted = tokens.double().flatten(0, 1)
    found = inputs @ torch.linalg.lstsq(inputs, wanted).solution
    assert float((found - wanted).square().mean()) < 0.001 * float(wanted.var())


def test_a_training_that_was_interrupted_ends_with_the_same_weights(pictures, teacher, tmp_path, monkeypatch):
    _, loader, _ = pictures
    monkeypatch.setattr(module, "_SAVE_EVERY", 4)
    average, left = module.average, [7]

    def run(folder: Path) -> tuple[str, dict[str, torch.Tensor]]:
        folder.mkdir(exist_ok=True)
        network = student()
        digest = distil(method(teacher), network, loader, np.arange(8), folder, Log(folder, quiet=True))
        return digest, network.state_dict()

    def interrupt(*arguments: object) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        average(*arguments)

    digest, whole = run(tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module, "average", interrupt)
        run(tmp_path / "parts")
    assert torch.load(tmp_path / "parts" / "state.pt", weights_only=True)["step"] == 4  # of 16
    next((tmp_path / "parts").glob("*-directions.pt")).stat()  # kept: the teacher's targets stay in one basis
    again, parts = run(tmp_path / "parts")
    assert again == digest
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    rows = [pd.read_csv(tmp_path / name / "log.csv") for name in ("whole", "parts")]
    assert rows[0].equals(rows[1])


def test_the_teacher_is_not_asked_again(pictures, teacher, tmp_path, monkeypatch):
    _, loader, _ = pictures
    log = Log(tmp_path, quiet=True)
    monkeypatch.setattr(module, "_BATCH", 4)
    monkeypatch.setattr(module, "_FIRST", 1)
    distil(method(teacher), student(), loader, np.arange(8), tmp_path, log)
    asked: list[int] = []
    whole = loader.picture
    monkeypatch.setattr(loader, "picture", lambda row, view: asked.append(row) or whole(row, view))
    distil(method(teacher), student(), loader, np.arange(8), tmp_path, log)
    assert asked == []


def test_the_state_of_other_pictures_is_refused(pictures, teacher, tmp_path):
    _, loader, _ = pictures
    log = Log(tmp_path, quiet=True)
    distil(method(teacher, epochs=1), student(), loader, np.arange(4), tmp_path, log)
    with pytest.raises(ConfigError, match="another recipe or other pictures"):
        distil(method(teacher, epochs=1), student(), loader, np.arange(5), tmp_path, log)


def test_lessons_are_of_the_pictures_contents_and_the_students_first_weights(pictures, teacher, tmp_path):
    frame, loader, config = pictures
    log, rows = Log(tmp_path, quiet=True), np.arange(4)
    distil(method(teacher, epochs=1), student(), loader, rows, tmp_path, log)
    other = student()
    with torch.no_grad():
        other.extractor.conv1.weight.mul_(2)
    with pytest.raises(ConfigError, match="another recipe or other pictures"):
        distil(method(teacher, epochs=1), other, loader, rows, tmp_path, log)
    turned = frame.assign(path=frame["path"].to_list()[::-1], sha256=frame["sha256"].to_list()[::-1])
    replaced = CropLoader(turned, loader.boxes, loader.framing, config.mean, config.std, config.seed)
    with pytest.raises(ConfigError, match="another recipe or other pictures"):
        distil(method(teacher, epochs=1), student(), replaced, rows, tmp_path, log)
    assert len(list(tmp_path.glob("*-targets.npy"))) == 2  # other pictures have lessons of their own


def test_nothing_of_a_fold_is_looked_at(pictures, teacher, tmp_path, monkeypatch):
    frame, loader, config = pictures
    config = config.model_copy(update={"distil": method(teacher)})
    fold = Fold("b", frame["source"].str.endswith("_b").to_numpy())
    seen: list[np.ndarray] = []

    def note(*arguments: object) -> str:
        seen.append(arguments[3])
        return "learnt"

    monkeypatch.setattr("model.training.frozen.distil", note)
    fit_frozen(config, config.method, student(), frame, loader, [fold], tmp_path, Log(tmp_path, quiet=True))
    expected = (frame["split"] == "train") & frame["source"].str.endswith("_a")
    assert seen[0].tolist() == np.flatnonzero(expected).tolist()


def test_networks_that_cannot_be_student_and_teacher_are_refused(pictures, teacher, tmp_path):
    _, loader, _ = pictures
    log, rows = Log(tmp_path, quiet=True), np.arange(4)
    with pytest.raises(ConfigError, match="has no 2 stages to teach"):
        distil(method(teacher), resnet50(width=0.0625), loader, rows, tmp_path, log)
    with pytest.raises(ConfigError, match=r"does not keep blocks \[0, 5\]; it keeps \[0, 1\]"):
        distil(method(teacher, blocks=[0, 5]), student(), loader, rows, tmp_path, log)
    with pytest.raises(ConfigError, match="every training picture is held out"):
        distil(method(teacher), student(), loader, rows[:0], tmp_path, log)


def test_gradient_training_has_no_teacher(pictures, teacher):
    _, _, config = pictures
    changed = config.model_dump() | {"distil": method(teacher).model_dump(), "method": {"kind": "finetune"}}
    with pytest.raises(ValidationError, match="distil is for a linear head"):
        TrainConfig.model_validate(changed)


def test_the_teacher_is_named_with_its_own_origin(pictures, teacher, tmp_path):
    _, _, config = pictures
    info = train(config.model_copy(update={"distil": method(teacher)}), tmp_path / "run", quiet=True)
    assert info is not None
    assert info.header["origin"] == "random initial weights; then taught without labels by tiny, which was random"
