"""The image tower of CLIP ViT-B/16 (Radford et al. 2021), cut after a middle block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.backbones.base import LinearHeadNet

DEPTH = 12  # blocks of CLIP's ViT-B


class _Block(nn.Module):
    """One pre-norm transformer block with CLIP's quick GELU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        qkv = self.qkv(self.norm1(tokens)).view(batch, count, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, D)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.project(mixed.transpose(1, 2).reshape(batch, count, width))
        hidden = self.expand(self.norm2(tokens))
        return tokens + self.contract(hidden * torch.sigmoid(1.702 * hidden))


class ViTCells(nn.Module):
    """CLIP's vision transformer up to its deepest tapped block; patch tokens of the tapped blocks as one grid.

    Parameters
    ----------
    taps : sequence of int
        Blocks (0-based, rising) whose patch tokens are kept. Blocks after the last one do not exist.
    normalise : bool
        Standardise each token (LayerNorm without parameters) before it becomes a cell.
    squares : bool
        Append every channel's square: the mean over cells then holds first and second moments of the tokens, and the
        linear layer sees how much a channel varies over the face, not only its mean.
    """

    def __init__(
        self,
        *,
        taps: Sequence[int] = (5, 7, 9),
        normalise: bool = False,
        squares: bool = False,
        width: int = 768,
        heads: int = 12,
        patch: int = 16,
        grid: int = 14,
    ) -> None:
        super().__init__()
        self.taps = tuple(taps)
        if not self.taps or list(self.taps) != sorted(set(self.taps)) or not 0 <= self.taps[0] <= self.taps[-1] < DEPTH:
            raise ValueError(f"taps must be different blocks among 0..{DEPTH - 1} in rising order, got {list(taps)}")
        self.normalise = normalise
        self.squares = squares
        self.grid = grid
        self.width = width
        self.patches = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_token = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(torch.zeros(grid * grid + 1, width))
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(max(self.taps) + 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) with S = grid * patch -> cells (B, C, grid, grid).

        C is width * len(taps), twice that with `squares`.
        """
        cells = torch.cat(list(self._tapped(images)), dim=2)  # (B, G*G, D*len(taps))
        if self.squares:
            cells = torch.cat([cells, cells * cells], dim=2)
        return cells.transpose(1, 2).unflatten(2, (self.grid, self.grid))

    def project(self, images: Tensor, weight: Tensor) -> Tensor:
        """Images, weight (C,) -> each cell's product with the weight (B, grid, grid), float32.

        The same as of the cells that `forward` gives, without ever holding them.
        """
        first, second = weight.view(2, -1, self.width) if self.squares else (weight.view(-1, self.width), None)
        total = torch.zeros(images.shape[0], self.grid * self.grid, device=images.device)
        for place, patches in enumerate(self._tapped(images)):
            with torch.autocast(images.device.type, enabled=False):
                patches = patches.float()
                total = total + patches @ first[place]
                if second is not None:
                    total = total + (patches * patches) @ second[place]
        return total.unflatten(1, (self.grid, self.grid))

    def mean(self, images: Tensor) -> Tensor:
        """Images -> the mean (B, C) of the cells that `forward` gives, float32, without ever holding them."""
        tapped = [patches.float() for patches in self._tapped(images)]
        moments = [patches.mean(dim=1) for patches in tapped]
        if self.squares:
            moments += [(patches * patches).mean(dim=1) for patches in tapped]
        return torch.cat(moments, dim=1)

    def _tapped(self, images: Tensor) -> Iterator[Tensor]:
        """Patch tokens (B, G*G, D) of each tapped block in turn."""
        with torch.autocast(images.device.type, enabled=False):  # a hundredth of the work, most of bfloat16's error
            tokens = self.patches(images.float()).flatten(2).transpose(1, 2)  # (B, G*G, D)
        tokens = torch.cat([self.class_token.expand(tokens.shape[0], 1, -1), tokens], dim=1)
        tokens = self.norm(tokens + self.positions)  # (B, 1+G*G, D)
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in self.taps:
                patches = tokens[:, 1:]
                yield functional.layer_norm(patches, (self.width,)) if self.normalise else patches


def clip_vit_b16(*, taps: Sequence[int] = (5, 7, 9), normalise: bool = False, squares: bool = False) -> LinearHeadNet:
    """CLIP ViT-B/16 image tower, tapped at middle blocks; 768-wide tokens per tap on a 14 x 14 grid at 224 px."""
    channels = 768 * len(tuple(taps)) * (2 if squares else 1)
    return LinearHeadNet(ViTCells(taps=taps, normalise=normalise, squares=squares), channels)
