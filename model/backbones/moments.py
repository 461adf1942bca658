"""What a cell holds of a grid of tokens: the tokens, their squares, products along axes; in the middle all of it twice.

The mean over cells then is the tokens' first and second moments over the face, and the linear layer sees how channels
vary, alone and together, beside their means. Products are those of bilinear pooling (Lin, RoyChowdhury and Maji 2015,
"Bilinear CNN Models for Fine-grained Visual Recognition"), whose means also describe textures (Gatys, Ecker and Bethge
2015, "Texture Synthesis Using Convolutional Neural Networks"). What the middle has of its own, nought elsewhere, lets
the layer weigh the face otherwise than what surrounds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import isqrt

import torch
from torch import Tensor, nn


class Moments(nn.Module):
    """Turns tokens of several taps into cells, and into what is needed of cells without holding them.

    Parameters
    ----------
    widths : sequence of int
        D of each tap.
    squares : bool
        Append every channel's square.
    products : sequence of int
        Places of the taps of which, in addition, the products of all pairs of `axes` directions are appended. The
        directions are part of the weights; `set_axes` gives them.
    axes : int
        Number of directions, K; a tap has K (K + 1) / 2 products.
    middle : int
        Side of the square of cells, in a square grid, that have all of it again; 0 for none.

    Raises
    ------
    ValueError
        If `products` are not different taps in rising order, or one of them has fewer channels than axes.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        squares: bool = False,
        products: Sequence[int] = (),
        axes: int = 64,
        middle: int = 0,
    ) -> None:
        super().__init__()
        self.widths, self.squares = tuple(widths), squares
        self.products = places(products, range(len(self.widths)))
        narrowest = min((self.widths[place] for place in self.products), default=axes)
        if self.products and not 1 <= axes <= narrowest:
            raise ValueError(f"axes must be between 1 and the width {narrowest}, got {axes}")
        self.count, self.middle = axes, middle
        for place in self.products:
            self.register_buffer(f"centre{place}", torch.zeros(self.widths[place]))
            self.register_buffer(f"axes{place}", torch.eye(self.widths[place], axes))  # (D, K)

    @property
    def channels(self) -> int:
        """C, the width of a cell."""
        return self._channels * (2 if self.middle else 1)

    @property
    def _channels(self) -> int:
        """Without what the middle has again."""
        return sum(self.widths) * (2 if self.squares else 1) + self._products_each * len(self.products)

    @property
    def _products_each(self) -> int:
        """Products of one tap."""
        return self.count * (self.count + 1) // 2

    def forward(self, taps: Sequence[Tensor], *, pool: Callable[[Tensor], Tensor] = lambda values: values) -> Tensor:
        """Tokens of each tap (B, T, D) -> cells (B, T, C): the tokens of all taps, then squares, then products.

        `pool` brings what a tap's tokens hold, (B, T, X), to the T of all cells.
        """
        parts = [*taps, *(tokens * tokens for tokens in taps if self.squares)]
        first, second = self._pairs(taps[0])
        for place in self.products:
            along = self._along(taps[place], place)
            parts.append(along[..., first] * along[..., second])
        cells = torch.cat([pool(part) for part in parts], dim=2)
        return torch.cat([cells, cells * self._inside(cells)[:, None]], dim=2) if self.middle else cells

    def project(self, taps: Iterable[Tensor], weight: Tensor) -> list[Tensor]:
        """Tokens of each tap, weight (C,) -> each tap's share (B, T) of the product of cells and weight, float32."""
        linear, squared, forms = self._split(weight.view(-1, self._channels))  # of both regions at once
        shares = []
        for place, tokens in enumerate(taps):
            with torch.autocast(tokens.device.type, enabled=False):
                tokens = tokens.float()
                share = tokens @ linear[place].T  # (B, T, regions)
                if self.squares:
                    share = share + (tokens * tokens) @ squared[place].T
                if place in self.products:
                    along = self._along(tokens, place)
                    share = share + torch.stack([(along @ form * along).sum(dim=2) for form in forms[place]], dim=2)
                whole, *middle = share.unbind(dim=2)
                shares.append(whole + middle[0] * self._inside(tokens) if middle else whole)
        return shares

    def mean(self, taps: Iterable[Tensor]) -> Tensor:
        """Tokens of each tap (B, T, D) -> mean cell (B, C), float32; taps may differ in T."""
        whole: tuple[list[Tensor], ...] = ([], [], [])
        middle: tuple[list[Tensor], ...] = ([], [], [])
        for place, tokens in enumerate(taps):
            with torch.autocast(tokens.device.type, enabled=False):
                tokens = tokens.float()
                regions = [(tokens, 1.0, whole)]
                if self.middle:
                    inside = self._inside(tokens)
                    regions.append((tokens[:, inside.bool()], float(inside.mean()), middle))  # other cells hold nought
                for own, share, (means, squares, products) in regions:
                    means.append(own.mean(dim=1) * share)
                    if self.squares:
                        squares.append((own * own).mean(dim=1) * share)
                    if place in self.products:
                        along = self._along(own, place)
                        first, second = self._pairs(own)
                        moment = along.transpose(1, 2) @ along / along.shape[1]
                        products.append(moment[:, first, second] * share)
        return torch.cat([part for kind in (*whole, *middle) for part in kind], dim=1)

    @torch.no_grad()
    def set_axes(self, place: int, mean: Tensor, covariance: Tensor) -> None:
        """Take as directions of a tap the first principal axes of its tokens, scaled to unit variance.

        Parameters
        ----------
        mean : Tensor of shape (D,)
        covariance : Tensor of shape (D, D)
        """
        variances, vectors = torch.linalg.eigh(covariance.double())  # rising
        axes = vectors[:, -self.count :] / variances[-self.count :].clamp_min(1e-9).sqrt()
        self.get_buffer(f"axes{place}").copy_(axes.flip(1))
        self.get_buffer(f"centre{place}").copy_(mean)

    def _inside(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T, X) of a square grid -> 1 for those in its middle and 0 for others (T,)."""
        side = isqrt(tokens.shape[1])
        start = (side - self.middle) // 2
        inside = torch.zeros(side, side, device=tokens.device)
        inside[start : start + self.middle, start : start + self.middle] = 1
        return inside.flatten()

    def _along(self, tokens: Tensor, place: int) -> Tensor:
        """Tokens (B, T, D) of a tap -> their coordinates (B, T, K)."""
        return (tokens - self.get_buffer(f"centre{place}")) @ self.get_buffer(f"axes{place}")

    def _pairs(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """First and second direction of each product of a tap."""
        first, second = torch.triu_indices(self.count, self.count, device=like.device)
        return first, second

    def _split(self, weight: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor], dict[int, Tensor]]:
        """Weights of R regions (R, C) -> of tokens and of squares, (R, D) per tap; of products (R, K, K), by place."""
        total = sum(self.widths)
        linear = weight[:, :total].split(self.widths, dim=1)
        squared = weight[:, total : 2 * total].split(self.widths, dim=1) if self.squares else ()
        rest = weight[:, total * (2 if self.squares else 1) :].unflatten(1, (len(self.products), self._products_each))
        first, second = self._pairs(weight)
        forms = {}
        for place, own in zip(self.products, rest.unbind(dim=1), strict=True):
            form = weight.new_zeros(len(weight), self.count, self.count)
            form[:, first, second] = own
            forms[place] = (form + form.transpose(1, 2)) / 2
        return linear, squared, forms


def places(products: Sequence[int], taps: Sequence[int]) -> tuple[int, ...]:
    """Where among the taps those are that have products.

    Raises
    ------
    ValueError
        If `products` are not different taps in rising order.
    """
    if list(products) != sorted(set(products) & set(taps)):
        raise ValueError(f"products must be different taps in rising order, got {list(products)}")
    return tuple(taps.index(product) for product in products)
