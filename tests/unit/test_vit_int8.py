"""A vision transformer in eight bits: what is lost is rounding, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model import runtimes
from model.backbones import LinearHeadNet, ViTCells, vit_int8
from model.backbones.vit_int8 import in_int8, normed
from model.checkpoint import CheckpointInfo, read_info, resolve
from model.network import load_network
from model.runtimes import RuntimeRefusedError, parity
from model.runtimes._ranges import write_ranges
from model.runtimes._torch import TorchRuntime, quantised
from model.training.ranges import measure_channels
from tests.support import randomise, tiny_network

BOUNDS = tuple[np.ndarray, np.ndarray]
multiplies_bytes = pytest.mark.skipif(not vit_int8.supported(), reason="this processor has no AVX-512 VNNI and BF16")


@pytest.fixture
def network() -> LinearHeadNet:
    """Two blocks, some channels of whose norms reach ten times further than others."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        cells = ViTCells(taps=(0, 1), normalise=True, squares=True, width=96, heads=3, patch=16, grid=4)
        for parameter in cells.parameters():
            nn.init.normal_(parameter, std=0.2)
        for norm in normed(LinearHeadNet(cells, 384)).values():
            assert isinstance(norm, nn.LayerNorm)
            norm.weight.data.fill_(1)[::40] = 8
            norm.bias.data[1::40] = 6
    return randomise(LinearHeadNet(cells, 384), spread=0.1).eval().requires_grad_(False)


@pytest.fixture
def crops() -> np.ndarray:
    return torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(4)).numpy()


@pytest.fixture
def ranges(network: LinearHeadNet, crops: np.ndarray) -> dict[str, BOUNDS]:
    return measure_channels(network, [crop[None] for crop in crops])


@pytest.fixture
def info(tiny_checkpoint: Path, crops: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CheckpointInfo:
    """A checkpoint to stand for the network's, and what the gate compares on."""
    monkeypatch.setenv("REALITY_CHECK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(parity, "sample_faces", lambda info: crops)
    info = read_info(tiny_checkpoint)
    apart = {"real": 0.001, "fake": 0.999, "fpr": None}  # no face lies close to these
    return replace(info, header={**info.header, "thresholds": apart})


@pytest.fixture
def written(info: CheckpointInfo, ranges: dict[str, BOUNDS]) -> Iterator[Path]:
    path = write_ranges(info, "channels", ranges, 6)
    yield path
    path.unlink(missing_ok=True)


def test_ranges_are_of_every_channel_of_every_norm(network: LinearHeadNet, crops: np.ndarray) -> None:
    outputs: list[torch.Tensor] = []
    norm = normed(network)["blocks.1.norm2"]
    hook = norm.register_forward_hook(lambda _, __, output: outputs.append(output))
    found = measure_channels(network, [crop[None] for crop in crops])
    hook.remove()
    assert list(found) == ["blocks.0.norm1", "blocks.0.norm2", "blocks.1.norm1", "blocks.1.norm2"]
    seen = torch.cat(outputs).flatten(0, 1).numpy()
    np.testing.assert_array_equal(found["blocks.1.norm2"][0], seen.min(axis=0))
    np.testing.assert_array_equal(found["blocks.1.norm2"][1], seen.max(axis=0))


def test_copies_of_a_channel_add_up_to_its_own_rounding(network: LinearHeadNet, ranges: dict[str, BOUNDS]) -> None:
    name = "blocks.0.norm1"
    norm = normed(network)[name]
    assert isinstance(norm, nn.LayerNorm)
    levels = vit_int8._Levels(norm, *ranges[name])
    tokens = torch.randn(50, 96, generator=torch.Generator().manual_seed(1))
    found = levels(tokens)
    assert found.dtype == torch.uint8 and found.shape == (50, 96 + 96 // 12)
    sums = found[:, :96].double() - 128
    sums.index_add_(1, levels.extra, found[:, 96:].double() - 128)
    exact = (norm(tokens).double() - levels.middle) / levels.step
    counts = torch.bincount(levels.extra, minlength=96) + 1
    inside = exact.abs() < 127 * counts
    assert inside.double().mean() > 0.95 and counts.max() > 2
    assert float((sums - exact)[inside].abs().max()) < 0.501
    beyond = ~inside & (exact.abs() > 129 * counts)
    assert not beyond.any() or bool((sums.abs() >= 127 * counts)[beyond].all())  # cut, not wrapped around


@multiplies_bytes
def test_int8_is_near_float32_for_every_batch_size(
    network: LinearHeadNet, ranges: dict[str, BOUNDS], crops: np.ndarray
) -> None:
    expected, logits = TorchRuntime(network).forward(crops)
    runtime = TorchRuntime(in_int8(network, ranges), "int8")
    for count in (1, 2, 6):
        evidence, found = runtime.forward(crops[:count])
        for own, map_ in zip(evidence, expected, strict=False):
            assert np.corrcoef(own.ravel(), map_.ravel())[0, 1] > 0.99
        np.testing.assert_allclose(found, logits[:count], atol=0.3 * logits.std())
        np.testing.assert_allclose(evidence.sum((1, 2)) + runtime.bias, found, rtol=1e-5)
    assert not np.array_equal(found, logits)


@multiplies_bytes
def test_copies_take_error_away(
    network: LinearHeadNet, ranges: dict[str, BOUNDS], crops: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = TorchRuntime(network).forward(crops)

    def error() -> float:
        return float(np.abs(TorchRuntime(in_int8(network, ranges), "int8").forward(crops)[0] - expected).mean())

    with_copies = error()
    monkeypatch.setattr(vit_int8, "_COPIES", 1000)
    assert error() > 2 * with_copies


@multiplies_bytes
def test_what_is_not_a_number_stays_so(network: LinearHeadNet, ranges: dict[str, BOUNDS], crops: np.ndarray) -> None:
    crops[1, 0, 3, 3] = np.nan
    _, logits = TorchRuntime(in_int8(network, ranges), "int8").forward(crops)
    assert np.isnan(logits).tolist() == [False, True, False, False, False, False]


def test_the_network_itself_is_left_as_it_was(network: LinearHeadNet, ranges: dict[str, BOUNDS]) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    in_int8(network, ranges)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_ranges_must_fit(network: LinearHeadNet, ranges: dict[str, BOUNDS]) -> None:
    low, high = ranges["blocks.1.norm1"]
    with pytest.raises(ValueError, match=r"no ranges that fit blocks\.1\.norm1"):
        in_int8(network, ranges | {"blocks.1.norm1": (low[1:], high)})
    with pytest.raises(ValueError, match=r"no ranges that fit blocks\.0\.norm2"):
        in_int8(network, {name: own for name, own in ranges.items() if name != "blocks.0.norm2"})
    with pytest.raises(ValueError, match="only vision transformers"):
        in_int8(tiny_network(), ranges)


@multiplies_bytes
def test_the_gate_is_passed_with_the_ranges_that_are_there_now(
    network: LinearHeadNet, info: CheckpointInfo, written: Path, crops: np.ndarray
) -> None:
    runtime = runtimes.load(info, lambda: network, "torch", "int8")
    assert (runtime.name, runtime.precision) == ("torch", "int8")
    np.testing.assert_allclose(runtime.forward(crops)[1], TorchRuntime(network).forward(crops)[1], atol=0.2)
    entry = json.loads(written.read_text("utf-8"))
    entry["channels"] = {
        name: [[value / 8 for value in bound] for bound in bounds] for name, bounds in entry["channels"].items()
    }
    written.write_text(json.dumps(entry), "utf-8")
    with pytest.raises(RuntimeRefusedError, match="torch in int8 does not agree with torch in fp32"):
        runtimes.load(info, lambda: network, "torch", "int8")


def test_refusals_say_what_to_do(
    network: LinearHeadNet, info: CheckpointInfo, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> str:
        with pytest.raises(RuntimeRefusedError) as refusal:
            runtimes.load(info, lambda: network, "torch", "int8")
        return str(refusal.value)

    monkeypatch.setattr("model.runtimes._torch.supported", lambda: False)
    assert "only on processors with AVX-512 VNNI and BF16" in refused()
    monkeypatch.setattr("model.runtimes._torch.supported", lambda: True)
    entry = json.loads(written.read_text("utf-8"))
    written.write_text(json.dumps(entry | {"checkpoint_sha256": "0" * 64}), "utf-8")
    assert "is of another checkpoint" in refused()
    written.write_text(json.dumps({key: value for key, value in entry.items() if key != "channels"}), "utf-8")
    assert "has no ranges for torch" in refused()
    written.write_text(json.dumps(entry | {"channels": {"blocks.0.norm1": [1, "x"]}}), "utf-8")
    assert "is damaged" in refused()
    written.unlink()
    assert "ranges.json is missing" in refused() and "model.training.ranges" in refused()


@multiplies_bytes
def test_the_default_agrees_on_the_sample_pictures() -> None:
    info = read_info(resolve("clip_vit_b16"))
    network = load_network(info)
    int8 = TorchRuntime(quantised(info, network), "int8")
    found = runtimes.agreement(info, TorchRuntime(network), int8, parity.sample_faces(info))
    tolerance = runtimes.TOLERANCES["int8"]
    assert found.flips <= 1  # a face that lies close to a threshold; the gate then refuses int8 here
    assert found.p_fake < 1.5 * tolerance.p_fake
    assert found.correlation > tolerance.correlation and found.error < tolerance.error
