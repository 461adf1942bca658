import pytest
import torch
from torch.nn import functional

from model._torchvision import torchvision
from model.backbones import DEPTH, REGISTRY, ViTCells, _Block, build, resnet50


def small_vit(**options):
    torch.manual_seed(0)
    network = ViTCells(**({"width": 24, "heads": 3, "patch": 8, "grid": 3} | options))
    with torch.no_grad():
        network.class_token.normal_()
        network.positions.normal_()
    return network.eval()


def images(count, side):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "grid"), [("tiny", 7), ("resnet50", 7), ("clip_vit_b16", 14)])
def test_every_registered_network_maps_crops_to_a_grid_and_the_grid_to_one_logit(name, grid):
    with torch.device("meta"), torch.no_grad():  # shapes only
        network = build(name, {}).eval()
        batch = torch.empty(2, 3, 224, 224)
        cells = network.forward_features(batch)
        assert cells.shape == (2, network.head.in_features, grid, grid)
        assert network(batch).shape == (2,)
    assert name in REGISTRY


def test_the_head_averages_cells_and_applies_one_linear_layer():
    network = build("tiny").eval()
    cells = torch.randn(2, 8, 5, 3)
    expected = cells.mean((2, 3)) @ network.head.weight[0] + network.head.bias
    torch.testing.assert_close(network.forward_head(cells), expected)


def test_resnet50_is_torchvisions():
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50(weights=None, num_classes=1).eval()
    ours = resnet50().eval()
    state = {f"extractor.{name}": value for name, value in theirs.state_dict().items() if not name.startswith("fc.")}
    state |= {"head.weight": theirs.fc.weight, "head.bias": theirs.fc.bias, "baseline": ours.baseline}
    ours.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(ours(images(2, 64)), theirs(images(2, 64))[:, 0], atol=1e-5, rtol=1e-4)


def test_half_width_resnet50_has_half_the_cells():
    network = resnet50(width=0.5)
    assert network.head.in_features == 1024
    shapes = {name: tuple(value.shape) for name, value in network.extractor.state_dict().items()}
    assert shapes["layer1.0.conv2.weight"] == (32, 32, 3, 3)
    assert shapes["layer4.2.conv3.weight"] == (1024, 256, 1, 1)


def test_a_block_is_pre_norm_attention_and_a_quick_gelu_perceptron():
    torch.manual_seed(0)
    block, tokens = _Block(24, 3).eval(), torch.randn(2, 5, 24)
    normed = functional.layer_norm(tokens, (24,), block.norm1.weight, block.norm1.bias).transpose(0, 1)
    attended, _ = functional.multi_head_attention_forward(
        normed, normed, normed, 24, 3, block.qkv.weight, block.qkv.bias, None, None, False, 0.0,
        block.project.weight, block.project.bias, training=False,
    )  # fmt: skip
    middle = tokens + attended.transpose(0, 1)
    hidden = block.expand(block.norm2(middle))
    expected = middle + block.contract(hidden * torch.sigmoid(1.702 * hidden))
    with torch.no_grad():
        torch.testing.assert_close(block(tokens), expected, atol=1e-5, rtol=1e-4)


def test_taps_stack_the_tokens_of_their_blocks_and_nothing_lies_beyond():
    network = small_vit(taps=(0, 2))
    assert len(network.blocks) == 3
    first = small_vit(taps=(0,))
    first.load_state_dict({name: value for name, value in network.state_dict().items() if name in first.state_dict()})
    with torch.no_grad():
        both, one = network(images(2, 24)), first(images(2, 24))
    assert both.shape == (2, 48, 3, 3)
    torch.testing.assert_close(both[:, :24], one)


def test_cells_lie_where_their_patches_lie():
    network = small_vit(taps=(0,))
    # Without attention between tokens, only the cell of a changed patch may change.
    with torch.no_grad():
        network.blocks[0].project.weight.zero_()
        picture = images(1, 24)
        changed = picture.clone()
        changed[:, :, 8:16, 16:24] += 1  # row 1, column 2 of the 3 x 3 grid
        moved = (network(changed) - network(picture)).abs().amax(1)[0] > 1e-6
    assert moved.nonzero().tolist() == [[1, 2]]


def test_normalised_cells_are_standardised_per_tap():
    with torch.no_grad():
        cells = small_vit(taps=(0, 1), normalise=True)(images(2, 24))
    for tap in (cells[:, :24], cells[:, 24:]):
        torch.testing.assert_close(tap.mean(1), torch.zeros(2, 3, 3), atol=1e-5, rtol=0)
        torch.testing.assert_close(tap.var(1, correction=0), torch.ones(2, 3, 3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("taps", [(), (-1,), (3, 3), (5, 2), (DEPTH,), (0, 10**9)])
def test_impossible_taps_are_refused_before_anything_is_built(taps):
    with pytest.raises(ValueError, match="taps must be"):
        ViTCells(taps=taps)


def test_an_unknown_architecture_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown architecture 'vgg'; known are .*resnet50"):
        build("vgg")


def test_an_option_that_an_architecture_does_not_take_is_refused():
    with pytest.raises(ValueError, match="tiny.*colour"):
        build("tiny", {"colour": 1})


def test_moving_the_baseline_keeps_logits_and_centres_cells():
    network = build("tiny").eval()
    batch = images(3, 64)
    with torch.no_grad():
        before = network(batch)
        network.set_baseline(network.forward_features(batch).mean(0))
        torch.testing.assert_close(network(batch), before, atol=1e-5, rtol=1e-5)
        assert float(network.forward_features(batch).mean(0).abs().max()) < 1e-5
