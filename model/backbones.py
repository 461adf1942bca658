"""Networks that end in *average over cells, then one linear layer*.

Every backbone maps an image batch to a grid of feature cells, averages the cells and applies one linear layer. The
logit is then, exactly, a bias plus a sum of one signed contribution per cell (see `model.evidence`), and Grad-CAM on
the grid equals that map up to scale (Zhou et al. 2016, "Learning Deep Features for Discriminative Localization";
Selvaraju et al. 2017, "Grad-CAM").

- `resnet50`: torchvision's ResNet-50; the cells are the last stage's 7 x 7 grid (at 224 px).
- `clip_vit_b16`: the image tower of CLIP ViT-B/16 (Radford et al. 2021), cut after a middle block; the cells are the
  14 x 14 patch tokens of several middle blocks side by side.
- `tiny`: two convolutions, for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from model._torchvision import torchvision


class Normaliser:
    """Crops as networks read them: RGB in 0..1, standardised by a checkpoint's mean and deviation per channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self._mean = torch.tensor(mean).view(3, 1, 1) * 255
        self._std = torch.tensor(std).view(3, 1, 1) * 255

    def __call__(self, crop: Image.Image) -> Tensor:
        """RGB crop of S x S pixels -> input (3, S, S), float32."""
        pixels = torch.from_numpy(np.array(crop, dtype=np.float32)).permute(2, 0, 1)
        return (pixels - self._mean) / self._std


class LinearHeadNet(nn.Module):
    """A feature extractor, the mean over its cells, and one linear layer.

    Cells are measured from a baseline: the mean cell of training faces at the same place, half of them real. A cell's
    contribution is then what sets it apart from the usual face there, and the bias is the logit of the usual face.

    Parameters
    ----------
    extractor : nn.Module
        Maps images (B, 3, S, S) to a grid of cells (B, C, H, W).
    channels : int
        C, the width of a cell.
    """

    def __init__(self, extractor: nn.Module, channels: int) -> None:
        super().__init__()
        self.extractor = extractor
        self.cells = nn.Identity()  # the layer that Grad-CAM tools attach to
        self.head = nn.Linear(channels, 1)
        self.baseline: Tensor
        self.register_buffer("baseline", torch.zeros(channels, 1, 1))

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S), normalised -> cells (B, C, H, W), measured from the baseline."""
        return self.cells(self.extractor(images) - self.baseline)

    @torch.no_grad()
    def set_baseline(self, baseline: Tensor) -> None:
        """Measure cells from another baseline, (C, H, W) or (C, 1, 1); the bias follows, logits stay as they are."""
        moved = (baseline - self.baseline).mean(dim=(1, 2))
        self.head.bias.add_(self.head.weight[0] @ moved)
        self.baseline = baseline.clone()

    def forward_head(self, cells: Tensor) -> Tensor:
        """Cells (B, C, H, W) -> logits (B,): log-odds of `fake` before calibration."""
        return self.head(cells.mean(dim=(2, 3))).squeeze(1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) -> logits (B,)."""
        return self.forward_head(self.forward_features(images))


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
    """

    def __init__(
        self,
        *,
        taps: Sequence[int] = (5, 7, 9),
        normalise: bool = False,
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
        self.grid = grid
        self.patches = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_token = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(torch.zeros(grid * grid + 1, width))
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(max(self.taps) + 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) with S = grid * patch -> cells (B, width * len(taps), grid, grid)."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)  # (B, G*G, D)
        tokens = torch.cat([self.class_token.expand(len(tokens), 1, -1), tokens], dim=1)
        tokens = self.norm(tokens + self.positions)  # (B, 1+G*G, D)
        kept = []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in self.taps:
                patches = tokens[:, 1:]
                kept.append(functional.layer_norm(patches, patches.shape[-1:]) if self.normalise else patches)
        cells = torch.cat(kept, dim=2)  # (B, G*G, D*len(taps))
        return cells.transpose(1, 2).unflatten(2, (self.grid, self.grid))


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


def clip_vit_b16(*, taps: Sequence[int] = (5, 7, 9), normalise: bool = False) -> LinearHeadNet:
    """CLIP ViT-B/16 image tower, tapped at middle blocks; 768-wide tokens per tap on a 14 x 14 grid at 224 px."""
    return LinearHeadNet(ViTCells(taps=taps, normalise=normalise), 768 * len(tuple(taps)))


def tiny(*, channels: int = 8) -> LinearHeadNet:
    """Two strided convolutions: the smallest network with the contract, for tests."""
    extractor = nn.Sequential(nn.Conv2d(3, channels, 8, 8), nn.ReLU(), nn.Conv2d(channels, channels, 4, 4), nn.ReLU())
    return LinearHeadNet(extractor, channels)


REGISTRY: dict[str, Callable[..., LinearHeadNet]] = {"resnet50": resnet50, "clip_vit_b16": clip_vit_b16, "tiny": tiny}


def build(architecture: str, options: dict[str, object] | None = None) -> LinearHeadNet:
    """Build an untrained network by its registered name.

    Raises
    ------
    ValueError
        If the architecture is unknown or does not take the given options.
    """
    if architecture not in REGISTRY:
        raise ValueError(f"unknown architecture {architecture!r}; known are {', '.join(sorted(REGISTRY))}")
    try:
        return REGISTRY[architecture](**(options or {}))
    except TypeError as error:
        raise ValueError(f"architecture {architecture!r}: {error}") from error
