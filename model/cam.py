"""The Grad-CAM family through pytorch-grad-cam, for comparison with `model.evidence`.

pytorch-grad-cam hooks a layer and back-propagates. On a shared network its hooks would collect every thread's
activations; here each call hooks a layer of its own that stands between the (finished) cells and the head, so that
calls cannot meet and only the head is back-propagated. The maps are rescaled to [0, 1] per picture and drop evidence
toward `real`: they show where, never how much. EigenCAM knows no class at all: it is the first principal component of
the cells, whatever the head makes of them.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from model.backbones import LinearHeadNet
from model.detector import Detector

METHODS = {
    "grad_cam": "Grad-CAM",
    "hires_cam": "HiResCAM",
    "grad_cam_plus_plus": "Grad-CAM++",
    "layer_cam": "LayerCAM",
    "eigen_cam": "EigenCAM",
}
_CLASSES = {
    "grad_cam": "GradCAM",
    "hires_cam": "HiResCAM",
    "grad_cam_plus_plus": "GradCAMPlusPlus",
    "layer_cam": "LayerCAM",
    "eigen_cam": "EigenCAM",
}


class _Head(nn.Module):
    """The network from its cells on, with a hookable layer of its own, and an output per class: (B, 1)."""

    def __init__(self, network: LinearHeadNet) -> None:
        super().__init__()
        self.network = network
        self.cells = nn.Identity()

    def forward(self, cells: Tensor) -> Tensor:
        return self.network.forward_head(self.cells(cells))[:, None]


def class_activation_map(detector: Detector, crop: Image.Image, method: str) -> np.ndarray:
    """Where a method of the Grad-CAM family sees evidence toward `fake`; EigenCAM, where the cells vary most.

    Parameters
    ----------
    crop : PIL.Image.Image
        As returned by `Detector.crop`.
    method : str
        A key of `METHODS`.

    Returns
    -------
    ndarray of shape (S, S), float32 in [0, 1]
        Min-max scaled per picture by pytorch-grad-cam.

    Raises
    ------
    ValueError
        If the method is unknown.
    """
    return class_activation_maps(detector, crop, (method,))[method]


def class_activation_maps(
    detector: Detector, crop: Image.Image, methods: Iterable[str] = tuple(METHODS)
) -> dict[str, np.ndarray]:
    """Maps of several methods as by `class_activation_map`, out of one pass through the network."""
    methods = tuple(methods)
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}; known are {', '.join(METHODS)}")
    from model import _torchvision  # noqa: F401 - before pytorch_grad_cam, which imports torchvision

    import pytorch_grad_cam  # slow to import, needed only here  # isort: skip
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with torch.no_grad():
        cells = detector.network.forward_features(torch.from_numpy(detector.normalised(crop)[None])).float()
    maps = {}
    for method in methods:
        head = _Head(detector.network).eval()
        with getattr(pytorch_grad_cam, _CLASSES[method])(model=head, target_layers=[head.cells]) as cam:
            if method == "eigen_cam":
                cam.get_cam_image = lambda *arguments, **_: _first_components(arguments[3])
            found = cam(input_tensor=cells.clone().requires_grad_(), targets=[ClassifierOutputTarget(0)])[0]
        maps[method] = _scaled(np.maximum(cv2.resize(found, crop.size), 0))
    return maps


def _first_components(activations: np.ndarray) -> np.ndarray:
    """Projections (B, H, W) of activations (B, C, H, W) on their first principal component.

    As pytorch-grad-cam computes them for EigenCAM, without the C x C matrix that it asks for and does not use: with ten
    thousand channels that takes most of a minute.
    """
    out = []
    for one in activations:
        pixels = one.reshape(len(one), -1).T  # (H * W, C)
        pixels = pixels - pixels.mean(axis=0)
        _, _, directions = np.linalg.svd(pixels, full_matrices=False)
        out.append((pixels @ directions[0]).reshape(one.shape[1:]))
    return np.stack(out).astype(np.float32)


def _scaled(one: np.ndarray) -> np.ndarray:
    """To [0, 1], as pytorch-grad-cam does it after it has resized a map."""
    one = one - one.min()
    return (one / (1e-7 + one.max())).astype(np.float32)
