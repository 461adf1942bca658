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
    products : sequence of int
        Tapped blocks of which, in addition, the products of all pairs of `axes` directions are appended: their mean
        tells how channels vary together over a face (bilinear pooling: Lin, RoyChowdhury and Maji 2015, "Bilinear CNN
        Models for Fine-grained Visual Recognition"). `set_axes` gives the directions; they are part of the weights.
    axes : int
        Number of directions, K; a block has K (K + 1) / 2 products.
    """

    def __init__(
        self,
        *,
        taps: Sequence[int] = (5, 7, 9),
        normalise: bool = False,
        squares: bool = False,
        products: Sequence[int] = (),
        axes: int = 64,
        width: int = 768,
        heads: int = 12,
        patch: int = 16,
        grid: int = 14,
    ) -> None:
        super().__init__()
        self.taps = tuple(taps)
        if not self.taps or list(self.taps) != sorted(set(self.taps)) or not 0 <= self.taps[0] <= self.taps[-1] < DEPTH:
            raise ValueError(f"taps must be different blocks among 0..{DEPTH - 1} in rising order, got {list(taps)}")
        self.products = tuple(products)
        if list(self.products) != sorted(set(self.products) & set(self.taps)):
            raise ValueError(f"products must be different taps in rising order, got {list(products)}")
        if self.products and not 1 <= axes <= width:
            raise ValueError(f"axes must be between 1 and the width {width}, got {axes}")
        self.normalise = normalise
        self.squares = squares
        self.grid = grid
        self.width = width
        self.patches = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_token = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(torch.zeros(grid * grid + 1, width))
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(max(self.taps) + 1))
        self.centres: Tensor
        self.axes: Tensor
        if self.products:
            self.register_buffer("centres", torch.zeros(len(self.products), width))
            self.register_buffer("axes", torch.eye(width, axes).repeat(len(self.products), 1, 1))  # (P, D, K)

    @property
    def channels(self) -> int:
        """C, the width of a cell."""
        pairs = self.axes.shape[2] * (self.axes.shape[2] + 1) // 2 if self.products else 0
        return self.width * len(self.taps) * (2 if self.squares else 1) + pairs * len(self.products)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) with S = grid * patch -> cells (B, C, grid, grid).

        A cell holds the tokens of all taps, then their squares, then the products.
        """
        tapped = list(self._tapped(images))
        parts = tapped + [tokens * tokens for tokens in tapped if self.squares]
        for place, block in enumerate(self.products):
            along = self._along(tapped[self.taps.index(block)], place)
            first, second = self._pairs()
            parts.append(along[..., first] * along[..., second])
        return torch.cat(parts, dim=2).transpose(1, 2).unflatten(2, (self.grid, self.grid))

    def project(self, images: Tensor, weight: Tensor) -> Tensor:
        """Images, weight (C,) -> each cell's product with the weight (B, grid, grid), float32.

        The same as of the cells that `forward` gives, without ever holding them.
        """
        linear, squared, quadratic = self._split(weight)
        total = torch.zeros(images.shape[0], self.grid * self.grid, device=images.device)
        for place, (block, patches) in enumerate(zip(self.taps, self._tapped(images), strict=True)):
            with torch.autocast(images.device.type, enabled=False):
                patches = patches.float()
                total = total + patches @ linear[place]
                if self.squares:
                    total = total + (patches * patches) @ squared[place]
                if block in self.products:
                    along = self._along(patches, self.products.index(block))
                    total = total + (along @ quadratic[self.products.index(block)] * along).sum(dim=2)
        return total.unflatten(1, (self.grid, self.grid))

    def mean(self, images: Tensor) -> Tensor:
        """Images -> the mean (B, C) of the cells that `forward` gives, float32, without ever holding them."""
        tapped = [patches.float() for patches in self._tapped(images)]
        moments = [patches.mean(dim=1) for patches in tapped]
        if self.squares:
            moments += [(patches * patches).mean(dim=1) for patches in tapped]
        with torch.autocast(images.device.type, enabled=False):
            for place, block in enumerate(self.products):
                along = self._along(tapped[self.taps.index(block)], place)
                first, second = self._pairs()
                moments.append((along.transpose(1, 2) @ along / along.shape[1])[:, first, second])
        return torch.cat(moments, dim=1)

    def tokens(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Images -> patch tokens (B, G*G, D) of some of the tapped blocks, as they become cells."""
        return [patches for block, patches in zip(self.taps, self._tapped(images), strict=True) if block in blocks]

    @torch.no_grad()
    def set_axes(self, means: Tensor, covariances: Tensor) -> None:
        """Take as directions the first principal axes of each product block's tokens, scaled to unit variance.

        Parameters
        ----------
        means : Tensor of shape (P, D)
            Mean token of each block of `products`.
        covariances : Tensor of shape (P, D, D)
        """
        count = self.axes.shape[2]
        for place, covariance in enumerate(covariances):
            variances, vectors = torch.linalg.eigh(covariance.double())  # rising
            self.axes[place] = (vectors[:, -count:] / variances[-count:].clamp_min(1e-9).sqrt()).flip(1)
        self.centres.copy_(means)

    def _along(self, patches: Tensor, place: int) -> Tensor:
        """Tokens (B, G*G, D) of a product block -> their coordinates (B, G*G, K)."""
        return (patches - self.centres[place]) @ self.axes[place]

    def _pairs(self) -> tuple[Tensor, Tensor]:
        """First and second direction of each product, K (K + 1) / 2 of them."""
        count = self.axes.shape[2]
        first, second = torch.triu_indices(count, count, device=self.axes.device)
        return first, second

    def _split(self, weight: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Weight (C,) -> that of tokens and of squares (taps, D), and of products as P symmetric forms (K, K)."""
        taps = len(self.taps) * self.width
        moments = taps * (2 if self.squares else 1)
        linear = weight[:taps].view(-1, self.width)
        squared = weight[taps:moments].view(-1, self.width)
        forms = []
        if self.products:
            first, second = self._pairs()
            count = self.axes.shape[2]
            for own in weight[moments:].view(len(self.products), -1):
                form = torch.zeros(count, count, device=weight.device).index_put((first, second), own)
                forms.append((form + form.T) / 2)
        return linear, squared, forms

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


def clip_vit_b16(
    *,
    taps: Sequence[int] = (5, 7, 9),
    normalise: bool = False,
    squares: bool = False,
    products: Sequence[int] = (),
    axes: int = 64,
) -> LinearHeadNet:
    """CLIP ViT-B/16 image tower, tapped at middle blocks; 768-wide tokens per tap on a 14 x 14 grid at 224 px."""
    cells = ViTCells(taps=taps, normalise=normalise, squares=squares, products=products, axes=axes)
    return LinearHeadNet(cells, cells.channels)
