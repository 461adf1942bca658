"""What mistakes cost: by threshold, at the cheapest one, and for every mixture of costs and prevalence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_matrix

from model.metrics._arrays import Floats, Ints, MetricsError
from model.metrics._curves import cumulative, roc_frame
from model.metrics._statistics import Draws, chunks

CANDIDATES = 1000  # thresholds that a resample chooses from

Single = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Costs:
    """What the two mistakes cost, and how common fakes are where the detector will be used.

    Attributes
    ----------
    false_positive, false_negative : float
        Cost of a flagged real image and of a missed fake, in any one unit; not negative, not both 0.
    prevalence : float
        Share of fakes, inside (0, 1).
    """

    false_positive: float
    false_negative: float
    prevalence: float

    def __post_init__(self) -> None:
        """Refuse what is no cost or no prevalence."""
        pair = (self.false_positive, self.false_negative)
        if not all(0 <= cost < np.inf for cost in pair) or not sum(pair):
            raise MetricsError(f"Costs are not negative and not both 0, not {pair[0]} and {pair[1]}.")
        if not 0 < self.prevalence < 1:
            raise MetricsError(f"A prevalence is a share inside (0, 1), not {self.prevalence}.")

    @property
    def of_fpr(self) -> float:
        """Mean cost per image that a false positive rate of 1 adds."""
        return self.false_positive * (1 - self.prevalence)

    @property
    def of_fnr(self) -> float:
        """Mean cost per image that a false negative rate of 1 adds."""
        return self.false_negative * self.prevalence


def cost_frame(y: npt.ArrayLike, p: npt.ArrayLike, costs: Costs) -> pd.DataFrame:
    """Mean cost per image at every threshold.

    Returns
    -------
    DataFrame
        Columns `threshold` (descending, the first is infinite and flags nothing), `fpr`, `fnr`, `cost`; no rows unless
        both classes are there.

    Examples
    --------
    >>> cost_frame([0, 0, 1], [0.1, 0.6, 0.6], Costs(1, 10, 0.5))["cost"].tolist()
    [5.0, 0.25, 0.5]
    """
    frame = roc_frame(y, p)
    fpr, fnr = frame["fpr"], 1 - frame["tpr"]
    cost = costs.of_fpr * fpr + costs.of_fnr * fnr
    return pd.DataFrame({"threshold": frame["threshold"], "fpr": fpr, "fnr": fnr, "cost": cost})


def cost_curve_frame(y: npt.ArrayLike, p: npt.ArrayLike, *, points: int = 101) -> pd.DataFrame:
    """Lower envelope of the cost lines of all thresholds (Drummond and Holte 2006).

    Returns
    -------
    DataFrame
        One row per `probability_cost`, evenly spaced in [0, 1]: the share of the possible cost that lies with the
        fakes, prevalence x cost of a miss / (that + (1 - prevalence) x cost of a false alarm). `lowest`: the expected
        cost, normalised to [0, 1], at the best threshold, which is in `threshold` (infinite: flag nothing).
        `trivial`: that of flagging all or nothing, whichever is cheaper. The line of one threshold is
        fnr x + fpr (1 - x). No rows unless both classes are there.
    """
    frame = roc_frame(y, p)
    columns = ["probability_cost", "lowest", "threshold", "trivial"]
    if frame.empty:
        return pd.DataFrame(columns=columns, dtype=np.float64)
    fpr, fnr, thresholds = frame["fpr"].to_numpy(), 1 - frame["tpr"].to_numpy(), frame["threshold"].to_numpy()
    rows = []
    for share in np.linspace(0, 1, points):
        line = fnr * share + fpr * (1 - share)
        best = int(line.argmin())
        rows.append((share, line[best], thresholds[best], min(share, 1 - share)))
    return pd.DataFrame(rows, columns=columns)


def cheapest(y: npt.ArrayLike, p: npt.ArrayLike, costs: Costs) -> tuple[float, float]:
    """The lowest cost and its threshold, the highest of equals (infinite: flag nothing); of a set with both classes.

    Returns
    -------
    threshold, cost : float
    """
    frame = cost_frame(y, p, costs)
    at = int(frame["cost"].to_numpy().argmin())
    return float(frame["threshold"].iloc[at]), float(frame["cost"].iloc[at])


def error_draws(
    labels: Ints, scores: Floats, clusters: Ints | None, *, resamples: int, seed: int
) -> tuple[Single, Single]:
    """FPR and FNR of every resample at up to `CANDIDATES` thresholds, the last of which flags nothing.

    They serve all costs: the cheapest threshold of a resample is a look-up. With more distinct scores than that,
    evenly spaced ones stand for all.

    Returns
    -------
    tuple of ndarray of shape (resamples, K + 1)
    """
    thresholds = cumulative(labels, scores)[0][::-1]
    if len(thresholds) > CANDIDATES:
        thresholds = thresholds[np.linspace(0, len(thresholds) - 1, CANDIDATES).round().astype(int)]
    place = np.searchsorted(thresholds, scores, side="right") - 1  # flagged at the thresholds up to this one
    rng = np.random.default_rng(seed)
    rates: list[Single] = []
    for counts in _counts(rng, labels, place, len(thresholds), clusters, resamples):
        above = np.zeros((resamples, len(thresholds) + 1), dtype=np.float32)
        above[:, :-1] = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
        rates.append(above / above[:, :1])
    return rates[0], 1 - rates[1]


def _counts(
    rng: np.random.Generator, labels: Ints, place: Ints, places: int, clusters: Ints | None, resamples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Real and fake images between thresholds in every resample; arrays of shape (resamples, places)."""
    per_label = [np.bincount(place[labels == label], minlength=places) for label in (0, 1)]
    if clusters is None:  # images between two thresholds are alike, so that their counts are multinomial
        real, fake = (rng.multinomial(held.sum(), held / held.sum(), size=resamples) for held in per_label)
        return real, fake
    draws, codes = Draws(labels, clusters), np.unique(clusters, return_inverse=True)[1]
    table = csr_matrix((np.ones(len(labels)), (codes, place + places * labels)), shape=(codes.max() + 1, 2 * places))
    parts = [draws.units(rng, rows) @ table for rows in chunks(resamples, table.shape[0])]
    counts = np.concatenate(parts)
    return counts[:, :places], counts[:, places:]
