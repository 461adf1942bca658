"""torchvision's ResNet-50 (He et al. 2016, "Deep Residual Learning for Image Recognition")."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from model.backbones.base import LinearHeadNet
from model.backbones.moments import Moments, places

STAGES = 4
_EXPANSION = 4  # a bottleneck's outputs for each of its planes


class StageCells(nn.Module):
    """A ResNet of which several stages are tapped; all cells are on the grid of the deepest of them.

    A cell of a finer stage is the mean over the pixels that it covers, so that the mean over cells is that over pixels.

    Parameters
    ----------
    network : nn.Sequential
        The stages by torchvision's names.
    taps : sequence of int
        Stages (1 to 4, rising); those after the last one are dropped.
    moments : Moments
        What cells hold, with a tap per stage.
    """

    def __init__(self, network: nn.Sequential, taps: Sequence[int], moments: Moments) -> None:
        super().__init__()
        self.tapped = [f"layer{stage}" for stage in taps]
        self.stages: list[str] = []
        for name, stage in network.named_children():
            self.add_module(name, stage)
            self.stages.append(name)
            if name == self.tapped[-1]:
                break
        self.moments = moments

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S), S a multiple of the deepest tap's stride -> cells (B, C, G, G)."""
        taps = list(self.tokens(images))
        grid = math.isqrt(taps[-1].shape[1])
        cells = self.moments(taps, pool=lambda values: pooled(values, grid))
        return cells.transpose(1, 2).unflatten(2, (grid, grid))

    def project(self, images: Tensor, weight: Tensor) -> Tensor:
        """Images, weight (C,) -> each cell's product with the weight (B, G, G), float32, without holding cells."""
        shares = self.moments.project(self.tokens(images), weight)
        grid = math.isqrt(shares[-1].shape[1])
        brought = [pooled(share[..., None], grid)[..., 0] for share in shares]
        return sum(brought[1:], brought[0]).unflatten(1, (grid, grid))

    def mean(self, images: Tensor) -> Tensor:
        """Images -> the mean (B, C) of the cells that `forward` gives, float32, without ever holding them."""
        return self.moments.mean(self.tokens(images))

    def tokens(self, images: Tensor) -> Iterator[Tensor]:
        """Pixels (B, H*W, D) of each tapped stage in turn."""
        for name in self.stages:
            images = getattr(self, name)(images)
            if name in self.tapped:
                # flattened and then transposed, ONNX Runtime 1.32 computes narrow stages wrongly
                yield images.permute(0, 2, 3, 1).flatten(1, 2)


def resnet50(
    *,
    width: float = 1.0,
    taps: Sequence[int] = (STAGES,),
    squares: bool = False,
    products: Sequence[int] = (),
    axes: int = 64,
) -> LinearHeadNet:
    """torchvision's ResNet-50 up to its last stage; 2048-wide cells on a 7 x 7 grid at 224 px.

    `width` 0.5 halves every stage after the first convolution, cells included. With other `taps` than the last stage,
    or `squares` or `products`, cells hold more: see `StageCells` and `model.backbones.moments`.

    Raises
    ------
    ValueError
        If taps are not different stages in rising order, or products not different taps.
    """
    if not taps or list(taps) != sorted(set(taps) & set(range(1, STAGES + 1))):
        raise ValueError(f"taps must be different stages among 1..{STAGES} in rising order, got {list(taps)}")
    widths = [round(64 * 2 ** (stage - 1) * width) * _EXPANSION for stage in taps]
    moments = Moments(widths, squares=squares, products=places(products, taps), axes=axes)
    network = _stages(width)
    if tuple(taps) == (STAGES,) and not squares and not products:
        return LinearHeadNet(network, moments.channels)
    return LinearHeadNet(StageCells(network, taps, moments), moments.channels)


def _stages(width: float) -> nn.Sequential:
    from model._torchvision import torchvision  # takes a second, and other networks do without

    bottleneck = torchvision.models.resnet.Bottleneck
    network = torchvision.models.ResNet(bottleneck, [3, 4, 6, 3])
    if width != 1:
        network.inplanes = 64
        for stage, blocks in enumerate((3, 4, 6, 3)):
            planes = round(64 * 2**stage * width)
            layer = network._make_layer(bottleneck, planes, blocks, stride=1 if stage == 0 else 2)
            setattr(network, f"layer{stage + 1}", layer)
    stages = nn.Sequential()
    for name, stage in list(network.named_children())[:-2]:  # without average pool and classifier
        stages.add_module(name, stage)
    return stages


def pooled(values: Tensor, grid: int) -> Tensor:
    """Values of pixels (B, H*H, X) -> their means over the cells of a grid (B, G*G, X)."""
    side = math.isqrt(values.shape[1])
    step = side // grid
    windows = values.reshape(-1, grid, step, grid, step, values.shape[2])
    return windows.mean(dim=(2, 4)).flatten(1, 2)
