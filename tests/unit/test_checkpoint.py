import hashlib
import json
import math
import os
import pickle  # noqa: TID251 - a trap that must not be sprung
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from model import checkpoint
from model.audit import perceptual_hash
from model.backbones import build
from model.checkpoint import (
    KEY,
    CheckpointError,
    head_bias,
    list_checkpoints,
    read_info,
    resolve,
    short_hash,
    training_hashes,
    verify,
)
from model.checkpoint import (
    rewrite as rewrite_header,
)
from model.network import load_network, quantise, save
from tests.support import header, randomise, save_tiny, tiny_network


def images():
    return torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def rewrite(path, *, tensors=None, metadata=None, **changes):
    """Write the checkpoint again with other tensors or another header, past `save`'s own checks."""
    if metadata is None:
        metadata = {KEY: json.dumps(read_info(path).header | changes)}
    save_file(load_file(path) if tensors is None else tensors, path, metadata=metadata)
    return path


@pytest.fixture
def path(tmp_path):
    return save_tiny(tmp_path / "tiny.safetensors")


def test_what_is_saved_is_loaded(path):
    info = read_info(path)
    assert info.name == "tiny"
    assert info.header == header() | {"format": 1}
    assert info.framing.side == 224
    assert info.framing.jpeg_quality == 90
    assert (info.calibration.temperature, info.calibration.bias) == (1.5, 0.1)
    assert (info.thresholds.real, info.thresholds.fake, info.thresholds.fpr) == (0.3, 0.7, 0.01)
    assert info.card == path.with_suffix(".md")
    assert not info.default
    network = load_network(info)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    for name, value in tiny_network().state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


def test_the_digest_is_of_the_file(path):
    assert read_info(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_saving_what_was_loaded_gives_the_same_network_again(storage, tmp_path):
    torch.manual_seed(0)
    network = build("clip_vit_b16", {"taps": [0]}) if storage == "int8" else tiny_network()
    randomise(network)
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    changes = {"architecture": "clip_vit_b16", "options": {"taps": [0]}} if storage == "int8" else {}
    save(first, network, header(**changes), storage=storage)
    once = load_network(read_info(first))
    save(second, once, header(**changes), storage=storage)
    twice = load_network(read_info(second))
    assert first.read_bytes() == second.read_bytes()
    for name, value in once.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, twice.state_dict()[name]), name


def test_int8_keeps_the_head_whole_and_linear_layers_within_half_a_level(tmp_path):
    torch.manual_seed(0)
    network = randomise(build("clip_vit_b16", {"taps": [0]}))
    path = tmp_path / "small.safetensors"
    save(path, network, header(architecture="clip_vit_b16", options={"taps": [0]}), storage="int8")
    stored = load_file(path)
    loaded = load_network(read_info(path)).state_dict()
    assert stored["extractor.blocks.0.expand.weight"].dtype == torch.int8
    assert stored["head.weight"].dtype == stored["extractor.patches.weight"].dtype == torch.float32
    for name, value in network.state_dict().items():
        if name + ".scale" in stored:
            half = stored[name + ".scale"][:, None] * 0.5001
            assert ((loaded[name] - value).abs() <= half).all(), name
        else:
            assert torch.equal(loaded[name], value), name


def test_quantising_twice_changes_nothing():
    weight = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0)) * 0.02
    weight[0] = 0
    levels, scale = quantise(weight)
    again, scale_again = quantise(levels.float() * scale[:, None])
    assert torch.equal(levels, again)
    assert torch.equal(scale, scale_again)
    assert int(levels.abs().max()) == 127
    assert not levels[0].any()


def test_an_unknown_storage_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="int4"):
        save_tiny(tmp_path / "tiny.safetensors", storage="int4")
    assert list(tmp_path.iterdir()) == []


def test_a_header_that_could_not_be_read_is_not_written(tmp_path):
    with pytest.raises(CheckpointError, match="classes"):
        save_tiny(tmp_path / "tiny.safetensors", classes=["fake", "real"])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors does not exist"):
        read_info(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\xff" * 100])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"other\.safetensors is not a safetensors file or is damaged"):
        read_info(path)


class Trap:
    """Unpickling this would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_is_refused_and_never_run(tmp_path):
    sprung = tmp_path / "sprung"
    path = tmp_path / "pickle.safetensors"
    path.write_bytes(pickle.dumps({"state": Trap(sprung)}))
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        read_info(path)
    assert not sprung.exists()


@pytest.mark.parametrize("kept", [0.3, 0.99])
def test_a_truncated_checkpoint_is_refused(path, kept):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(CheckpointError, match="damaged"):
        read_info(path)


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}])
def test_weights_without_our_header_are_refused(path, metadata):
    save_file(load_file(path), path, metadata=metadata)
    with pytest.raises(CheckpointError, match="has no 'reality_check' header"):
        read_info(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "its header is not JSON"),
        ("[" * 100_000, "its header is not JSON"),
        ("[]", "its header is not an object"),
        ("{}", "format None is unknown"),
        ('{"format": 2}', "format 2 is unknown to this version, which reads format 1"),
        ('{"format": true}', "lacks|wrong type"),
    ],
)
def test_a_header_that_is_not_ours_is_refused_with_the_reason(path, text, reason):
    with pytest.raises(CheckpointError, match=reason):
        read_info(rewrite(path, metadata={KEY: text}))


@pytest.mark.parametrize("key", sorted(header()))
def test_every_header_entry_is_required_and_typed(path, key):
    info = read_info(path)
    without = {name: value for name, value in info.header.items() if name != key}
    with pytest.raises(CheckpointError, match=f"lacks '{key}'"):
        read_info(rewrite(path, metadata={KEY: json.dumps(without)}))
    with pytest.raises(CheckpointError, match=f"'{key}' has the wrong type"):
        read_info(rewrite(path, metadata={KEY: json.dumps(info.header | {key: None})}))


FRAMING = header()["framing"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"classes": ["fake", "real"]}, "classes must be"),
        ({"mean": [0.5, 0.5]}, "mean must be three finite numbers"),
        ({"mean": [0.5, math.nan, 0.5]}, "mean must be three finite numbers"),
        ({"std": [0.5, 0.5, 10**400]}, "std must be three finite numbers"),
        ({"std": [0.5, 0, 0.5]}, "std must be positive"),
        ({"temperature": 0}, "positive temperature"),
        ({"temperature": 10**400}, "inconsistent header"),
        ({"calibration_bias": math.inf}, "finite bias"),
        ({"thresholds": {"real": 0.9, "fake": 0.1}}, "0 <= real <= fake <= 1"),
        ({"thresholds": {"fake": 0.1}}, "'real'"),
        ({"thresholds": {"real": 0.1, "fake": 0.9, "fpr": "low"}}, "fpr must be a rate"),
        ({"framing": FRAMING | {"rotation": 3}}, "rotation"),
        ({"framing": FRAMING | {"side": 4}}, "impossible framing"),
        ({"framing": FRAMING | {"side": 224.0}}, "impossible framing"),
        ({"framing": FRAMING | {"side": 10**9}}, "impossible framing"),
        ({"framing": FRAMING | {"face_share": "most"}}, "impossible framing"),
        ({"framing": FRAMING | {"face_share": math.nan}}, "impossible framing"),
        ({"framing": FRAMING | {"vertical_offset": None}}, "impossible framing"),
        ({"framing": FRAMING | {"jpeg_quality": 900}}, "impossible framing"),
    ],
)
def test_an_inconsistent_header_is_refused_with_the_reason(path, changes, reason):
    with pytest.raises(CheckpointError, match=reason) as caught:
        read_info(rewrite(path, **changes))
    assert "tiny.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "vgg"}, "unknown architecture 'vgg'"),
        ({"options": {"colour": 1}}, "colour"),
        ({"options": {"channels": "many"}}, "architecture 'tiny'"),
        ({"options": {"channels": -1}}, "architecture 'tiny'"),
        ({"options": {"channels": 16}}, "size mismatch"),
        ({"architecture": "clip_vit_b16", "options": {"taps": [10**9]}}, "taps must be"),
        ({"architecture": "clip_vit_b16", "options": {"taps": 3}}, "clip_vit_b16"),
        ({"framing": FRAMING | {"side": 16}}, "does not work on crops of 16 px"),
    ],
)
def test_a_network_that_cannot_be_built_or_used_is_refused_with_the_reason(path, changes, reason):
    info = read_info(rewrite(path, **changes))
    with pytest.raises(CheckpointError, match=reason):
        load_network(info)


def test_a_transformer_is_refused_on_crops_that_its_grid_does_not_take(path):
    options = {"taps": [0]}
    tensors = build("clip_vit_b16", options).state_dict()
    changes = {"architecture": "clip_vit_b16", "options": options, "framing": FRAMING | {"side": 192}}
    info = read_info(rewrite(path, tensors=tensors, **changes))
    with pytest.raises(CheckpointError, match="does not work on crops of 192 px"):
        load_network(info)


def test_options_that_fail_only_when_used_are_refused(path):
    options = {"width": 0.5, "taps": [3.0, 4.0]}  # equal to stages, but no indices
    tensors = build("resnet50", {"width": 0.5, "taps": [3, 4]}).state_dict()
    info = read_info(rewrite(path, tensors=tensors, architecture="resnet50", options=options))
    with pytest.raises(CheckpointError, match="architecture 'resnet50' with options"):
        load_network(info)


@pytest.mark.parametrize("read", [load_network, training_hashes, head_bias])
def test_a_file_that_was_replaced_after_its_digest_was_taken_is_refused(path, tmp_path, read):
    info = read_info(path)
    os.replace(save_tiny(tmp_path / "other.safetensors", seed=1), path)
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors was replaced"):
        read(info)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors can no longer be read"):
        read(info)


def test_a_file_that_was_only_touched_or_copied_is_the_same(path, tmp_path):
    info = read_info(path)
    (tmp_path / "copy").write_bytes(path.read_bytes())
    os.replace(tmp_path / "copy", path)
    os.utime(path, ns=(1, 1))
    assert torch.equal(load_network(info).head.weight, tiny_network().head.weight)


def test_a_file_that_is_replaced_between_header_and_digest_is_refused(path, tmp_path, monkeypatch):
    other = save_tiny(tmp_path / "other.safetensors", seed=1)
    validate = checkpoint._validate

    def replaced(header, where):
        os.replace(other, path)
        validate(header, where)

    monkeypatch.setattr(checkpoint, "_validate", replaced)
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors was replaced while it was read"):
        read_info(path)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder of shipped weights, whose one checkpoint is not the one that the sums tell of."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(checkpoint, "WEIGHTS", folder)
    path = save_tiny(folder / "ours.safetensors")
    (folder / "SHA256SUMS").write_text(f"\n{'0' * 64}  ours.safetensors\n\n")
    return path


def test_a_shipped_checkpoint_is_checked_by_whatever_path_it_is_named(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    link = tmp_path / "link.safetensors"
    link.symlink_to(shipped)
    (tmp_path / "also").symlink_to(shipped.parent)
    roundabout = Path("weights/../weights/ours.safetensors")
    for path in (shipped, roundabout, link, tmp_path / "also" / "ours.safetensors"):
        with pytest.raises(CheckpointError, match="is not the one that was shipped"):
            verify(read_info(path))


def test_a_shipped_checkpoint_that_is_a_link_into_a_store_is_checked(shipped, tmp_path):
    shipped.symlink_to(shipped.rename(tmp_path / "stored.safetensors"))
    with pytest.raises(CheckpointError, match="is not the one that was shipped"):
        verify(read_info(shipped))
    (shipped.parent / "SHA256SUMS").write_text(f"{read_info(shipped).sha256}  ours.safetensors\n")
    verify(read_info(shipped))
    verify(read_info(save_tiny(tmp_path / "ours.safetensors", seed=1)))  # of that name, but not shipped


def changed(path, name, value):
    tensors = load_file(path)
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    return read_info(rewrite(path, tensors=tensors))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("head.weight", None, "Missing key.*head.weight"),
        ("baseline", torch.zeros(8, 3, 5), "does not work on crops of"),
        ("baseline", torch.zeros(8, 1, 1, 1), "baseline has 4 dimensions, not 3"),
        ("extractor.0.weight", torch.full((8, 3, 8, 8), 3e38), "does not answer with one finite number"),
        ("head.extra", torch.zeros(1), "Unexpected key.*head.extra"),
        ("head.weight", torch.zeros(1, 9), "size mismatch for head.weight"),
        ("head.weight", torch.full((1, 8), math.nan), "head.weight holds values that are not finite"),
        ("head.bias", torch.tensor([math.inf]), "head.bias holds values that are not finite"),
        ("head.weight", torch.zeros(1, 8, dtype=torch.int8), "head.weight is int8 but has no scale"),
        ("head.weight", torch.zeros(1, 8, dtype=torch.int32), "head.weight has the wrong type"),
        ("head.weight", torch.zeros(1, 8, dtype=torch.complex64), "head.weight has the wrong type"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_reason(path, name, value, reason):
    info = changed(path, name, value)
    with pytest.raises(CheckpointError, match=reason):
        load_network(info)


@pytest.mark.parametrize(
    "scale", [torch.ones(3), torch.ones(2, 2), torch.ones(8, dtype=torch.int32), torch.full((8,), math.nan)]
)
def test_a_scale_that_does_not_fit_is_refused(path, scale):
    name = "extractor.0.weight"
    changed(path, name + ".scale", scale)
    info = changed(path, name, torch.ones(8, 3, 8, 8, dtype=torch.int8))
    with pytest.raises(CheckpointError, match=f"{name}"):
        load_network(info)


def test_checkpoints_of_a_folder_are_listed_the_default_first(tmp_path):
    for name in ("zebra", "ant", checkpoint.DEFAULT):
        save_tiny(tmp_path / f"{name}.safetensors", name=name)
    found = list_checkpoints(tmp_path)
    assert [info.name for info in found] == [checkpoint.DEFAULT, "ant", "zebra"]
    assert [info.default for info in found] == [True, False, False]


def test_names_are_looked_up_among_the_bundled_and_paths_are_taken_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path)
    bundled = save_tiny(tmp_path / "ours.safetensors")
    assert resolve("ours") == bundled
    assert resolve(tmp_path / "elsewhere.safetensors") == tmp_path / "elsewhere.safetensors"
    with pytest.raises(CheckpointError, match=r"no checkpoint named 'theirs'; bundled are: ours"):
        resolve("theirs")
    with pytest.raises(CheckpointError, match=checkpoint.DEFAULT):
        resolve(None)
    default = save_tiny(tmp_path / f"{checkpoint.DEFAULT}.safetensors")
    assert resolve(None) == default


def test_every_storage_computes_nearly_the_same(tmp_path):
    whole = tiny_network()
    path = save_tiny(tmp_path / "half.safetensors", storage="float16")
    torch.testing.assert_close(load_network(read_info(path))(images()), whole(images()), atol=0.02, rtol=0.01)


def some_hashes(count=5):
    rng = np.random.default_rng(0)
    return tuple(rng.integers(0, 256, (count, 8), dtype=np.uint8) for _ in range(2))


@pytest.fixture
def hashed(tmp_path):
    path = tmp_path / "hashed.safetensors"
    save(path, tiny_network(), header(), storage="float16", hashes=some_hashes())
    return path


def test_hashes_of_training_pictures_travel_with_the_weights_and_are_not_weights(hashed):
    info = read_info(hashed)
    for found, given in zip(training_hashes(info), some_hashes(), strict=True):
        assert found.dtype == np.uint8
        assert np.array_equal(found, given)
    assert set(load_network(info).state_dict()) == set(tiny_network().state_dict())


def test_a_checkpoint_need_not_carry_hashes(path):
    assert training_hashes(read_info(path)) is None


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("training.phash", None, "holds training.sha256 alone"),
        ("training.sha256", None, "holds training.phash alone"),
        ("training.phash", torch.zeros(4, 8, dtype=torch.uint8), "training.phash must be uint8"),
        ("training.sha256", torch.zeros(5, 32, dtype=torch.uint8), "training.sha256 must be uint8"),
        ("training.phash", torch.zeros(5, 8), "training.phash must be uint8"),
    ],
)
def test_hashes_that_do_not_fit_are_refused_with_the_reason(hashed, name, value, reason):
    info = changed(hashed, name, value)
    with pytest.raises(CheckpointError, match=reason):
        training_hashes(info)


def test_another_header_leaves_every_tensor_as_it_is(hashed, tmp_path):
    info = read_info(hashed)
    written = rewrite_header(info, info.header | {"name": "other"}, tmp_path / "sub" / "other.safetensors")
    assert written.name == "other"
    assert info.name == read_info(hashed).name == "tiny"
    before, after = load_file(hashed), load_file(written.path)
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) and value.dtype == after[name].dtype for name, value in before.items())
    assert rewrite_header(written, info.header, written.path).name == "tiny"  # in place
    with pytest.raises(CheckpointError, match="classes"):
        rewrite_header(info, info.header | {"classes": []}, hashed)
    assert read_info(hashed).sha256 == info.sha256
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["hashed.safetensors", "other.safetensors"]


def test_a_short_hash_is_the_lowest_frequencies_of_the_whole_one():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    whole = perceptual_hash(picture)
    bits = np.unpackbits(whole).reshape(16, 16)
    expected = [int("".join(map(str, bits[row, :8])), 2) for row in range(8)]
    assert short_hash(whole).tolist() == expected
    assert short_hash(np.stack([whole, whole])).tolist() == [expected, expected]
