"""Networks that end in *average over cells, then one linear layer*.

Every backbone maps an image batch to a grid of feature cells, averages the cells and applies one linear layer. The
logit is then, exactly, a bias plus a sum of one signed contribution per cell (see `model.evidence`), and Grad-CAM on
the grid equals that map up to scale (Zhou et al. 2016, "Learning Deep Features for Discriminative Localization";
Selvaraju et al. 2017, "Grad-CAM").

- `resnet50`: torchvision's ResNet-50; the cells are the last stage's 7 x 7 grid (at 224 px), or hold moments and
  products of the pixels of several stages.
- `densenet121`: torchvision's DenseNet-121; the cells are its last 7 x 7 grid.
- `efficientnet_lite`: EfficientNet-Lite0, 1 or 2; the cells are its last 7 x 7 grid.
- `clip_vit_b16`: the image tower of CLIP ViT-B/16 (Radford et al. 2021), cut after a middle block; the cells are the
  14 x 14 patch tokens of several middle blocks side by side.
- `tiny`: two convolutions, for tests.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from model.backbones.base import LinearHeadNet
from model.backbones.densenet import densenet121
from model.backbones.efficientnet import efficientnet_lite
from model.backbones.resnet import resnet50
from model.backbones.vit import DEPTH, ViTCells, clip_vit_b16

__all__ = [
    "DEPTH",
    "REGISTRY",
    "LinearHeadNet",
    "ViTCells",
    "build",
    "clip_vit_b16",
    "densenet121",
    "efficientnet_lite",
    "resnet50",
    "tiny",
]


def tiny(*, channels: int = 8) -> LinearHeadNet:
    """Two strided convolutions: the smallest network with the contract, for tests."""
    extractor = nn.Sequential(nn.Conv2d(3, channels, 8, 8), nn.ReLU(), nn.Conv2d(channels, channels, 4, 4), nn.ReLU())
    return LinearHeadNet(extractor, channels)


REGISTRY: dict[str, Callable[..., LinearHeadNet]] = {
    "resnet50": resnet50,
    "densenet121": densenet121,
    "efficientnet_lite": efficientnet_lite,
    "clip_vit_b16": clip_vit_b16,
    "tiny": tiny,
}


def build(architecture: str, options: dict[str, object] | None = None) -> LinearHeadNet:
    """Build an untrained network by its registered name.

    Raises
    ------
    ValueError
        If the architecture is unknown or does not take the given options.
    """
    if architecture not in REGISTRY:
        raise ValueError(f"unknown architecture {architecture!r}; known are {', '.join(sorted(REGISTRY))}")
    try:
        return REGISTRY[architecture](**(options or {}))
    except TypeError as error:
        raise ValueError(f"architecture {architecture!r}: {error}") from error
