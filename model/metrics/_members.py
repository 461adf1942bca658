"""Subsets of the scored images, kept as places, so that a rate of one is a look-up and not a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from model.metrics._arrays import Ints
from model.metrics._rate import Rate, wilson, wilson_clustered

Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Members:
    """Some of the scored images.

    Attributes
    ----------
    places : ndarray of shape (M,)
        Rows of the scored images.
    clusters : ndarray of shape (M,) or None
        Code of the cluster of each, from 0.
    """

    places: Ints
    clusters: Ints | None

    @classmethod
    def of(cls, places: Ints, clusters: Ints | None) -> Members:
        """The images at some rows; `clusters` of shape (N,) is of all scored ones."""
        codes = None if clusters is None else np.unique(clusters[places], return_inverse=True)[1].astype(np.int64)
        return cls(places, codes)

    def __len__(self) -> int:
        """Count of the images."""
        return len(self.places)

    @property
    def units(self) -> int:
        """Count of what is independent: clusters, or images if there are none."""
        return len(self.places) if self.clusters is None else int(self.clusters.max(initial=-1)) + 1

    def rate(self, hits: Mask, *, reason: str = "no images") -> Rate:
        """Share of hits among these images; `hits` of shape (N,) is over all scored ones."""
        return share(hits[self.places], self.clusters, reason=reason)


@dataclass(frozen=True)
class Group:
    """The scored images with one value in a column: all of them, its fakes and its reals."""

    all: Members
    fake: Members
    real: Members


def share(hits: Mask, clusters: Ints | None, *, reason: str = "no images") -> Rate:
    """Share of hits, (M,), with Wilson's interval, or that of clusters where there are codes of them."""
    if clusters is None:
        return wilson(int(hits.sum()), len(hits), reason=reason)
    return wilson_clustered(np.bincount(clusters, hits), np.bincount(clusters), reason=reason)


def grouped(names: npt.NDArray[np.object_], labels: Ints, clusters: Ints | None) -> dict[str, Group]:
    """The images by name, sorted; arrays of shape (N,)."""
    if not len(names):
        return {}
    found, codes = np.unique(names.astype(str), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    groups = {}
    for name, places in zip(found.tolist(), np.split(order, np.bincount(codes).cumsum()[:-1]), strict=True):
        parts = (places, places[labels[places] == 1], places[labels[places] == 0])
        groups[name] = Group(*(Members.of(part, clusters) for part in parts))
    return groups
