"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation, with ReLU6, for small devices.

Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"; the Lite family is Google's
own reduction of it (2020). Stem and head keep their widths, first and last stage their depths, whatever the variant.
Convolutions are padded as TensorFlow pads them, so that weights trained there compute the same here. Those weights read
RGB in 0..1 with mean and deviation 0.5.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from model.backbones.base import LinearHeadNet

STEM, CELL = 32, 1280  # channels after the stem, and of a cell
# Blocks, kernel, stride of the first block, expansion, channels: one row per stage.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
SCALING = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}  # variant: width, depth


def efficientnet_lite(*, variant: int = 0) -> LinearHeadNet:
    """EfficientNet-Lite0, 1 or 2 up to its last convolution; 1280-wide cells on a 7 x 7 grid at 224 px.

    Raises
    ------
    ValueError
        If the variant is not 0, 1 or 2.
    """
    if variant not in SCALING:
        raise ValueError(f"variant must be 0, 1 or 2, got {variant!r}")
    width, depth = SCALING[variant]
    extractor = nn.Sequential()
    extractor.add_module("stem", _ConvNorm(3, STEM, 3, stride=2))
    blocks = nn.Sequential()
    channels = STEM
    for stage, (count, kernel, stride, expansion, base) in enumerate(STAGES):
        out = scaled_width(base, width)
        inner = stage not in (0, len(STAGES) - 1)
        for index in range(math.ceil(count * depth) if inner else count):
            blocks.append(_InvertedResidual(channels, out, kernel, stride if index == 0 else 1, expansion))
            channels = out
    extractor.add_module("blocks", blocks)
    extractor.add_module("head", _ConvNorm(channels, CELL, 1))
    return LinearHeadNet(extractor, CELL)


def scaled_width(channels: int, width: float) -> int:
    """Channels times width, to the nearest multiple of 8 that does not lose more than a tenth.

    Examples
    --------
    >>> [scaled_width(channels, 1.1) for channels in (16, 24, 40, 80, 112, 192, 320)]
    [16, 24, 48, 88, 120, 208, 352]
    """
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


class SameConv2d(nn.Conv2d):
    """A convolution, trained without bias, whose output is ceil(input / stride), padded as TensorFlow does ("SAME").

    The padding depends on the input's size; of an odd amount the larger half goes below and right, where torch's own
    `padding` puts equal halves.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, across = (max(kernel - 1 - (size - 1) % stride, 0) for size in images.shape[2:])  # in all
        padding = (down // 2, across // 2)
        if down % 2 or across % 2:
            images = functional.pad(images, (across // 2, across - across // 2, down // 2, down - down // 2))
            padding = (0, 0)
        return functional.conv2d(images, self.weight, self.bias, self.stride, padding, groups=self.groups)


class _ConvNorm(nn.Module):
    """Convolution and batch norm (with TensorFlow's constants), then ReLU6 unless `linear`."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        self.conv = SameConv2d(inputs, outputs, kernel, stride=stride, groups=groups)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
        self.activation = nn.Identity() if linear else nn.ReLU6(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(images)))


class _InvertedResidual(nn.Module):
    """Widen, convolve each channel on its own, narrow; added to the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = _ConvNorm(inputs, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _ConvNorm(wide, wide, kernel, stride=stride, groups=wide)
        self.project = _ConvNorm(wide, outputs, 1, linear=True)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, images: Tensor) -> Tensor:
        out = self.project(self.depthwise(self.expand(images)))
        return images + out if self.residual else out
