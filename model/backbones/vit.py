"""The image tower of CLIP ViT-B/16 (Radford et al. 2021), cut after a middle block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.backbones.base import LinearHeadNet
from model.backbones.moments import Moments, places

DEPTH = 12  # blocks of CLIP's ViT-B
QUICK = 1.702  # quick GELU: x * sigmoid(1.702 x)


class ViTBlock(nn.Module):
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
        """Tokens (B, T, D) -> (B, T, D)."""
        batch, count, width = tokens.shape
        qkv = self.qkv(self.norm1(tokens)).view(batch, count, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, D)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.project(mixed.transpose(1, 2).reshape(batch, count, width))
        hidden = self.expand(self.norm2(tokens))
        return tokens + self.contract(hidden * torch.sigmoid(QUICK * hidden))


class ViTCells(nn.Module):
    """CLIP's vision transformer up to its deepest tapped block; patch tokens of the tapped blocks as one grid.

    Parameters
    ----------
    taps : sequence of int
        Blocks (0-based, rising) whose patch tokens are kept. Blocks after the last one do not exist.
    normalise : bool
        Standardise each token (LayerNorm without parameters) before it becomes a cell.
    squares : bool
        Append every channel's square; see `model.backbones.moments`.
    products : sequence of int
        Tapped blocks of which the products along `axes` principal axes are appended too.
    middle : int
        Side of the square of patches in the middle that have all of it again.
    """

    def __init__(
        self,
        *,
        taps: Sequence[int] = (5, 7, 9),
        normalise: bool = False,
        squares: bool = False,
        products: Sequence[int] = (),
        axes: int = 64,
        middle: int = 0,
        width: int = 768,
        heads: int = 12,
        patch: int = 16,
        grid: int = 14,
    ) -> None:
        super().__init__()
        self.taps = tuple(taps)
        if not self.taps or list(self.taps) != sorted(set(self.taps)) or not 0 <= self.taps[0] <= self.taps[-1] < DEPTH:
            raise ValueError(f"taps must be different blocks among 0..{DEPTH - 1} in rising order, got {list(taps)}")
        self.moments = Moments(
            [width] * len(self.taps),
            squares=squares,
            products=places(products, self.taps),
            axes=axes,
            middle=middle,
        )
        if middle and not (0 < middle < grid and (grid - middle) % 2 == 0):
            raise ValueError(f"middle must leave as many of {grid} patches on each side, got {middle}")
        self.normalise = normalise
        self.grid = grid
        self.width = width
        self.patches = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_token = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(torch.zeros(grid * grid + 1, width))
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(ViTBlock(width, heads) for _ in range(max(self.taps) + 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) with S = grid * patch -> cells (B, C, grid, grid)."""
        cells = self.moments(list(self.tokens(images)))  # (B, G*G, C)
        return cells.transpose(1, 2).unflatten(2, (self.grid, self.grid))

    def project(self, images: Tensor, weight: Tensor) -> Tensor:
        """Images, weight (C,) -> each cell's product with the weight (B, grid, grid), float32.

        The same as of the cells that `forward` gives, without ever holding them.
        """
        shares = self.moments.project(self.tokens(images), weight)
        return sum(shares[1:], shares[0]).unflatten(1, (self.grid, self.grid))

    def mean(self, images: Tensor) -> Tensor:
        """Images -> the mean (B, C) of the cells that `forward` gives, float32, without ever holding them."""
        return self.moments.mean(self.tokens(images))

    def tokens(self, images: Tensor) -> Iterator[Tensor]:
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


def clip_vit_b16(
    *,
    taps: Sequence[int] = (5, 7, 9),
    normalise: bool = False,
    squares: bool = False,
    products: Sequence[int] = (),
    axes: int = 64,
    middle: int = 0,
) -> LinearHeadNet:
    """CLIP ViT-B/16 image tower, tapped at middle blocks; 768-wide tokens per tap on a 14 x 14 grid at 224 px."""
    cells = ViTCells(taps=taps, normalise=normalise, squares=squares, products=products, axes=axes, middle=middle)
    return LinearHeadNet(cells, cells.moments.channels)
