import threading

import cv2
import numpy as np
import pytest
import torch

from model.backbones import LinearHeadNet, ViTCells, resnet50
from model.cam import METHODS, class_activation_map, class_activation_maps
from tests.support import detector_of, draw_face, randomise, tiny_network


def small_vit():
    torch.manual_seed(0)
    cells = ViTCells(taps=(0, 2), width=32, heads=2, patch=16, grid=4)
    torch.nn.init.normal_(cells.positions)
    network = LinearHeadNet(cells, 64)
    return detector_of(randomise(network), framing={"side": 64})


def wide_resnet():
    torch.manual_seed(0)
    return detector_of(randomise(resnet50(), spread=0.5), framing={"side": 96})


def tiny():
    return detector_of(tiny_network())


def crop_of(detector, picture):
    return picture.resize((detector.checkpoint.framing.side,) * 2)


def scaled_like_pytorch_grad_cam(evidence, side):
    """pytorch-grad-cam's `scale_cam_image`, twice as it does: positive part, to [0, 1], resized, to [0, 1]."""
    positive = np.maximum(evidence, 0)
    positive = positive - positive.min()
    resized = np.maximum(cv2.resize(positive / (1e-7 + positive.max()), (side, side)), 0)
    resized = resized - resized.min()
    return resized / (1e-7 + resized.max())


@pytest.mark.parametrize("method", ["grad_cam", "hires_cam"])
@pytest.mark.parametrize("make", [tiny, wide_resnet, small_vit])
def test_the_positive_evidence_is_grad_cam(make, method):
    detector = make()
    for skin in ((225, 175, 150), (90, 70, 60)):
        crop = crop_of(detector, draw_face(skin=skin))
        evidence, _ = detector.score([detector.normalised(crop)])
        assert (evidence[0] > 0).any()
        expected = scaled_like_pytorch_grad_cam(evidence[0], crop.width)
        found = class_activation_map(detector, crop, method)
        assert found.shape == (crop.width, crop.width)
        assert found.max() > 0.99
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_map_of_the_crop_between_0_and_1(method):
    detector = tiny()
    found = class_activation_map(detector, crop_of(detector, draw_face()), method)
    assert found.shape == (224, 224)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.std() > 0.01


def test_maps_made_together_are_those_made_alone():
    detector = tiny()
    crop = crop_of(detector, draw_face())
    together = class_activation_maps(detector, crop)
    assert list(together) == list(METHODS)
    for method, found in together.items():
        np.testing.assert_array_equal(found, class_activation_map(detector, crop, method))


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_pytorch_grad_cams_own(method):
    import pytorch_grad_cam

    detector = tiny()
    crop = crop_of(detector, draw_face())
    network = tiny_network().requires_grad_(True)
    kind = {"hires_cam": "HiResCAM", "grad_cam": "GradCAM", "layer_cam": "LayerCAM", "eigen_cam": "EigenCAM"}
    make = getattr(pytorch_grad_cam, kind.get(method, "GradCAMPlusPlus"))
    with make(model=network, target_layers=[network.cells]) as cam:
        expected = cam(input_tensor=torch.from_numpy(detector.normalised(crop)[None]), targets=[lambda logit: logit])[0]
    np.testing.assert_allclose(class_activation_map(detector, crop, method), expected, atol=1e-5, rtol=0)


def test_where_all_evidence_points_to_real_the_map_is_empty():
    network = tiny_network()
    network.head.weight.copy_(-network.head.weight.abs())
    detector = detector_of(network)
    assert not class_activation_map(detector, crop_of(detector, draw_face()), "grad_cam").any()


def test_an_unknown_method_is_refused_with_the_known_ones():
    detector = tiny()
    with pytest.raises(ValueError, match=r"'score_cam'; known are grad_cam, hires_cam"):
        class_activation_map(detector, crop_of(detector, draw_face()), "score_cam")


def test_a_map_leaves_the_shared_network_as_it_was():
    detector = tiny()
    before = {name: value.clone() for name, value in detector.network.state_dict().items()}
    class_activation_map(detector, crop_of(detector, draw_face()), "grad_cam")
    for name, module in detector.network.named_modules():
        assert not module._forward_hooks, name
        assert not module.training, name
    for name, parameter in detector.network.named_parameters():
        assert parameter.grad is None
        assert not parameter.requires_grad
        assert torch.equal(parameter, before[name])


def test_twenty_threads_on_one_network_get_their_own_maps():
    detector = tiny()
    crops = [crop_of(detector, draw_face(skin=(225 - 15 * index, 175 - 10 * index, 150))) for index in range(8)]
    methods = list(METHODS)
    jobs = [(crops[index % 8], methods[index % 3]) for index in range(40)]
    expected = [(class_activation_map(detector, *job), detector.score([detector.normalised(job[0])])) for job in jobs]
    found: list = [None] * len(jobs)
    start = threading.Barrier(20)

    def work(first):
        start.wait()
        for index in range(first, len(jobs), 20):
            crop, method = jobs[index]
            found[index] = (class_activation_map(detector, crop, method), detector.score([detector.normalised(crop)]))

    threads = [threading.Thread(target=work, args=(first,)) for first in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.tobytes() for one, _ in expected}) == 16  # Grad-CAM and HiResCAM agree behind a linear head
    for (one, scores), (other, others) in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, rtol=0)
        np.testing.assert_allclose(scores[0], others[0], atol=1e-6, rtol=0)
        np.testing.assert_allclose(scores[1], others[1], atol=1e-6, rtol=0)
