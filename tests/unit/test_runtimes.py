"""Runtimes: the same evidence whoever computes it, and a gate that lets nothing else through."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from model import runtimes
from model.backbones import LinearHeadNet, ViTCells, build
from model.backbones.fuse import fused
from model.checkpoint import CheckpointInfo, read_info
from model.detector import Detector
from model.evidence import evidence_and_logits
from model.network import load_network
from model.runtimes import Agreement, RuntimeRefusedError, _choose, parity
from model.runtimes._graph import exported, graph_path
from model.runtimes._ranges import write_ranges
from model.runtimes._torch import TorchRuntime
from model.training import ranges
from tests.support import draw_face, randomise, tiny_network

NORMS_WITHOUT_CONVOLUTION = {"resnet50": 0, "densenet121": 62, "efficientnet_lite": 0}  # before it, not after
EXPORTED = [name for name in runtimes.NAMES if name not in ("torch", "cuda")]


def needs(name: str) -> None:
    if name not in runtimes.available():
        pytest.skip(f"{name} cannot be used here")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("REALITY_CHECK_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def faces(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """What the gate compares on, in place of the sample pictures."""
    crops = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(1)).numpy()
    monkeypatch.setattr(parity, "sample_faces", lambda info: crops)
    return crops


@pytest.fixture
def info(tiny_checkpoint: Path) -> CheckpointInfo:
    return read_info(tiny_checkpoint)


def small(architecture: str) -> LinearHeadNet:
    """An untrained network whose norms have seen something, so that folding them matters."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = build(architecture, {"width": 0.25} if architecture == "resnet50" else None)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean = torch.randn_like(module.running_mean) * 0.1
                module.running_var = torch.rand_like(module.running_var) + 0.5
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.uniform_(-0.2, 0.2)
    return randomise(network, spread=0.1)


@pytest.mark.parametrize("architecture", ["resnet50", "densenet121", "efficientnet_lite"])
def test_folded_norms_leave_evidence_as_it_was(architecture: str) -> None:
    network = small(architecture)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = evidence_and_logits(network, images)
        found = evidence_and_logits(fused(network), images)
    left = sum(isinstance(module, nn.BatchNorm2d) for module in fused(network).modules())
    assert left == NORMS_WITHOUT_CONVOLUTION[architecture]
    for a, b in zip(expected, found, strict=True):
        scale = float(a.abs().max())
        assert scale > 0
        np.testing.assert_allclose(b.numpy(), a.numpy(), atol=2e-5 * scale)


def test_a_network_without_norms_is_not_copied() -> None:
    network = tiny_network()
    assert fused(network) is network


def test_a_network_in_training_is_not_fused() -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        fused(build("resnet50", {"width": 0.25}).train())


def test_torch_runtime_gives_exact_evidence() -> None:
    network = tiny_network()
    images = torch.randn(3, 3, 64, 64)
    evidence, logits = TorchRuntime(network).forward(images.numpy())
    assert evidence.shape == (3, 2, 2) and evidence.dtype == np.float32
    np.testing.assert_allclose(evidence.sum((1, 2)) + float(network.head.bias), logits, rtol=1e-5)
    np.testing.assert_allclose(logits, network(images).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_graphs_agree_for_every_batch_size(name: str, info: CheckpointInfo, faces: np.ndarray) -> None:
    needs(name)
    network = load_network(info)
    runtime = runtimes.load(info, lambda: network, name)
    assert (runtime.name, runtime.precision) == (name, "fp32")
    for count in (1, 2, 5):
        evidence, logits = runtime.forward(faces[:count])
        expected_evidence, expected_logits = TorchRuntime(network).forward(faces[:count])
        np.testing.assert_allclose(evidence, expected_evidence, atol=1e-4)
        np.testing.assert_allclose(logits, expected_logits, atol=1e-4)


@pytest.mark.parametrize("name", EXPORTED)
def test_results_are_not_overwritten_by_the_next_batch(name: str, info: CheckpointInfo, faces: np.ndarray) -> None:
    needs(name)
    runtime = runtimes.load(info, lambda: load_network(info), name)
    first, _ = runtime.forward(faces[:2])
    kept = first.copy()
    runtime.forward(faces[2:4])
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("name", EXPORTED)
def test_transformers_export_with_any_batch_size(
    name: str, info: CheckpointInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(name)
    cells = ViTCells(taps=(0, 1), normalise=True, squares=True, width=32, heads=2, patch=16, grid=4)
    for parameter in cells.parameters():
        nn.init.normal_(parameter, std=0.2)
    network = randomise(LinearHeadNet(cells, 128), spread=0.3)
    crops = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(4)).numpy()
    monkeypatch.setattr(parity, "sample_faces", lambda info: crops)
    runtime = runtimes.load(info, lambda: network, name)
    np.testing.assert_allclose(runtime.forward(crops)[1], TorchRuntime(network).forward(crops)[1], atol=1e-3)


@pytest.mark.parametrize("name", EXPORTED)
@pytest.mark.parametrize("architecture", ["transformer", "resnet"])
def test_products_of_axes_export_too(
    architecture: str, name: str, info: CheckpointInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(name)
    options: dict[str, Any] = {"squares": True, "products": (1, 2), "axes": 5}
    if architecture == "resnet":
        network = build("resnet50", {"width": 0.125, "taps": (1, 2, 4)} | options)
    else:
        cells = ViTCells(taps=(0, 1, 2), normalise=True, width=32, heads=2, patch=16, grid=4, **options)
        for parameter in cells.parameters():
            nn.init.normal_(parameter, std=0.2)
        network = LinearHeadNet(cells, cells.moments.channels)
    network = randomise(network, spread=0.3)
    generator = torch.Generator().manual_seed(4)
    for key, value in network.extractor.moments.named_buffers():  # type: ignore[operator, union-attr]
        value.copy_(torch.randn(value.shape, generator=generator) * (0.1 if key.startswith("axes") else 0.5))
    crops = torch.randn(3, 3, 64, 64, generator=generator).numpy()
    monkeypatch.setattr(parity, "sample_faces", lambda info: crops)
    runtime = runtimes.load(info, lambda: network, name)
    expected = TorchRuntime(network).forward(crops)
    spread = float(np.abs(expected[0]).max())
    np.testing.assert_allclose(runtime.forward(crops)[0], expected[0], atol=1e-4 * spread)
    with torch.inference_mode():
        np.testing.assert_allclose(expected[1], network(torch.from_numpy(crops)).numpy(), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", EXPORTED)
def test_a_graph_of_other_weights_is_refused(name: str, info: CheckpointInfo, faces: np.ndarray) -> None:
    needs(name)
    other = tiny_network(seed=9)
    path = exported(info, lambda: other)  # takes the place of the checkpoint's own graph
    assert path == graph_path(info)
    with pytest.raises(RuntimeRefusedError, match="does not agree with torch in fp32") as refusal:
        runtimes.load(info, lambda: load_network(info), name)
    assert "Choose another runtime" in str(refusal.value)
    with pytest.raises(RuntimeRefusedError):  # from the record too
        runtimes.load(info, lambda: load_network(info), name)


@pytest.mark.parametrize("name", EXPORTED)
def test_the_gate_is_passed_once_per_graph(
    name: str, info: CheckpointInfo, faces: np.ndarray, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(name)
    network = load_network(info)
    runtimes.load(info, lambda: network, name)
    (record,) = cache.rglob("*.json")
    assert json.loads(record.read_text())["found"]["faces"] == len(faces)

    def forbidden(info: CheckpointInfo) -> np.ndarray:
        raise AssertionError("compared again")

    monkeypatch.setattr(parity, "sample_faces", forbidden)
    runtimes.load(info, lambda: network, name)
    record.write_text("{}")
    with pytest.raises(RuntimeRefusedError, match="compared again"):
        runtimes.load(info, lambda: network, name)


def test_bfloat16_passes_the_gate_in_torch_too(
    info: CheckpointInfo, faces: np.ndarray, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_network(info)
    assert runtimes.load(info, lambda: network, "torch", "bf16").precision == "bf16"
    (record,) = cache.rglob("*.json")
    assert json.loads(record.read_text())["found"]["p_fake"] > 0
    record.unlink()
    monkeypatch.setitem(parity.TOLERANCES, "bf16", parity.Tolerance(p_fake=1e-9, correlation=0.99, error=0.15))
    with pytest.raises(RuntimeRefusedError, match="torch in bf16 does not agree with torch in fp32"):
        runtimes.load(info, lambda: network, "torch", "bf16")
    runtimes.load(info, lambda: network, "torch")  # the reference itself needs no gate


def test_without_a_place_for_its_record_the_check_is_made_each_time(
    info: CheckpointInfo, faces: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("REALITY_CHECK_CACHE_DIR", str(tmp_path / "a file" / "cache"))
    assert runtimes.load(info, lambda: load_network(info), "torch", "bf16").precision == "bf16"


def test_patches_of_transformers_are_embedded_in_float32_whatever_the_precision() -> None:
    cells = ViTCells(taps=(0,), width=32, heads=2, patch=16, grid=4)
    seen: list[torch.dtype] = []
    cells.patches.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    TorchRuntime(randomise(LinearHeadNet(cells, 32)), "bf16").forward(np.zeros((1, 3, 64, 64), dtype=np.float32))
    assert seen == [torch.float32]


class Shifted:
    """The reference with an error of its own."""

    name, precision = "shifted", "fp32"

    def __init__(self, network: LinearHeadNet, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self.inner, self.change = TorchRuntime(network), change
        self.bias = self.inner.bias

    def forward(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        evidence, logits = self.inner.forward(batch)
        changed = self.change(evidence)
        return changed, logits + changed.sum((1, 2)) - evidence.sum((1, 2))


def test_agreement_measures_probability_flips_and_maps(info: CheckpointInfo, faces: np.ndarray) -> None:
    network = load_network(info)
    reference = TorchRuntime(network)
    same = runtimes.agreement(info, reference, Shifted(network, lambda maps: maps), faces)
    assert same.p_fake == 0 and same.flips == 0 and same.correlation == pytest.approx(1) and same.error == 0
    moved = runtimes.agreement(info, reference, Shifted(network, lambda maps: maps + 100), faces)
    assert moved.p_fake > 0.3 and moved.flips > 0 and moved.correlation == pytest.approx(1, abs=1e-4)
    turned = runtimes.agreement(info, reference, Shifted(network, lambda maps: maps[:, ::-1].copy()), faces)
    assert turned.p_fake < 1e-6 and turned.correlation < 0.9
    assert not moved.within(runtimes.TOLERANCES["int8"]) and not turned.within(runtimes.TOLERANCES["int8"])


def test_a_map_of_another_scale_with_the_same_logit_does_not_agree(info: CheckpointInfo, faces: np.ndarray) -> None:
    def stretched(maps: np.ndarray) -> np.ndarray:
        middle = maps.mean(axis=(1, 2), keepdims=True)
        return (maps - middle) * 5 + middle

    network = load_network(info)
    found = runtimes.agreement(info, TorchRuntime(network), Shifted(network, stretched), faces)
    assert found.p_fake < 1e-4 and found.flips == 0 and found.correlation == pytest.approx(1)
    assert found.error == pytest.approx(4, rel=1e-3)
    assert not found.within(runtimes.TOLERANCES["int8"])


@pytest.mark.parametrize("place", [0, 1, -1])
def test_a_map_that_is_not_a_number_never_agrees(info: CheckpointInfo, faces: np.ndarray, place: int) -> None:
    def broken(maps: np.ndarray) -> np.ndarray:
        maps = maps.copy()
        maps[place] = float("nan")
        return maps

    class SoundLogits(Shifted):
        def forward(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            evidence, logits = self.inner.forward(batch)
            return self.change(evidence), logits

    network = load_network(info)
    found = runtimes.agreement(info, TorchRuntime(network), SoundLogits(network, broken), faces[:3])
    assert found.p_fake == 0 and found.flips == 0
    assert not found.within(runtimes.TOLERANCES["int8"])


def test_not_a_number_is_never_within_a_tolerance() -> None:
    sound = Agreement(1, 0.0, 0, 1.0, 0.0)
    assert sound.within(runtimes.TOLERANCES["fp32"])
    for name in ("p_fake", "correlation", "error"):
        assert not replace(sound, **{name: float("nan")}).within(runtimes.TOLERANCES["int8"])


@pytest.mark.parametrize(
    ("name", "precision", "message"),
    [
        ("torch", "int8", "of vision transformers only"),
        ("cuda", "int8", "computes fp32 and bf16"),
        ("onnxruntime", "bf16", "fp32 and int8"),
    ],
)
def test_precisions_that_a_runtime_lacks(name: str, precision: str, message: str, info: CheckpointInfo) -> None:
    if name in EXPORTED:
        needs(name)
    with pytest.raises(RuntimeRefusedError, match=message):
        runtimes.load(info, lambda: load_network(info), name, precision)


def test_openvino_computes_in_bfloat16_or_not_at_all(info: CheckpointInfo, faces: np.ndarray) -> None:
    needs("openvino")
    import openvino

    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert runtimes.load(info, lambda: load_network(info), "openvino", "bf16").precision == "bf16"
    else:
        with pytest.raises(RuntimeRefusedError, match="no bf16 on this processor"):
            runtimes.load(info, lambda: load_network(info), "openvino", "bf16")


def test_unknown_names_are_refused(info: CheckpointInfo) -> None:
    with pytest.raises(ValueError, match="runtime must be one of"):
        runtimes.load(info, tiny_network, "tensorflow")
    with pytest.raises(ValueError, match="precision must be one of"):
        runtimes.load(info, tiny_network, "torch", "fp8")


def test_a_runtime_that_is_not_installed_says_how_to_install_it(
    info: CheckpointInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else found(name))
    with pytest.raises(RuntimeRefusedError, match=r"pip install -e '\.\[openvino\]'"):
        runtimes.load(info, tiny_network, "openvino")
    assert "openvino" not in runtimes.available()


@pytest.mark.parametrize("name", EXPORTED)
def test_int8_needs_ranges_of_this_checkpoint(name: str, info: CheckpointInfo, faces: np.ndarray) -> None:
    needs(name)
    needs("onnxruntime")
    with pytest.raises(RuntimeRefusedError, match=r"tiny.ranges.json is missing.*model.training.ranges"):
        runtimes.load(info, lambda: load_network(info), name, "int8")


def test_an_int8_graph_is_of_the_ranges_that_are_there_now(
    info: CheckpointInfo, faces: np.ndarray, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("onnxruntime")
    monkeypatch.setattr(Agreement, "within", lambda *_: True)
    found = ranges.measure_activations(info, [face[None] for face in faces])

    def logits() -> np.ndarray:
        return runtimes.load(info, lambda: load_network(info), "onnxruntime", "int8").forward(faces)[1]

    path = write_ranges(info, "ranges", found, len(faces))
    try:
        own = logits()
        np.testing.assert_allclose(own, TorchRuntime(load_network(info)).forward(faces)[1], atol=0.5)
        np.testing.assert_array_equal(logits(), own)
        assert len(list(cache.rglob("*-int8-*.onnx"))) == 1
        write_ranges(info, "ranges", {name: (low / 4, high / 4) for name, (low, high) in found.items()}, len(faces))
        assert np.abs(logits() - own).max() > 0.5  # most activations are cut now
        path.unlink()
        with pytest.raises(RuntimeRefusedError, match="ranges.json is missing"):
            logits()
    finally:
        path.unlink(missing_ok=True)


def test_ranges_of_another_graph_are_refused_with_a_reason(info: CheckpointInfo, faces: np.ndarray) -> None:
    needs("onnxruntime")
    path = write_ranges(info, "ranges", {"something else": (0.0, 1.0)}, 1)
    try:
        with pytest.raises(RuntimeRefusedError, match=f"the graph of {info.name} .* cannot be made"):
            runtimes.load(info, lambda: load_network(info), "onnxruntime", "int8")
    finally:
        path.unlink()


def test_a_runtime_that_breaks_down_at_the_gate_leaves_the_choice_to_others(
    info: CheckpointInfo, faces: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("onnxruntime")

    def broken(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(_choose.OnnxRuntime, "forward", broken)
    choice = runtimes.choose(info, lambda: load_network(info))
    assert "onnxruntime" not in choice.rates
    assert "onnxruntime in fp32 broke down" in choice.refused["onnxruntime"] and "no room" in str(choice)


def test_choice_says_what_was_measured(info: CheckpointInfo, faces: np.ndarray) -> None:
    choice = runtimes.choose(info, lambda: load_network(info))
    assert set(choice.rates) == set(runtimes.available())
    assert choice.runtime.precision == "fp32"
    text = str(choice)
    assert all(name in text for name in choice.rates) and f"{choice.runtime.name}-fp32 chosen" in text


def test_a_choice_is_kept_until_versions_or_threads_change(
    info: CheckpointInfo, faces: np.ndarray, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = runtimes.choose(info, lambda: load_network(info))
    asked = []

    def rates(found: dict[str, object], side: int) -> dict[str, float]:
        asked.append(set(found))
        return dict.fromkeys(found, 1.0)

    monkeypatch.setattr(_choose, "_rates", rates)
    again = runtimes.choose(info, lambda: load_network(info))
    assert not asked and (again.runtime.name, again.rates) == (first.runtime.name, first.rates)
    assert first.kept is None and again.kept is not None and str(again.kept) in str(again)
    runtimes.choose(info, lambda: load_network(info), threads=1)
    assert len(asked) == 1
    monkeypatch.setattr(_choose, "version", lambda name: "another")
    runtimes.choose(info, lambda: load_network(info), threads=1)
    assert len(asked) == 2


def test_a_kept_choice_that_is_refused_now_is_made_anew(
    info: CheckpointInfo, faces: np.ndarray, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("onnxruntime")
    monkeypatch.setattr(_choose, "_rates", lambda found, side: {name: float(name == "onnxruntime") for name in found})
    assert runtimes.choose(info, lambda: load_network(info)).runtime.name == "onnxruntime"

    def broken(*_: object, **__: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(_choose, "admit", broken)
    choice = runtimes.choose(info, lambda: load_network(info))
    assert (choice.runtime.name, choice.kept) == ("torch", None) and "no room" in choice.refused["onnxruntime"]


def test_choice_never_changes_the_precision(info: CheckpointInfo, faces: np.ndarray) -> None:
    with pytest.raises(RuntimeRefusedError, match="no installed runtime computes int8"):
        runtimes.choose(info, lambda: load_network(info), "int8")


ALONE = """
import sys
from pathlib import Path
from model.detector import Detector
detector = Detector.load(sys.argv[1], runtime=sys.argv[2])
result = detector.classify(Path(sys.argv[3]).read_bytes())
heavy = {"torch", "pandas", "sklearn", "scipy", "pytorch_grad_cam"} & set(sys.modules)
assert not heavy, heavy
print(result.runtime, result.deciding.logit)
assert detector.network.head.bias.numel() == 1  # there when it is asked for
"""


@pytest.mark.parametrize("name", EXPORTED)
def test_a_graph_that_has_passed_runs_without_pytorch(
    name: str, tiny_checkpoint: Path, faces: np.ndarray, tmp_path: Path
) -> None:
    needs(name)
    picture = tmp_path / "face.png"
    draw_face().save(picture)
    own = Detector.load(tiny_checkpoint, runtime=name).classify(picture.read_bytes())
    assert own.deciding is not None
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tiny_checkpoint), name, str(picture)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    runtime, logit = done.stdout.split()
    assert runtime == f"{name}-fp32"
    assert float(logit) == pytest.approx(own.deciding.logit, abs=1e-5)


@pytest.mark.parametrize("name", runtimes.NAMES)
def test_threads_are_those_asked_for(
    name: str, info: CheckpointInfo, faces: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(name)
    before = torch.get_num_threads()
    try:
        runtime = runtimes.load(info, lambda: load_network(info), name, threads=1)
        if name in ("torch", "cuda"):
            assert torch.get_num_threads() == 1
        elif name == "openvino":
            assert runtime._compiled.get_property("INFERENCE_NUM_THREADS") == 1  # type: ignore[attr-defined]
        else:
            assert runtime._session.get_session_options().intra_op_num_threads == 1  # type: ignore[attr-defined]
    finally:
        torch.set_num_threads(before)


def test_without_a_gpu_cuda_is_refused(info: CheckpointInfo) -> None:
    if "cuda" in runtimes.available():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeRefusedError, match="sees no GPU"):
        runtimes.load(info, lambda: load_network(info), "cuda")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_passes_the_gate(precision: str, info: CheckpointInfo, faces: np.ndarray, cache: Path) -> None:
    if "cuda" not in runtimes.available():
        pytest.skip("PyTorch sees no GPU")
    network = load_network(info)
    runtime = runtimes.load(info, lambda: network, "cuda", precision)
    assert (runtime.name, runtime.precision) == ("cuda", precision)
    assert next(network.parameters()).device.type == "cpu"  # its own copy is on the GPU
    assert len(list(cache.rglob("*-cuda.json"))) == 1
    np.testing.assert_allclose(runtime.forward(faces)[1], TorchRuntime(network).forward(faces)[1], atol=0.1)


@pytest.mark.parametrize("name", EXPORTED)
def test_a_cache_that_cannot_be_written_or_read_is_a_refusal(
    name: str, info: CheckpointInfo, faces: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(name)
    runtimes.load(info, lambda: load_network(info), name)
    graph_path(info).write_bytes(b"no graph")
    with pytest.raises(RuntimeRefusedError, match="Delete it"):
        runtimes.load(info, lambda: load_network(info), name)
    (tmp_path / "a file").touch()
    monkeypatch.setenv("REALITY_CHECK_CACHE_DIR", str(tmp_path / "a file" / "cache"))
    with pytest.raises(RuntimeRefusedError, match="REALITY_CHECK_CACHE_DIR"):
        runtimes.load(info, lambda: load_network(info), name)
    assert runtimes.choose(info, lambda: load_network(info)).runtime.name == "torch"  # what is left


def test_each_precision_has_a_record_of_its_own(info: CheckpointInfo, faces: np.ndarray, cache: Path) -> None:
    needs("openvino")
    graph = exported(info, lambda: load_network(info))
    for precision in ("fp32", "bf16", "fp32"):
        computing = TorchRuntime(load_network(info), precision)
        parity.admit(info, lambda: load_network(info), computing, "1", made_of="x", graph=graph)
    assert len(list(cache.rglob("*.json"))) == 2


def test_of_a_library_only_itself_is_looked_for(
    info: CheckpointInfo, faces: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("onnxruntime")

    def forbidden() -> bool:
        raise AssertionError("looked for a GPU")

    monkeypatch.setattr(_choose, "_sees_gpu", forbidden)
    assert runtimes.load(info, lambda: load_network(info), "onnxruntime").name == "onnxruntime"
