"""What every backbone shares: *average over cells, then one linear layer*."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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

    def mean_cells(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) -> mean cell (B, C), float32: all that the head sees.

        An extractor with a method `mean` of its own is asked for it, and for `project` below: it need not hold all
        cells at once.
        """
        if own := getattr(self.extractor, "mean", None):
            return own(images) - self.baseline.mean(dim=(1, 2))
        return self.forward_features(images).float().mean(dim=(2, 3))

    def project(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) -> each cell's product with the head's weight (B, H, W), float32."""
        weight = self.head.weight.float()[0]  # (C,)
        own = getattr(self.extractor, "project", None)
        projected = own(images, weight) if own else self.forward_features(images)
        with torch.autocast(images.device.type, enabled=False):  # exact when the features are bfloat16
            if own:
                return projected - (weight @ self.baseline.flatten(1)).unflatten(0, self.baseline.shape[1:])
            return (projected.float() * weight[:, None, None]).sum(dim=-3)

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
