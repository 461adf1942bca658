"""The Grad-CAM family through pytorch-grad-cam, for comparison with `model.evidence`.

pytorch-grad-cam hooks a layer and back-propagates. On a shared network its hooks would collect every thread's
activations; here each call hooks a layer of its own that stands between the (frozen) cells and the head, so that calls
cannot meet and only the head is back-propagated. The maps are rescaled to [0, 1] per picture and drop evidence toward
`real`: they show where, never how much.
"""

from __future__ import annotations

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
}
_CLASSES = {"grad_cam": "GradCAM", "hires_cam": "HiResCAM", "grad_cam_plus_plus": "GradCAMPlusPlus"}


class _Hooked(nn.Module):
    """The network with a hookable layer of its own after the cells, and an output per class: (B, 1)."""

    def __init__(self, network: LinearHeadNet) -> None:
        super().__init__()
        self.network = network
        self.cells = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            cells = self.network.forward_features(images)
        return self.network.forward_head(self.cells(cells.requires_grad_()))[:, None]


def class_activation_map(detector: Detector, crop: Image.Image, method: str) -> np.ndarray:
    """Where a method of the Grad-CAM family sees evidence toward `fake`.

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
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known are {', '.join(METHODS)}")
    import pytorch_grad_cam  # slow to import, needed only here
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    hooked = _Hooked(detector.network).eval()
    with getattr(pytorch_grad_cam, _CLASSES[method])(model=hooked, target_layers=[hooked.cells]) as cam:
        return cam(input_tensor=detector.tensor(crop)[None], targets=[ClassifierOutputTarget(0)])[0]
