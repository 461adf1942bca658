"""The blocks of a vision transformer in eight bits: most of its work at four times the rate of float32.

Processors multiply unsigned bytes (activations) with signed ones (weights) and sum in 32 bits, exactly. What is lost is
the rounding of activations, as the weights of a checkpoint stored as int8 are bytes already. Some channels of a
transformer's tokens reach ten times further than most, and a step that covers them would be too coarse for the rest;
so the layers whose input is a norm's output see

- each channel's distance from the middle of its range, which is constant and goes into the bias (channel-wise shifting:
  Wei et al. 2023, "Outlier Suppression+"), and
- far-reaching channels several times (outlier channel splitting: Zhao et al. 2019, "Improving Neural Network
  Quantization without Retraining using Outlier Channel Splitting"). The n copies of a channel are rounded with n
  offsets, so that they add up to the channel's own rounding in the fine step: for every real x,
  floor(x / n) + floor((x + 1) / n) + ... + floor((x + n - 1) / n) = floor(x) (Hermite's identity).

The layer after the activation function has a step of its own for each token. Attention, and the layer after it, which
is a twelfth of the work and sensitive, are computed in bfloat16; sums of blocks stay in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.backbones.base import LinearHeadNet
from model.backbones.quantise import quantise
from model.backbones.vit import QUICK, ViTBlock, ViTCells

_NORMS = ("norm1", "norm2")
_COPIES = 12  # one channel more for so many
_ZERO, _LEVELS = 128, 255  # of unsigned bytes
_LOWEST = -0.2785  # of x * sigmoid(x), rounded down
_Range = tuple[np.ndarray, np.ndarray]


def supported() -> bool:
    """Whether this processor multiplies bytes and bfloat16 by instructions of their own."""
    return torch.cpu._is_avx512_bf16_supported() and torch.cpu._is_vnni_supported()


def normed(network: LinearHeadNet) -> dict[str, nn.Module]:
    """Norms whose outputs' ranges `in_int8` needs, by name; none if the network is not a vision transformer."""
    return {
        f"blocks.{index}.{name}": getattr(block, name)
        for index, block in enumerate(_blocks(network) or [])
        for name in _NORMS
    }


def _blocks(network: LinearHeadNet) -> nn.ModuleList | None:
    return network.extractor.blocks if isinstance(network.extractor, ViTCells) else None


def in_int8(network: LinearHeadNet, ranges: Mapping[str, _Range]) -> LinearHeadNet:
    """A copy whose blocks compute in int8; all else stays as it is.

    Parameters
    ----------
    network : LinearHeadNet
        On a `ViTCells`, in evaluation mode.
    ranges : mapping of str to pair of ndarray of shape (D,)
        Lowest and highest value of each channel of the norms that `normed` names. What is beyond is cut.

    Raises
    ------
    ValueError
        If the network is no vision transformer, or ranges are missing or of another width.
    """
    out = copy.deepcopy(network)
    blocks = _blocks(out)
    if blocks is None:
        raise ValueError("only vision transformers are computed in int8 this way")
    for name, norm in normed(out).items():
        if name not in ranges or any(bound.shape != norm.weight.shape for bound in ranges[name]):
            raise ValueError(f"there are no ranges that fit {name}")
    for index, block in enumerate(blocks):
        assert isinstance(block, ViTBlock)
        blocks[index] = _Int8Block(block, *(ranges[f"blocks.{index}.{name}"] for name in _NORMS))
    return out


class _Int8Block(nn.Module):
    """What `ViTBlock` computes."""

    def __init__(self, block: ViTBlock, first: _Range, second: _Range) -> None:
        super().__init__()
        self.heads = block.heads
        width = block.project.in_features
        self.levels1, self.levels2 = _Levels(block.norm1, *first), _Levels(block.norm2, *second)
        gains = torch.ones(3 * width)
        gains[:width] = (width // block.heads) ** -0.5  # of attention, into the query
        self.qkv = self.levels1.before(block.qkv, gains)
        self.project = copy.deepcopy(block.project).bfloat16()
        # Quick GELU, h * sigmoid(c h), is x * sigmoid(x) / c of x = c h.
        self.expand = self.levels2.before(block.expand, torch.full((4 * width,), QUICK))
        weight, scale = quantise(block.contract.weight)
        self.contract = _Product(weight, scale / QUICK, None)
        self.total = weight.sum(dim=1) * scale / QUICK  # (D,) of all ones
        self.contract_bias = block.contract.bias

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T, D) -> (B, T, D), float32."""
        mixed = _attention(self.qkv(self.levels1(tokens), torch.bfloat16), self.heads)
        tokens = tokens + self.project(mixed)
        hidden = self.expand(self.levels2(tokens), torch.float32, after="swish")
        per_one = (_LEVELS - 1) / (hidden.amax(dim=2, keepdim=True).clamp_min_(0) - _LOWEST)  # levels (B, T, 1)
        zero = (-_LOWEST * per_one).ceil_()  # whole: most values lie close to 0, and its error would be that of all
        levels = _as_bytes(hidden.mul_(per_one).add_(zero + 0.5))
        out = self.contract(levels, torch.float32)
        out.flatten(0, 1).addr_(zero.flatten(), self.total, alpha=-1)
        return out.div_(per_one).add_(self.contract_bias).add_(tokens)


class _Levels(nn.Module):
    """A norm whose outputs are bytes: its channels, and further copies of those that reach far.

    Parameters
    ----------
    norm : LayerNorm
    low, high : ndarray of shape (D,)
        Range of each output.
    """

    def __init__(self, norm: nn.LayerNorm, low: np.ndarray, high: np.ndarray) -> None:
        super().__init__()
        self.shape, self.eps = norm.normalized_shape, norm.eps
        self.middle, reach = (torch.from_numpy(half).double() for half in ((low + high) / 2, (high - low) / 2))
        count = torch.ones_like(reach)
        for _ in range(len(reach) // _COPIES):
            count[(reach / count).argmax()] += 1
        self.step = float((reach / count).max().clamp_min(1e-9)) * 2 / _LEVELS
        copies = [(channel, place) for channel, of in enumerate(count.int().tolist()) for place in range(1, of)]
        self.extra = torch.tensor([channel for channel, _ in copies], dtype=torch.long)  # (E,)
        self.offset = torch.tensor([place for _, place in copies]) / count[self.extra].float()  # (E,)
        self.weight = (norm.weight.double() / self.step / count).float()
        self.bias = (((norm.bias.double() - self.middle) / self.step + 0.5) / count + _ZERO).float()

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (..., D) -> levels (..., D + E), uint8."""
        levels = functional.layer_norm(tokens, self.shape, self.weight, self.bias, self.eps)
        copies = levels.index_select(-1, self.extra) + self.offset
        return torch.cat([_as_bytes(part.clamp_(0, _LEVELS + 0.5)) for part in (levels, copies)], dim=-1)

    def before(self, layer: nn.Linear, gains: Tensor) -> _Product:
        """The layer that reads these levels in place of the norm's outputs; its outputs are multiplied by `gains`."""
        weight, scale = quantise(layer.weight)
        weight = torch.cat([weight, weight[:, self.extra]], dim=1)
        bias = layer.bias.double() + layer.weight.double() @ self.middle
        bias -= _ZERO * self.step * scale.double() * weight.sum(dim=1)  # exact: a small rest of large sums
        return _Product(weight, scale * self.step * gains, (bias * gains).float())


class _Product(nn.Module):
    """Levels times signed bytes.

    Parameters
    ----------
    weight : Tensor of shape (O, I), int8
    scale : Tensor of shape (O,)
        Of each output.
    bias : Tensor of shape (O,), optional
    """

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.packed = torch.ops.onednn.qlinear_prepack(weight.contiguous(), None)
        self.scale, self.bias = scale, bias
        self.zero = torch.zeros(len(scale), dtype=torch.int32)

    def forward(self, levels: Tensor, kind: torch.dtype, after: str = "none") -> Tensor:
        """Levels (..., I), uint8 -> outputs (..., O) of the type `kind`, through the function `after`."""
        return torch.ops.onednn.qlinear_pointwise(
            levels, 1.0, 0, self.packed, self.scale, self.zero, self.bias, 1.0, 0, kind, after, [], ""
        )


def _attention(qkv: Tensor, heads: int) -> Tensor:
    """Queries, keys and values side by side (B, T, 3 D) -> mixed values (B, T, D); queries are scaled already."""
    batch, count, width = qkv.shape
    out = qkv.new_empty(batch, count, width // 3)
    for own, mixed in zip(qkv, out, strict=True):  # what an image needs fits the cache; strided heads are not copied
        query, key, value = own.view(count, 3, heads, -1).permute(1, 2, 0, 3)  # each (heads, T, D / heads)
        attention = torch.bmm(query, key.transpose(1, 2)).softmax(dim=2)  # (heads, T, T)
        mixed.view(count, heads, -1).copy_(torch.bmm(attention, value).transpose(0, 1))
    return out


def _as_bytes(levels: Tensor) -> Tensor:
    """Whole part of values in 0..255; by way of int16, which is three times quicker."""
    return levels.to(torch.int16).to(torch.uint8)
