"""torchvision's ResNet-50 (He et al. 2016, "Deep Residual Learning for Image Recognition")."""

from __future__ import annotations

from torch import nn

from model.backbones.base import LinearHeadNet


def resnet50(*, width: float = 1.0) -> LinearHeadNet:
    """torchvision's ResNet-50 up to its last stage; 2048-wide cells on a 7 x 7 grid at 224 px.

    `width` 0.5 halves every stage after the first convolution, cells included.
    """
    from model._torchvision import torchvision  # takes a second, and other networks do without

    bottleneck = torchvision.models.resnet.Bottleneck
    network = torchvision.models.ResNet(bottleneck, [3, 4, 6, 3])
    if width != 1:
        network.inplanes = 64
        for stage, blocks in enumerate((3, 4, 6, 3)):
            planes = round(64 * 2**stage * width)
            layer = network._make_layer(bottleneck, planes, blocks, stride=1 if stage == 0 else 2)
            setattr(network, f"layer{stage + 1}", layer)
    stages = list(network.named_children())[:-2]  # without average pool and classifier
    extractor = nn.Sequential()
    for name, stage in stages:
        extractor.add_module(name, stage)
    return LinearHeadNet(extractor, round(2048 * width))
