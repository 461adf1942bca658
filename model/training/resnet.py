"""Initial weights for convolutional networks: torchvision's, or for ResNet-50 a half-width network widened.

Widening leaves the computed function as it is. It follows Chen, Goodfellow and Shlens 2016, "Net2Net": every channel
is doubled, and each weight that reads a doubled channel is split between the two copies at random, so that the copies
can part in training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model._torchvision import torchvision
from model.backbones import LinearHeadNet

_IMAGENET = {"resnet50": "IMAGENET1K_V2", "densenet121": "IMAGENET1K_V1"}


def load_imagenet(network: LinearHeadNet, architecture: str) -> None:
    """Fill a network with torchvision's ImageNet weights (downloaded by torchvision on first use).

    Raises
    ------
    ValueError
        If torchvision has no weights for the architecture, or the network is not its full-width form.
    """
    if architecture not in _IMAGENET:
        raise ValueError(
            f"torchvision has no ImageNet weights for the architecture {architecture}, "
            f"only for {' and '.join(_IMAGENET)}; see model.training.donors for others"
        )
    state = torchvision.models.get_model(architecture, weights=_IMAGENET[architecture]).state_dict()
    state = {
        name.removeprefix("features."): value
        for name, value in state.items()
        if not name.startswith(("fc.", "classifier."))
    }
    own = {name: value for name, value in network.extractor.state_dict().items() if name.startswith("moments.")}
    try:
        network.extractor.load_state_dict(state | own)
    except RuntimeError as error:
        raise ValueError(f"ImageNet weights fit the architecture {architecture} at full width only") from error


def load_folded(network: LinearHeadNet, state: dict[str, Tensor]) -> None:
    """Fill a ResNet-50 whose widths match `state`: convolutions with folded biases, before identity batch norms.

    The biases become the batch norms' shifts. Batch statistics are still neutral: see `settle_batch_norms`.
    """
    modules = dict(network.extractor.named_modules())
    for name, module in modules.items():
        if isinstance(module, nn.Conv2d):
            module.weight.data.copy_(state[f"{name}.weight"])
            norm = modules[_norm_of(name)]
            assert isinstance(norm, nn.BatchNorm2d)
            nn.init.ones_(norm.weight)
            norm.bias.data.copy_(state[f"{name}.bias"])
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)


def _norm_of(convolution: str) -> str:
    if convolution.endswith("downsample.0"):
        return convolution.removesuffix("0") + "1"
    return convolution.replace("conv", "bn")


@torch.no_grad()
def settle_batch_norms(network: LinearHeadNet, images: Tensor) -> None:
    """Re-express each batch norm with the statistics of a batch, leaving the function as it is.

    A norm that computes (x - m0) / s0 * g0 + b0 is rewritten with the batch's mean m and deviation s as
    (x - m) / s * (g0 * s / s0) + b0 + g0 * (m - m0) / s0, so that training mode starts from the same function.
    """

    def settle(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = inputs[0].mean(dim=(0, 2, 3)), inputs[0].var(dim=(0, 2, 3), unbiased=False)
        assert norm.running_mean is not None and norm.running_var is not None
        before = torch.sqrt(norm.running_var + norm.eps)
        norm.bias.add_(norm.weight * (mean - norm.running_mean) / before)
        norm.weight.mul_((variance + norm.eps).sqrt() / before)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)

    handles = [
        module.register_forward_pre_hook(settle) for module in network.modules() if isinstance(module, nn.BatchNorm2d)
    ]
    network.eval()
    network(images)
    for handle in handles:
        handle.remove()


@torch.no_grad()
def widen(narrow: LinearHeadNet, wide: LinearHeadNet, *, seed: int = 0) -> None:
    """Fill `wide` so that it computes what `narrow` computes; each width of `wide` is once or twice `narrow`'s."""
    generator = torch.Generator().manual_seed(seed)
    source = narrow.state_dict()
    filled = {}
    for name, target in wide.state_dict().items():
        value = source[name]
        if value.ndim >= 2 and target.shape[1] == 2 * value.shape[1]:
            part = torch.rand(value.shape[:2], generator=generator) * 0.5 + 0.25
            part = part.view(*value.shape[:2], *[1] * (value.ndim - 2))
            value = torch.cat([value * part, value * (1 - part)], dim=1)
        if value.ndim >= 1 and target.shape[0] == 2 * value.shape[0]:
            value = torch.cat([value, value], dim=0)
        filled[name] = value
    wide.load_state_dict(filled)
