"""A table of results with known answers, read once: what counts as scored, under which label, in which cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from model.dataset import label_of
from model.metrics._arrays import Floats, Ints, MetricsError, checked
from model.metrics._members import Mask

DECIDED = ("fake", "real")
JUDGED = (*DECIDED, "inconclusive")
OUTCOMES = (*JUDGED, "not_applicable", "error")
NO_GROUP = "(no group)"
IDENTITIES = ("identity", "subject", "person")  # columns that say who is in an image
MIN_CLUSTERS = 30  # fewer make a bootstrap of whole clusters unreliable (Cameron, Gelbach and Miller 2008)


@dataclass(frozen=True)
class Table:
    """Images with a known answer and their results.

    Attributes
    ----------
    images : DataFrame
        One row per image, in the order of the results.
    labels : ndarray of shape (I,)
    outcome : ndarray of shape (I,)
        One of `OUTCOMES`.
    scored : ndarray of shape (I,), bool
        Which images have a verdict and a score: N of them.
    y, p : ndarray of shape (N,)
        Labels and scores of these.
    """

    images: pd.DataFrame
    labels: Ints
    outcome: npt.NDArray[np.object_]
    scored: Mask
    y: Ints
    p: Floats

    @property
    def judged(self) -> Mask:
        """Which images have a verdict other than not applicable; shape (I,)."""
        return np.isin(self.outcome, JUDGED)

    def names(self, column: str) -> npt.NDArray[np.object_] | None:
        """Values of a column as text, `NO_GROUP` where there is none; None if there is nothing in it."""
        if column not in self.images:
            return None
        names = text(self.images[column])
        if not any(names):
            return None
        names[names == ""] = NO_GROUP
        return names

    def clusters(self, column: str | None) -> tuple[Ints, str] | None:
        """Code of the cluster of each scored image, (N,), and the column it is from.

        If no column is named, the first of `IDENTITIES` that holds at least `MIN_CLUSTERS` values is; None if there is
        none. An image without a value is a cluster by itself.

        Raises
        ------
        MetricsError
            If the named column is not there, or empty.
        """
        if column is not None:
            if column not in self.images:
                raise MetricsError(f"There is no column '{column}' to cluster by. Columns: {_listed(self.images)}.")
            if not any(text(self.images[column])):
                raise MetricsError(f"The column '{column}' to cluster by is empty.")
        for name in IDENTITIES if column is None else (column,):
            if name not in self.images:
                continue
            values = text(self.images[name])[self.scored]
            found, codes = np.unique(values.astype(str), return_inverse=True)
            if column is None and len(found) - ("" in found) < MIN_CLUSTERS:
                continue
            alone = values == ""
            codes[alone] = len(found) + np.arange(int(alone.sum()))
            return np.unique(codes, return_inverse=True)[1].astype(np.int64), name
        return None


def read(predictions: pd.DataFrame) -> Table:
    """Read a table of results: `path`, `p_fake`, `verdict`, `label`, optionally `error`.

    Raises
    ------
    MetricsError
        If a column is missing, an image has no label, a verdict is not known or a score is no probability.
    """
    require(predictions, ("path", "p_fake", "verdict", "label"))
    images = image_level(predictions)
    labels, outcome = _labels(images), _outcomes(images)
    numbers = pd.to_numeric(images["p_fake"]).to_numpy(dtype=np.float64, na_value=np.nan)
    scored = np.isin(outcome, JUDGED) & ~np.isnan(numbers)
    return Table(images, labels, outcome, scored, *checked(labels[scored], numbers[scored]))


def image_level(predictions: pd.DataFrame) -> pd.DataFrame:
    """Reduce one row per face to one row per image: its most fake face.

    A face that was not applicable stands for its image only if every other was too. Order of the images is kept.

    Parameters
    ----------
    predictions : DataFrame
        Needs `path`, `p_fake` and `verdict`.

    Returns
    -------
    DataFrame
        The same columns, one row per `path`.
    """
    require(predictions, ("path", "p_fake", "verdict"))
    frame = predictions.reset_index(drop=True)
    rank = pd.DataFrame(
        {
            "path": frame["path"],
            "usable": frame["verdict"].ne("not_applicable").to_numpy(),
            "p_fake": pd.to_numeric(frame["p_fake"]),
        }
    )
    ranked = rank.sort_values(["usable", "p_fake"], ascending=False, na_position="last", kind="stable")
    chosen = ranked.drop_duplicates("path").index
    first = rank.drop_duplicates("path").set_index("path").index
    return frame.loc[chosen].set_index("path", drop=False).loc[first].reset_index(drop=True)


def threshold_of(images: pd.DataFrame, given: float | None) -> tuple[float, str]:
    """The threshold that is given, or the one the results were made with, and which of these it is.

    Raises
    ------
    MetricsError
        If it is no probability, or the results were made with several.
    """
    if given is not None:
        if not 0 <= given <= 1:
            raise MetricsError(f"A threshold is a probability in [0, 1], not {given}.")
        return float(given), "chosen by the user"
    used = pd.to_numeric(images["threshold_fake"]).dropna().unique() if "threshold_fake" in images else np.array([])
    if len(used) > 1:
        raise MetricsError(f"The results were made with {len(used)} different thresholds. State one.")
    return (float(used[0]), "the threshold the results were made with") if len(used) else (0.5, "default")


def require(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise MetricsError if a column is missing."""
    missing = [column for column in columns if column not in frame]
    if missing:
        raise MetricsError(
            f"The results lack the columns {', '.join(missing)}. Use a file written by `evaluate` or `bulk`."
        )


def text(column: pd.Series) -> npt.NDArray[np.object_]:
    """Values as text, '' where there is none."""
    return column.astype(object).where(column.notna(), "").astype(str).to_numpy(dtype=object)


def group_columns(images: pd.DataFrame, group_by: str | Sequence[str]) -> list[str]:
    """The columns to group by, each once; MetricsError for one that is not there, unless it is the default."""
    columns = list(dict.fromkeys([group_by] if isinstance(group_by, str) else group_by))
    for column in columns:
        if column not in images and column != "group":
            raise MetricsError(f"There is no column '{column}' to group by. Columns: {_listed(images)}.")
    return columns


def _listed(frame: pd.DataFrame) -> str:
    return ", ".join(str(column) for column in frame.columns)


def _labels(images: pd.DataFrame) -> Ints:
    known = {word: label_of(word) for word in images["label"].unique()}
    found = images["label"].map(known)
    unknown = images["path"][found.isna()]
    if len(unknown):
        raise MetricsError(
            f"{len(unknown)} images have no known label, the first is {unknown.iloc[0]}. Labels are 0/real or 1/fake."
        )
    return found.to_numpy(dtype=np.int64)


def _outcomes(images: pd.DataFrame) -> npt.NDArray[np.object_]:
    """Verdict of each image, or 'error' where it could not be read at all."""
    outcome = images["verdict"].astype(object).to_numpy(dtype=object)
    strange = sorted({str(word) for word in set(outcome.tolist())} - set(OUTCOMES))
    if strange:
        raise MetricsError(f"The verdict '{strange[0]}' is not known. Verdicts are {', '.join(OUTCOMES[:4])}.")
    if "error" in images:
        outcome = np.where(text(images["error"]) != "", "error", outcome)
    return outcome
