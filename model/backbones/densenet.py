"""torchvision's DenseNet-121 (Huang et al. 2017, "Densely Connected Convolutional Networks")."""

from __future__ import annotations

from torch import nn

from model.backbones.base import LinearHeadNet


def densenet121() -> LinearHeadNet:
    """torchvision's DenseNet-121 up to the ReLU before its pool; 1024-wide cells on a 7 x 7 grid at 224 px."""
    from model._torchvision import torchvision  # takes a second, and other networks do without

    extractor = torchvision.models.densenet121().features
    extractor.add_module("relu5", nn.ReLU(inplace=True))  # torchvision applies it as a function
    return LinearHeadNet(extractor, 1024)
