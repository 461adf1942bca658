"""The directions of products are principal axes of the tokens of the pictures that may be used, and of no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model import backbones
from model.backbones import LinearHeadNet, ViTCells, build
from model.training.axes import fit_axes
from model.training.config import ConfigError, TrainConfig
from model.training.data import Fold
from model.training.frozen import fit_frozen
from model.training.progress import Log
from tests.support import labelled_faces, whole_pictures


def small(*, products: tuple[int, ...] = (1,)) -> LinearHeadNet:
    torch.manual_seed(0)
    cells = ViTCells(taps=(0, 1), normalise=True, products=products, axes=3, width=32, heads=2, patch=16, grid=4)
    with torch.no_grad():
        for value in cells.parameters():
            value.normal_(std=0.3)
    return LinearHeadNet(cells, cells.moments.channels).eval()


def recipe(folder: Path, count: int = 8) -> TrainConfig:
    data = {"root": folder, "manifest": labelled_faces(folder, {"train": count, "val": count}, side=96, noise=20)}
    return TrainConfig.model_validate(
        {"name": "small", "architecture": "small", "framing": {"side": 64}, "data": data, "method": {"kind": "linear"}}
    )


def test_axes_are_white_on_the_pictures_they_were_fitted_to(tmp_path):
    frame, loader = whole_pictures(recipe(tmp_path), 96)
    network = small()
    digest = fit_axes(network, loader, np.ones(len(frame)), Log(tmp_path, quiet=True))
    with torch.no_grad():
        images = loader.batch([(row, "clean") for row in range(len(frame))])
        _, tokens = network.extractor.tokens(images)
        along = network.extractor.moments._along(tokens, 1).flatten(0, 1).double()
    assert digest is not None
    assert len(digest) == 64
    # bfloat16, where the processor has it, and float32 afterwards: near, not equal
    torch.testing.assert_close(along.mean(0), torch.zeros(3).double(), atol=0.05, rtol=0)
    torch.testing.assert_close(torch.cov(along.T), torch.eye(3).double(), atol=0.1, rtol=0)


def test_a_network_without_products_has_no_axes(tmp_path):
    frame, loader = whole_pictures(recipe(tmp_path, 2), 96)
    for network in (small(products=()), build("tiny")):
        assert fit_axes(network, loader, np.ones(len(frame)), Log(tmp_path, quiet=True)) is None


def test_axes_never_look_at_what_a_fold_holds_out(tmp_path, monkeypatch):
    monkeypatch.setitem(backbones.REGISTRY, "small", small)
    config = recipe(tmp_path)
    frame, loader = whole_pictures(config, 96)
    fold = Fold("b", frame["source"].str.endswith("_b").to_numpy())

    def axes(folder: str) -> torch.Tensor:
        network, log = small(), Log(tmp_path, quiet=True)
        fit_frozen(config, config.method, network, frame, loader, [fold], tmp_path / folder, log)
        return network.extractor.moments.axes1

    before = axes("first")
    for row in np.flatnonzero(fold.held_out):
        Image.new("RGB", (96, 96), (255, 0, 0)).save(frame["path"][row])
    assert torch.equal(axes("second"), before)
    for row in np.flatnonzero(~fold.held_out):
        Image.new("RGB", (96, 96), (255, int(row), 0)).save(frame["path"][row])
    assert not torch.equal(axes("third"), before)


def test_features_along_other_axes_are_not_taken_over(tmp_path, monkeypatch):
    monkeypatch.setitem(backbones.REGISTRY, "small", small)
    config = recipe(tmp_path)
    frame, loader = whole_pictures(config, 96)
    fold = Fold("b", frame["source"].str.endswith("_b").to_numpy())

    def weight(folds: list[Fold], folder: str) -> torch.Tensor:
        network = small()
        fit_frozen(config, config.method, network, frame, loader, folds, tmp_path / folder, Log(tmp_path, quiet=True))
        return network.head.weight.clone()

    weight([], "shared")
    assert torch.equal(weight([fold], "shared"), weight([fold], "fresh"))


def test_folds_that_hold_out_everything_are_refused(tmp_path):
    frame, loader = whole_pictures(recipe(tmp_path, 2), 96)
    with pytest.raises(ConfigError, match="every training picture is held out"):
        fit_axes(small(), loader, np.zeros(len(frame)), Log(tmp_path, quiet=True))


@pytest.mark.parametrize("faces", [3, 1000])
def test_no_more_faces_are_drawn_than_there_are(tmp_path, faces):
    frame, loader = whole_pictures(recipe(tmp_path, 2), 96)
    weights = np.zeros(len(frame))
    weights[:3] = 1
    network = small()
    assert fit_axes(network, loader, weights, Log(tmp_path, quiet=True), faces=faces) is not None
    assert bool(torch.isfinite(network.extractor.moments.axes1).all())
