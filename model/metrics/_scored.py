"""Scored images prepared for a threshold that moves: everything at a threshold is a look-up, nothing is resampled.

The rates of the two classes carry Wilson's interval; what is made of them (predictive values, likelihood ratios, cost,
F1, balanced accuracy) carries an interval recovered from theirs. `evaluate` reports these same figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from model.metrics._arrays import Ints, MetricsError, checked
from model.metrics._cost import Costs, Single, cheapest, error_draws
from model.metrics._groups import group_rates, over_groups
from model.metrics._members import Group, Members, grouped, share
from model.metrics._rate import BOOTSTRAP, RECOVERED, Rate, combined, complement, mapped, ratio, ratio_limits, undefined
from model.metrics._scores import interval
from model.metrics._statistics import RESAMPLES, SEED, Draws
from model.metrics._table import Table, group_columns, read


class Scored:
    """Images with a label and a score.

    Parameters
    ----------
    y, p : array-like of shape (N,)
        Labels, 1 is fake, and probabilities of fake.
    columns : mapping, optional
        Names, (N,), by column: what the images can be grouped by.
    clusters : array-like of shape (N,), optional
        Code of the cluster of each image, e.g. of the person in it; intervals then are those of whole clusters.
    resamples, seed : int
        Of the one bootstrap, that of the lowest cost.

    Attributes
    ----------
    y, p : ndarray of shape (N,)
    images : DataFrame or None
        The rows of the results they are from, in the same order; None unless made by `from_results`.
    unscored : int
        Images of the results without a score.

    Raises
    ------
    MetricsError
        If a label is not 0 or 1 or a score is no probability; NaN is quoted.

    Examples
    --------
    >>> scored = Scored([0, 0, 1, 1], [0.1, 0.6, 0.6, 0.9])
    >>> scored.confusion(0.7).tolist(), scored.rates(0.7)["recall"].value
    ([[2, 0], [1, 1]], 0.5)
    """

    def __init__(
        self,
        y: npt.ArrayLike,
        p: npt.ArrayLike,
        *,
        columns: Mapping[str, npt.ArrayLike] | None = None,
        clusters: npt.ArrayLike | None = None,
        resamples: int = RESAMPLES,
        seed: int = SEED,
    ) -> None:
        self.y, self.p = checked(y, p)
        self.resamples, self.seed = resamples, seed
        self.images: pd.DataFrame | None = None
        self.unscored = 0
        self._clusters: Ints | None = None
        if clusters is not None:
            self._clusters = np.unique(np.asarray(clusters), return_inverse=True)[1].astype(np.int64)
            if self._clusters.shape != self.y.shape:
                raise MetricsError(f"clusters must be of shape {self.y.shape}, but is {self._clusters.shape}.")
        self.all = self._members(np.ones(len(self.y), dtype=bool))
        self.fakes, self.reals = self._members(self.y == 1), self._members(self.y == 0)
        self._columns = {
            name: grouped(np.asarray(values, dtype=object), self.y, self._clusters)
            for name, values in (columns or {}).items()
        }

    @classmethod
    def from_results(
        cls,
        predictions: pd.DataFrame,
        *,
        group_by: str | Sequence[str] = "group",
        cluster_by: str | None = None,
        resamples: int = RESAMPLES,
        seed: int = SEED,
    ) -> Scored:
        """The scored images of a table of results; see `evaluate` for the parameters and errors."""
        table = read(predictions)
        columns = group_columns(table.images, group_by)
        return cls.from_table(table, columns, table.clusters(cluster_by), resamples=resamples, seed=seed)

    @classmethod
    def from_table(
        cls,
        table: Table,
        columns: Sequence[str],
        clusters: tuple[Ints, str] | None,
        *,
        resamples: int = RESAMPLES,
        seed: int = SEED,
    ) -> Scored:
        """The scored images of a table that has been read, with `Table.clusters`."""
        names = {column: table.names(column) for column in columns}
        held = {column: values[table.scored] for column, values in names.items() if values is not None}
        codes = None if clusters is None else clusters[0]
        scored = cls(table.y, table.p, columns=held, clusters=codes, resamples=resamples, seed=seed)
        scored.images = table.images[table.scored].reset_index(drop=True)
        scored.unscored = len(table.images) - len(scored)
        return scored

    def __len__(self) -> int:
        """Count of the scored images."""
        return len(self.y)

    @property
    def clusters(self) -> Ints | None:
        """Code of the cluster of each image, (N,), from 0; None if images count by themselves."""
        return self._clusters

    @property
    def share_of_fakes(self) -> float | None:
        """Share of fakes in the set; None unless both classes are there."""
        return len(self.fakes) / len(self) if len(self.fakes) and len(self.reals) else None

    def confusion(self, threshold: float) -> Ints:
        """[[tn, fp], [fn, tp]] at `p >= threshold`; shape (2, 2)."""
        return np.bincount(self.y * 2 + (self.p >= threshold), minlength=4).reshape(2, 2).astype(np.int64)

    def rates(self, threshold: float) -> dict[str, Rate]:
        """Return the rates at a threshold.

        Returns
        -------
        dict
            `accuracy`, `balanced_accuracy`, `precision`, `recall`, `specificity`, `fpr`, `f1`.
        """
        flagged = self.p >= threshold
        recall, fpr = self._errors(threshold)
        own = None if self._clusters is None else self._clusters[flagged]
        return {
            "accuracy": self.all.rate(flagged == (self.y == 1)),
            "balanced_accuracy": combined([(0.5, recall), (0.5, complement(fpr))]),
            "precision": share(self.y[flagged] == 1, own, reason="no image was flagged"),
            "recall": recall,
            "specificity": complement(fpr),
            "fpr": fpr,
            "f1": self._f1(recall, fpr),
        }

    def predictive_values(self, threshold: float, prevalence: float) -> dict[str, Rate]:
        """How far a result can be trusted where fakes are as common as stated, by Bayes' rule.

        Returns
        -------
        dict
            `ppv`: chance that a flagged image is fake; `npv`: that one that is not flagged is real.

        Raises
        ------
        MetricsError
            If the prevalence is not inside (0, 1).
        """
        costs = Costs(1, 1, prevalence)
        recall, fpr = self._errors(threshold)
        odds = costs.prevalence / (1 - costs.prevalence)
        ppv = _posterior(recall, fpr, odds, "no image was flagged")
        npv = _posterior(complement(fpr), complement(recall), 1 / odds, "every image was flagged")
        return {"ppv": ppv, "npv": npv}

    def likelihood_ratios(self, threshold: float) -> dict[str, Rate]:
        """How much more often a result comes from fakes than from reals.

        Returns
        -------
        dict
            `flagged` (recall / fpr) and `not_flagged` ((1 - recall) / (1 - fpr)).
        """
        recall, fpr = self._errors(threshold)
        return {"flagged": ratio(recall, fpr), "not_flagged": ratio(complement(recall), complement(fpr))}

    def cost(self, threshold: float, costs: Costs) -> dict[str, Any]:
        """Mean cost per image; JSON-ready.

        Returns
        -------
        dict
            `at_threshold`; `lowest` over all thresholds, with its `threshold` (None: flag nothing). The interval of
            the lowest is a bootstrap in which each resample chooses its own threshold; chosen on the images it is
            measured on, it promises too much.
        """
        recall, fpr = self._errors(threshold)
        here = combined([(costs.of_fpr, fpr), (costs.of_fnr, complement(recall))])
        return {"at_threshold": here.to_dict(), "lowest": self._lowest(costs)}

    def at(self, threshold: float, costs: Costs | None = None) -> dict[str, Any]:
        """Every figure at a threshold under the names of `evaluate`; JSON-ready.

        Parameters
        ----------
        costs : Costs, optional
            Equal costs and the set's own share of fakes if not given.
        """
        share_of_fakes = self.share_of_fakes
        if costs is None and share_of_fakes is not None:
            costs = Costs(1, 1, share_of_fakes)
        figures: dict[str, Any] = {"threshold": threshold, "confusion_matrix": self.confusion(threshold).tolist()}
        figures |= {name: rate.to_dict() for name, rate in self.rates(threshold).items()}
        ratios = self.likelihood_ratios(threshold)
        figures["likelihood_ratio"] = {name: rate.to_dict() for name, rate in ratios.items()}
        if costs is None:
            nothing = self._missing().to_dict()
            return figures | {"ppv": nothing, "npv": nothing, "cost": {"at_threshold": nothing, "lowest": nothing}}
        values = self.predictive_values(threshold, costs.prevalence)
        figures |= {name: rate.to_dict() | {"prevalence": costs.prevalence} for name, rate in values.items()}
        given = {"false_positive": costs.false_positive, "false_negative": costs.false_negative}
        return figures | {"cost": given | {"prevalence": costs.prevalence} | self.cost(threshold, costs)}

    @property
    def columns(self) -> list[str]:
        """What the images can be grouped by."""
        return list(self._columns)

    def groups_of(self, column: str) -> Mapping[str, Group]:
        """The images by their value in a column."""
        return self._columns[column]

    def groups(self, threshold: float, column: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Rates by group at a threshold, and their mean and extremes; JSON-ready, a part of those of `evaluate`."""
        entries = group_rates(self._columns[column], self.y, self.p >= threshold)
        return entries, over_groups(entries)

    def group_frame(self, threshold: float, column: str) -> pd.DataFrame:
        """Rates by group at a threshold as a table.

        Returns
        -------
        DataFrame
            `group`, `label` (real, fake, both), `n`, `n_real`, `n_fake`, then `accuracy`, `recall` and `fpr`, each with
            `_low` and `_high`; NaN where a group has no such images.
        """
        rows = []
        for name, entry in group_rates(self._columns[column], self.y, self.p >= threshold).items():
            row = {"group": name} | {key: entry[key] for key in ("label", "n", "n_real", "n_fake")}
            for key in ("accuracy", "recall", "fpr"):
                rate = entry.get(key, {})
                row |= {key: rate.get("value"), f"{key}_low": rate.get("low"), f"{key}_high": rate.get("high")}
            rows.append(row)
        rates = [key + end for key in ("accuracy", "recall", "fpr") for end in ("", "_low", "_high")]
        frame = pd.DataFrame(rows, columns=["group", "label", "n", "n_real", "n_fake", *rates])
        return frame.astype(dict.fromkeys(rates, "float64"))

    def _members(self, own: npt.NDArray[np.bool_]) -> Members:
        return Members.of(np.flatnonzero(own), self._clusters)

    def _missing(self) -> Rate:
        reason = "no images" if not len(self) else "no real images" if not len(self.reals) else "no fake images"
        return undefined(reason)

    def _errors(self, threshold: float) -> tuple[Rate, Rate]:
        """Recall and false positive rate."""
        flagged = self.p >= threshold
        return (
            self.fakes.rate(flagged, reason="no fake images"),
            self.reals.rate(flagged, reason="no real images"),
        )

    def _f1(self, recall: Rate, fpr: Rate) -> Rate:
        """F1 = 2 q / (q + 1) of q = recall / (1 + flagged reals per fake)."""
        if recall.value is None:
            return undefined("no fake images" if len(self) else "no images")
        odds = len(self.reals) / len(self.fakes)
        divisor = mapped(fpr, lambda alarm: 1 + odds * alarm) if odds else Rate(1.0, 1.0, 1.0, fpr.method)
        return mapped(ratio(recall, divisor), lambda quotient: 2 * quotient / (quotient + 1))

    def _lowest(self, costs: Costs) -> dict[str, Any]:
        if not len(self.fakes) or not len(self.reals):
            return self._missing().to_dict() | {"threshold": None}
        threshold, value = cheapest(self.y, self.p, costs)
        draws = self._error_draws
        if draws is None:
            rate = Rate(value, None, None, BOOTSTRAP, "no interval: a class has a single image or too few clusters")
        else:
            rate = interval(value, (costs.of_fpr * draws[0] + costs.of_fnr * draws[1]).min(axis=1))
        return rate.to_dict() | {"threshold": threshold if np.isfinite(threshold) else None}

    @cached_property
    def _error_draws(self) -> tuple[Single, Single] | None:
        if Draws(self.y, self._clusters).smallest < 2:
            return None
        return error_draws(self.y, self.p, self._clusters, resamples=self.resamples, seed=self.seed)


def _posterior(hit: Rate, alarm: Rate, odds: float, reason: str) -> Rate:
    """Chance of the condition given a result: q / (1 + q) of q = odds x hit / alarm, and so its limits."""
    if hit.value is None or alarm.value is None:
        return undefined(hit.reason or alarm.reason, RECOVERED)
    if hit.value == 0 and alarm.value == 0:
        return undefined(reason, RECOVERED)

    def chance(quotient: float) -> float:
        return odds * quotient / (1 + odds * quotient) if np.isfinite(quotient) else 1.0

    value, low, high = (None if end is None else chance(end) for end in ratio_limits(hit, alarm))
    return Rate(value, low, high, RECOVERED, "" if low is not None else hit.reason or alarm.reason)
