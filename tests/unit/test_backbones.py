import re

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from torch.nn import functional

from model._torchvision import torchvision
from model.backbones import DEPTH, REGISTRY, ViTCells, build, densenet121, efficientnet_lite, resnet50
from model.backbones.efficientnet import SameConv2d
from model.backbones.moments import Moments
from model.backbones.vit import ViTBlock
from model.evidence import evidence_and_logits
from model.training.resnet import load_imagenet
from tests.support import randomise

GRIDS = dict.fromkeys(REGISTRY, 7) | {"clip_vit_b16": 14}  # at 224 px


def small_vit(**options):
    torch.manual_seed(0)
    network = ViTCells(**({"width": 24, "heads": 3, "patch": 8, "grid": 3} | options))
    with torch.no_grad():
        network.class_token.normal_()
        network.positions.normal_()
    return network.eval()


def images(count, side):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "grid"), GRIDS.items())
def test_every_registered_network_maps_crops_to_a_grid_and_the_grid_to_one_logit(name, grid):
    with torch.no_grad():
        network = build(name, {}).eval()
        batch = torch.zeros(2, 3, 224, 224)
        cells = network.forward_features(batch)
        assert cells.shape == (2, network.head.in_features, grid, grid)
        assert network(batch).shape == (2,)


@pytest.fixture(scope="module", params=sorted(REGISTRY))
def random_network(request):
    """Every registered network in turn, with random weights, a head of both signs and a baseline, and crops for it."""
    torch.manual_seed(0)
    network = build(request.param).eval()
    usual = images(6, 224 if request.param == "clip_vit_b16" else 96)  # the one with a fixed grid
    batch = usual[:2]
    with torch.no_grad():
        network.set_baseline(network.forward_features(usual).mean(0))
        spread = 1 / float(network.forward_features(batch).mean((2, 3)).norm(dim=1).mean())
    return randomise(network, spread=spread), batch  # logits of the size of 1


def test_the_evidence_of_every_registered_network_and_its_bias_sum_to_its_logit(random_network):
    network, batch = random_network
    with torch.no_grad():
        evidence, logits = evidence_and_logits(network, batch)
        own = network(batch)
    assert evidence.shape[1:] == network.baseline.shape[1:]
    assert float((evidence.sum((1, 2)) + network.head.bias - own).abs().max()) <= 1e-4
    assert float((logits - own).abs().max()) <= 1e-4
    assert (evidence > 1e-4).any()
    assert (evidence < -1e-4).any()


def test_the_evidence_of_every_registered_network_is_grad_cam_before_it_is_cut_and_scaled(random_network):
    network, batch = random_network
    targets = [lambda logit: logit] * len(batch)
    with GradCAM(model=network, target_layers=[network.cells]) as cam:
        cam(input_tensor=batch.clone().requires_grad_(), targets=targets)
        hooks = cam.activations_and_grads
        activations, gradients = hooks.activations[0].numpy(), hooks.gradients[0].numpy()
        theirs = cam.get_cam_image(batch, network.cells, targets, activations, gradients, eigen_smooth=False)
    with torch.no_grad():
        ours = evidence_and_logits(network, batch)[0].numpy()
    np.testing.assert_allclose(theirs, ours, atol=1e-4 * np.abs(ours).max(), rtol=1e-4)


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


@pytest.mark.parametrize(
    "options",
    [
        {"taps": (1, 2, 3, 4), "squares": True, "products": (2, 4), "axes": 6},
        {"taps": (2,), "products": (2,), "axes": 3},
        {"taps": (1, 3)},
        {"taps": (4,), "squares": True},
    ],
)
def test_cells_of_several_stages_are_means_over_their_pixels(options):
    network = randomise(resnet50(width=0.125, **options), spread=0.5)
    batch = images(2, 64)
    with torch.no_grad():
        for value in network.extractor.moments.buffers():
            value.normal_()
        taps = list(network.extractor.tokens(batch))
        cells = network.forward_features(batch)
        grid = 64 // 2 ** (max(options["taps"]) + 1)
        assert cells.shape[1:] == (network.head.in_features, grid, grid)
        widths = [tap.shape[2] for tap in taps]
        assert widths == [64 * 2 ** (stage - 1) // 2 for stage in options["taps"]]
        first = taps[0].transpose(1, 2).unflatten(2, (64 // 2 ** (options["taps"][0] + 1),) * 2)
        torch.testing.assert_close(
            cells[:, : widths[0]], functional.adaptive_avg_pool2d(first, grid), rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(network.mean_cells(batch), cells.mean((2, 3)), rtol=1e-4, atol=1e-3)
        expected = torch.einsum("bchw,c->bhw", cells, network.head.weight[0])
        torch.testing.assert_close(network.project(batch), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_stages_after_the_deepest_tap_do_not_exist():
    assert "layer3.0.conv1.weight" not in resnet50(width=0.125, taps=(1, 2)).extractor.state_dict()


@pytest.mark.parametrize("options", [{"taps": ()}, {"taps": (0,)}, {"taps": (3, 2)}, {"products": (1,)}])
def test_impossible_stages_are_refused(options):
    with pytest.raises(ValueError, match=r"(taps|products) must be"):
        resnet50(**options)


def test_half_width_resnet50_has_half_the_cells():
    network = resnet50(width=0.5)
    assert network.head.in_features == 1024
    shapes = {name: tuple(value.shape) for name, value in network.extractor.state_dict().items()}
    assert shapes["layer1.0.conv2.weight"] == (32, 32, 3, 3)
    assert shapes["layer4.2.conv3.weight"] == (1024, 256, 1, 1)


def test_densenet121_is_torchvisions():
    torch.manual_seed(0)
    theirs = torchvision.models.densenet121(num_classes=1).eval()
    ours = densenet121().eval()
    ours.extractor.load_state_dict(theirs.features.state_dict())
    ours.head.load_state_dict(theirs.classifier.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(ours(images(2, 64)), theirs(images(2, 64))[:, 0], atol=1e-5, rtol=1e-4)


def released_state(architecture):
    """Random weights under the names of torchvision's own files: DenseNet's are old, with a dot more and no counts."""
    state = torchvision.models.get_model(architecture).state_dict()
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    if architecture == "densenet121":
        state = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): state[name] for name in state}
        assert "features.denseblock1.denselayer1.norm.1.weight" in state
    return state


@pytest.mark.parametrize("architecture", ["resnet50", "densenet121"])
def test_imagenet_weights_are_torchvisions(architecture, monkeypatch):
    torch.manual_seed(0)
    released = released_state(architecture)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: dict(released))
    network = build(architecture)
    load_imagenet(network, architecture)
    first = network.extractor.conv1 if architecture == "resnet50" else network.extractor.conv0
    assert any(torch.equal(first.weight, value) for value in released.values())
    if architecture == "resnet50":
        with pytest.raises(ValueError, match="resnet50 at full width only"):
            load_imagenet(resnet50(width=0.5), architecture)


def test_where_torchvision_has_no_imagenet_weights_the_donors_are_named():
    with pytest.raises(ValueError, match=r"efficientnet_lite, only for resnet50 and densenet121; see .*donors"):
        load_imagenet(efficientnet_lite(), "efficientnet_lite")


@pytest.mark.parametrize(("size", "stride", "kept"), [(4, 2, [0, 2]), (5, 2, [-1, 1, 3]), (3, 1, [-1, 0, 1])])
def test_same_convolutions_are_padded_as_tensorflow_pads(size, stride, kept):
    layer = SameConv2d(1, 1, 3, stride=stride)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, 0, 0] = 1  # the output is what lies under the kernel's first corner, 0 outside
        ramp = torch.arange(1.0, size + 1)
        out = layer((ramp[:, None] * ramp)[None, None])[0, 0]
    expected = torch.tensor([0.0 if place < 0 else place + 1.0 for place in kept])
    torch.testing.assert_close(out, expected[:, None] * expected)


@pytest.mark.parametrize(("variant", "parameters"), [(0, 3_371_008), (1, 4_135_680), (2, 4_811_072)])
def test_efficientnet_lite_has_the_size_of_the_original(variant, parameters):
    with torch.device("meta"):
        network = efficientnet_lite(variant=variant)
        assert network.extractor(torch.empty(1, 3, 65, 48)).shape == (1, 1280, 3, 2)
    assert sum(value.numel() for value in network.extractor.parameters()) == parameters


@pytest.mark.parametrize("variant", [3, -1, "0", None, [0]])
def test_an_unknown_variant_is_refused(variant):
    with pytest.raises(ValueError, match="variant must be 0, 1 or 2|efficientnet_lite"):
        build("efficientnet_lite", {"variant": variant})


def seeded_state(network, seed):
    """Weights that depend on nothing but the seed (numpy keeps this generator's stream for ever)."""
    random = np.random.RandomState(seed)
    state = {}
    for name, value in network.state_dict().items():
        drawn = random.standard_normal(value.numel()).reshape(tuple(value.shape)).astype(np.float32)
        if name.endswith("running_var"):
            drawn = np.abs(drawn) + 0.5
        elif value.ndim == 4:
            drawn = drawn * np.sqrt(4 / value[0].numel(), dtype=np.float32)
        elif name.endswith("weight"):
            drawn = np.abs(drawn)
        state[name] = torch.from_numpy(drawn) if value.is_floating_point() else value
    return state


# Of tf_efficientnet_lite0 of timm 1.0.31 with the same weights on the same picture: sums over all channels of each
# cell, and the first channels of the first cell that are neither 0 nor 6. An even and an odd side: pads differ.
GOLDEN_SUMS = [[1996.862, 2111.576], [2152.796, 2231.605], [2178.12, 2135.464]]
GOLDEN_CHANNELS = {3: 1.2288, 7: 0.6338, 9: 0.76585, 14: 4.29376}


def test_efficientnet_lite_computes_what_timm_computes():
    network = efficientnet_lite().extractor.eval()
    network.load_state_dict(seeded_state(network, 0))
    picture = np.random.RandomState(1).standard_normal((1, 3, 65, 48)).astype(np.float32)
    with torch.no_grad():
        cells = network(torch.from_numpy(picture))[0]
    torch.testing.assert_close(cells.sum(0), torch.tensor(GOLDEN_SUMS), atol=0.05, rtol=1e-4)
    for channel, value in GOLDEN_CHANNELS.items():
        assert float(cells[channel, 0, 0]) == pytest.approx(value, abs=1e-3)


def test_a_block_is_pre_norm_attention_and_a_quick_gelu_perceptron():
    torch.manual_seed(0)
    block, tokens = ViTBlock(24, 3).eval(), torch.randn(2, 5, 24)
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


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"squares": True},
        {"normalise": True, "squares": True, "taps": (0, 2)},
        {"products": (1,), "axes": 4},
        {"normalise": True, "squares": True, "taps": (0, 1, 2), "products": (0, 2), "axes": 5},
        {"squares": True, "products": (1,), "axes": 4, "middle": 1},
    ],
)
def test_projection_and_mean_without_the_cells_are_those_of_the_cells(options):
    network = small_vit(**({"taps": (0, 1)} | options))
    batch = images(3, 24)
    with torch.no_grad():
        for value in network.moments.buffers():
            value.normal_()
        cells = network(batch)
        assert cells.shape[1] == network.moments.channels
        weight = torch.randn(cells.shape[1])
        expected = torch.einsum("bchw,c->bhw", cells, weight)
        torch.testing.assert_close(network.project(batch, weight), expected, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(network.mean(batch), cells.mean((2, 3)), atol=1e-4, rtol=1e-4)


def test_the_middle_has_everything_again_and_other_cells_nought():
    plain, middle = small_vit(taps=(0, 1), squares=True), small_vit(taps=(0, 1), squares=True, middle=1)
    middle.load_state_dict(plain.state_dict())
    with torch.no_grad():
        cells, both = plain(images(2, 24)), middle(images(2, 24))
    assert both.shape[1] == middle.moments.channels == 2 * cells.shape[1]
    torch.testing.assert_close(both[:, : cells.shape[1]], cells)
    again = both[:, cells.shape[1] :]
    torch.testing.assert_close(again[:, :, 1, 1], cells[:, :, 1, 1])
    again[:, :, 1, 1] = 0
    assert not again.any()


@pytest.mark.parametrize("middle", [-1, 2, 3, 5])
def test_an_impossible_middle_is_refused(middle):
    with pytest.raises(ValueError, match="middle"):
        small_vit(middle=middle)


def test_products_are_of_white_directions_of_the_largest_variance():
    moments = Moments([4, 24], products=(1,), axes=6)
    mixing = torch.randn(24, 24, dtype=torch.float64) * torch.linspace(1, 3, 24, dtype=torch.float64)
    tokens = torch.randn(50_000, 24, dtype=torch.float64) @ mixing.T + 5
    covariance = torch.cov(tokens.T)
    moments.set_axes(1, tokens.mean(0), covariance)
    along = moments._along(tokens.float()[None], 1)[0].double()
    torch.testing.assert_close(along.mean(0), torch.zeros(6).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cov(along.T), torch.eye(6).double(), atol=1e-3, rtol=0)
    explained = 1 / moments.axes1.double().square().sum(0)  # an axis over its deviation: norm is 1 / deviation
    torch.testing.assert_close(explained, torch.linalg.eigvalsh(covariance).flip(0)[:6], rtol=1e-4, atol=0)


@pytest.mark.parametrize("options", [{"products": (0,)}, {"products": (2, 1)}, {"products": (1,), "axes": 0}])
def test_impossible_products_are_refused(options):
    with pytest.raises(ValueError, match=r"(products|axes) must be"):
        small_vit(taps=(1, 2), **options)


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
