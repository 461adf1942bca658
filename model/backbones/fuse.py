"""Batch normalisation folded into the convolution before it: the same function in fewer passes over memory."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.backbones.base import LinearHeadNet


def fused(network: LinearHeadNet) -> LinearHeadNet:
    """A copy for inference on processors: norms folded, weights in channels-last order; the network itself without any.

    Every backbone here declares a norm right after the convolution that feeds it and feeds nothing else; that is what
    is looked for. Outputs agree within float32 rounding.

    Raises
    ------
    ValueError
        If the network is in training mode: its norms are not fixed yet.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network
    if network.training:
        raise ValueError("only a network in evaluation mode can be fused")
    out = copy.deepcopy(network)
    _fold(out)
    return out.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _fold(module: nn.Module) -> None:
    children = list(module.named_children())
    for _, child in children:
        _fold(child)
    for (name, before), (norm_name, after) in zip(children, children[1:], strict=False):
        if isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(before, after))
            setattr(module, norm_name, nn.Identity())
