import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.backbones import LinearHeadNet, ViTCells, resnet50
from model.evidence import area_shares, evidence_and_logits, ledger
from model.regions import REGIONS, masks
from tests.support import randomise, tiny_network

FRONTAL = ((78.0, 100.0), (146.0, 100.0), (112.0, 135.0), (86.0, 168.0), (138.0, 168.0))


def images(count=3, side=224, seed=0):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def small_vit():
    torch.manual_seed(0)
    return randomise(LinearHeadNet(ViTCells(taps=(0, 1), width=32, heads=2, patch=16, grid=4), 64))


def small_resnet():
    torch.manual_seed(0)
    return randomise(resnet50(width=0.5), spread=0.5)


@pytest.mark.parametrize(("make", "side", "grid"), [(tiny_network, 224, 7), (small_vit, 64, 4), (small_resnet, 96, 3)])
def test_cells_and_bias_sum_to_the_networks_own_logit(make, side, grid):
    network = make()
    batch = images(side=side)
    with torch.no_grad():
        evidence, logits = evidence_and_logits(network, batch)
        expected = network(batch)
    assert evidence.shape == (3, grid, grid)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(evidence.sum((1, 2)) + network.head.bias, expected, atol=1e-4, rtol=1e-5)
    assert evidence.std() > 1e-4


def test_a_cell_is_what_the_logit_loses_without_it():
    network = tiny_network()
    with torch.no_grad():
        cells = network.forward_features(images(1))
        evidence, logits = evidence_and_logits(network, images(1))
        without = cells.clone()
        without[:, :, 2, 5] = 0
        assert float(logits - network.forward_head(without)) == pytest.approx(float(evidence[0, 2, 5]), abs=1e-5)


def test_under_bfloat16_autocast_the_sum_is_still_made_in_float32():
    network = tiny_network()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        inner = network.extractor(images())
        cells = network.forward_features(images())
        evidence, logits = evidence_and_logits(network, images())
    assert inner.dtype == torch.bfloat16
    assert evidence.dtype == logits.dtype == torch.float32
    exact = (cells.double() * network.head.weight.double()[0][:, None, None]).sum(1) / 49
    assert float((evidence - exact).abs().max()) < 1e-6  # bfloat16 would be off by 1e-3
    torch.testing.assert_close(evidence.double().sum((1, 2)) + 0.25, logits.double(), atol=1e-5, rtol=0)


def mirror_symmetric_network():
    """A tiny network that does not tell left from right."""
    network = tiny_network()
    for layer in network.extractor.children():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.copy_((layer.weight + layer.weight.flip(-1)) / 2)
    return network


def test_mirroring_a_picture_mirrors_its_map():
    network = mirror_symmetric_network()
    with torch.no_grad():
        evidence, logits = evidence_and_logits(network, images())
        mirrored, same = evidence_and_logits(network, images().flip(-1))
    torch.testing.assert_close(mirrored, evidence.flip(-1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(same, logits, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(evidence, evidence.flip(-1), atol=1e-3)


point = st.tuples(st.floats(-100, 400), st.floats(-100, 400))


@settings(max_examples=40)
@given(
    st.tuples(point, point, point, point, point),
    st.integers(1, 16),
    st.integers(1, 16),
    st.integers(17, 100),
    st.floats(-20, 20),
    st.integers(0, 2**32 - 1),
)
def test_the_ledger_sums_to_the_logit_for_any_face_grid_and_crop(landmarks, height, width, side, bias, seed):
    evidence = np.random.default_rng(seed).normal(0, 1, (height, width)).astype(np.float32)
    book = ledger(evidence, bias, masks(landmarks, side))
    assert tuple(book) == (*REGIONS, "bias")
    assert sum(book.values()) == pytest.approx(float(evidence.astype(np.float64).sum()) + bias, abs=1e-4)


def test_evidence_is_booked_to_the_region_it_lies_in():
    regions = masks(FRONTAL, 224)
    for name in ("left_eye", "mouth", "background"):
        book = ledger(regions[name].astype(np.float32), 0.5, regions)  # one cell per pixel
        assert book[name] == pytest.approx(regions[name].sum())
        assert [book[other] for other in REGIONS if other != name] == pytest.approx([0] * (len(REGIONS) - 1))
        assert book["bias"] == 0.5


def test_a_cell_on_a_border_is_split_by_area():
    halves = {"left": np.zeros((4, 4), dtype=bool), "right": np.ones((4, 4), dtype=bool)}
    halves["left"][:, 0] = True
    halves["right"][:, 0] = False
    assert ledger(np.array([[4.0]]), 0.0, halves) == {"left": 1.0, "right": 3.0, "bias": 0.0}
    shares = area_shares(halves, (1, 2))
    assert shares["left"].tolist() == [[0.5, 0.0]]
    assert shares["right"].tolist() == [[0.5, 1.0]]


@pytest.mark.parametrize(("side", "grid"), [(64, (4, 4)), (60, (7, 7)), (10, (3, 7)), (5, (8, 8))])
def test_areas_are_those_of_adaptive_pooling(side: int, grid: tuple[int, int]) -> None:
    which = np.random.default_rng(side).integers(0, 3, (side, side))
    masks = {str(region): which == region for region in range(3)}
    stacked = torch.from_numpy(np.stack(list(masks.values()))).double()[None]
    expected = torch.nn.functional.adaptive_avg_pool2d(stacked, grid)[0].numpy()
    found = area_shares(masks, grid)
    np.testing.assert_allclose(np.stack(list(found.values())), expected, atol=1e-12)
    np.testing.assert_allclose(sum(found.values()), 1, atol=1e-12)
