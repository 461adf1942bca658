"""A bulk run prepared to be looked through: filtered, searched, ordered and grouped as often as a visitor likes.

One `Review` is made per run and shared by all tabs; a choice costs a look at arrays, however many images there are.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dashboard.alike import Fingerprints
from dashboard.store import StoreError
from dashboard.tasks import BulkResult, broken
from model import quality

BROKEN = "broken"
ORDERS = {
    "Most suspicious": ("p_fake", False),
    "Least suspicious": ("p_fake", True),
    "Name": ("name", True),
    "As handed in": ("position", True),
}
_DIGEST = re.compile(r"[0-9a-f]{6,64}")


@dataclass(frozen=True)
class Groups:
    """Which images of a run look nearly the same.

    Attributes
    ----------
    leader : ndarray of shape (N,), int64
        Row of the first image of the group of each; its own row if it is alone.
    size : ndarray of shape (N,), int64
        Images in the group of each.
    unknown : int
        Images of which no fingerprint was kept: of these only identical files are grouped.
    """

    leader: np.ndarray
    size: np.ndarray
    unknown: int

    def fold(self, rows: np.ndarray) -> np.ndarray:
        """Of each group the row that comes first; the order stays."""
        _, first = np.unique(self.leader[rows], return_index=True)
        return rows[np.sort(first)]

    def others(self, row: int) -> int:
        """How many images are like this one."""
        return int(self.size[row]) - 1


class Review:
    """The images of a run.

    Parameters
    ----------
    result : BulkResult
    folder : Path
        Of the run.

    Attributes
    ----------
    frame : DataFrame
        One row per image, in the order of `result.images`, with its columns and: `position` in `result.sources`;
        `kind`, which is the verdict or `broken`; `why` there is no verdict, in words; `folder` and `file` of the name.
    counts : dict of str to int
        Images of each kind that there is.
    """

    def __init__(self, result: BulkResult, folder: Path) -> None:
        self.result = result
        self._folder = folder
        self.frame = table_of(result)
        self.counts: dict[str, int] = {str(kind): int(many) for kind, many in self.frame["kind"].value_counts().items()}
        self._names = self.frame["name"].str.lower()
        self._orders: dict[str, np.ndarray] = {}
        self._groups: Groups | None = None
        self._lock = threading.Lock()

    def rows(
        self,
        *,
        kinds: Collection[str] = (),
        text: str = "",
        order: str = "As handed in",
        alike: int | None = None,
    ) -> np.ndarray:
        """Rows of the images that fit, in an order.

        Parameters
        ----------
        kinds : collection of str
            Verdicts, or `broken`; none stands for all.
        text : str
            Part of a name in upper or lower case, or the first hexadecimal digits, at least 6, of a SHA-256.
        order : str
            One of `ORDERS`.
        alike : int, optional
            Only the group of this row, whatever else is asked for.

        Returns
        -------
        ndarray of shape (M,), int64
        """
        keep = np.ones(len(self.frame), dtype=bool)
        if alike is not None:
            leader = self.groups().leader
            keep = leader == leader[alike]
        else:
            if kinds:
                keep &= self.frame["kind"].isin(list(kinds)).to_numpy()
            if needle := text.strip().lower():
                keep &= self._matches(needle)
        places = self._order(order)
        return places[keep[places]]

    def row_of(self, name: str | None) -> int | None:
        """Row of the image of this name; None if there is none."""
        if name is None:
            return None
        return next(iter(np.flatnonzero(self.frame["name"] == name).tolist()), None)

    def groups(self) -> Groups:
        """Nearly the same images; searched for when first asked, which takes seconds where there are very many."""
        with self._lock:
            if self._groups is None:
                self._groups = self._grouped()
        return self._groups

    def grouped(self) -> bool:
        """Whether `groups` answers at once."""
        return self._groups is not None

    def _matches(self, needle: str) -> np.ndarray:
        found = self._names.str.contains(needle, regex=False)
        if _DIGEST.fullmatch(needle):
            found |= self.frame["sha256"].str.startswith(needle)
        return found.to_numpy(dtype=bool)

    def _order(self, name: str) -> np.ndarray:
        if name not in self._orders:
            column, ascending = ORDERS[name]
            ordered = self.frame[column].sort_values(ascending=ascending, na_position="last", kind="stable")
            self._orders[name] = ordered.index.to_numpy()
        return self._orders[name]

    def _grouped(self) -> Groups:
        """Identical files go together first; then one of each is compared with the others."""
        from model.audit import near_groups  # scikit-learn and scipy: slow to import, needed only here

        own = np.arange(len(self.frame))
        digests = self.frame["sha256"].mask(self.frame["sha256"] == "", own.astype(str))  # unread files are alone
        _, first, same = np.unique(digests.to_numpy(dtype=str), return_index=True, return_inverse=True)
        leader = first[same]
        prints = Fingerprints.load(self._folder, len(self.result.sources))
        known = prints.known[self.frame["position"]]
        one = own[(leader == own) & known]
        places = self.frame["position"].to_numpy()[one]
        leader[one] = one[near_groups(prints.hashes[places], prints.small[places])]
        leader = leader[leader]  # an identical file follows where the one it is a copy of went
        readable = self.frame["kind"].to_numpy() != BROKEN
        return Groups(leader, np.bincount(leader, minlength=len(own))[leader], int((readable & ~known).sum()))


def table_of(result: BulkResult) -> pd.DataFrame:
    """The images of a run as a table; see `Review`.

    Raises
    ------
    dashboard.store.StoreError
        If there are results of other images than those of the run.
    """
    frame = result.images.copy()
    for name in ("name", "sha256", "reason", "format"):
        frame[name] = frame[name].astype("str").fillna("")
    places = pd.Index([source.name for source in result.sources])
    frame["position"] = places.get_indexer(frame["name"])  # a run that was stopped lacks some, or has them later
    if (frame["position"] < 0).any():
        raise StoreError("This run is damaged: its results are of other pictures than its list.")
    failed = broken(frame)
    frame["kind"] = frame["verdict"].mask(failed, BROKEN)
    explained = {code: quality.explain(str(code)) for code in frame["code"].dropna().unique()}
    frame["why"] = frame["code"].map(explained).astype("str").fillna("").mask(failed, frame["error"])
    parts = frame["name"].str.rpartition("/")
    frame["folder"], frame["file"] = parts[0], parts[2]
    return frame
