"""torchvision's ResNet-50 (He et al. 2016, "Deep Residual Learning for Image Recognition")."""

from __future__ import annotations

from torch import nn

from model._torchvision import torchvision
from model.backbones.base import LinearHeadNet


def resnet50(*, width: float = 1.0) -> LinearHeadNet:
    """torchvision's ResNet-50 up to its last stage; 2048-wide cells on a 7 x 7 grid at 224 px.

    `width` 0.5 halves every stage after the first convolution, cells included.
    """
    network = _ResNet50(width)
    stages = list(network.named_children())[:-2]  # without average pool and classifier
    extractor = nn.Sequential()
    for name, stage in stages:
        extractor.add_module(name, stage)
    return LinearHeadNet(extractor, round(2048 * width))


class _ResNet50(torchvision.models.ResNet):
    """torchvision's ResNet-50 with all stages narrowed alike."""

    def __init__(self, width: float) -> None:
        bottleneck = torchvision.models.resnet.Bottleneck
        super().__init__(bottleneck, [3, 4, 6, 3])
        if width != 1:
            self.inplanes = 64
            for stage, blocks in enumerate((3, 4, 6, 3)):
                planes = round(64 * 2**stage * width)
                layer = self._make_layer(bottleneck, planes, blocks, stride=1 if stage == 0 else 2)
                setattr(self, f"layer{stage + 1}", layer)
