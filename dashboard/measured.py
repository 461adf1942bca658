"""A finished evaluation prepared for a threshold that moves: figures and images are looked up, nothing is run again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dashboard import words
from dashboard.tasks import EvaluationResult
from dashboard.view import Selection, View, finding_key, possible
from model import metrics
from model.results import COLUMNS

MAX_GROUPS = 200  # values of a column that can be compared; more are persons or files rather than kinds
DRAWN = 300  # points of a curve that are sent to the browser
NEIGHBOURS = 48  # images shown for a point of a curve
_NO_GROUPS = frozenset(COLUMNS) - {"source", "format"}

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Preset:
    """A threshold with a meaning; `threshold` is None where it is not defined, for the `reason`."""

    name: str
    threshold: float | None
    reason: str = ""


class Measured:
    """The scored images of an evaluation of N scored images.

    Attributes
    ----------
    result : EvaluationResult
    figures : dict
        As in `metrics.json`: at the run's own threshold.
    scored : model.metrics.Scored
    names : ndarray of shape (N,)
        Of the images.
    positions : ndarray of shape (N,)
        Of the images in the run's list.
    """

    def __init__(self, result: EvaluationResult) -> None:
        self.result = result
        self.figures = result.metrics
        protocol = result.metrics.get("protocol", {})
        clusters = protocol.get("clusters") or {}
        options = {key: protocol[key] for key in ("resamples", "seed") if key in protocol}
        self.scored = metrics.Scored.from_results(
            result.predictions,
            group_by=_comparable(result.predictions),
            cluster_by=clusters.get("column"),
            **options,
        )
        assert self.scored.images is not None
        self.names = self.scored.images["path"].astype(str).to_numpy(dtype=object)
        place = {source.name: position for position, source in enumerate(result.bulk.sources)}
        self.positions: Rows = np.array([place[name] for name in self.names], dtype=np.int64)

    @property
    def both(self) -> bool:
        """Whether both classes are there, without which no curve is defined."""
        return self.scored.share_of_fakes is not None

    def threshold(self, view: View) -> float:
        """The threshold of a view."""
        return float(self.figures["threshold"]) if view.threshold is None else view.threshold

    def prevalence(self, view: View) -> float:
        """The share of fakes that a view assumes: its own, else that of the set, else a half; as far as possible."""
        return possible(self.scored.share_of_fakes or 0.5 if view.prevalence is None else view.prevalence)

    def costs(self, view: View) -> metrics.Costs:
        """Costs and prevalence of a view."""
        return metrics.Costs(view.cost_fp, view.cost_fn, self.prevalence(view))

    def at(self, view: View) -> dict[str, Any]:
        """Every figure at the threshold of a view, under the names of `metrics.json`."""
        return self.scored.at(self.threshold(view), self.costs(view))

    def rows(self, view: View) -> Rows:
        """The images that a view shows, in its order."""
        kept = np.flatnonzero(self._mask(view.selection, self.threshold(view)))
        threshold, order = self.threshold(view), view.order
        if order == "name":
            return kept[np.argsort(self.names[kept], kind="stable")]
        certainty = metrics.confidence(self.scored.p[kept], threshold)
        if order == "wrong":
            wrong = (self.scored.p[kept] >= threshold) != (self.scored.y[kept] == 1)
            return kept[np.argsort(np.where(wrong, -certainty, certainty), kind="stable")]
        return kept[np.argsort(certainty if order == "unsure" else -certainty, kind="stable")]

    def _mask(self, chosen: Selection, threshold: float) -> npt.NDArray[np.bool_]:
        y, p = self.scored.y, self.scored.p
        kept = np.ones(len(y), dtype=bool)
        if chosen.cell:
            kept &= (y == (chosen.cell in ("TP", "FN"))) & ((p >= threshold) == (chosen.cell in ("TP", "FP")))
        if chosen.truth:
            kept &= y == (chosen.truth == "fake")
        if chosen.low is not None:
            kept &= p >= chosen.low
        if chosen.high is not None:
            kept &= p <= chosen.high
        if chosen.sure is not None:
            kept &= metrics.confidence(p, threshold) >= chosen.sure
        if chosen.column:
            group = self.scored.groups_of(chosen.column).get(chosen.value) if chosen.column in self.columns else None
            inside = np.zeros(len(y), dtype=bool)
            if group is not None:
                inside[group.all.places] = True
            kept &= inside
        if chosen.finding:
            named = {name for entry in self.findings(chosen.finding) for name in entry["images"]}
            kept &= np.isin(self.names, list(named))
        if chosen.text:
            needle = chosen.text.casefold()
            kept &= np.fromiter((needle in name for name in self._folded), dtype=bool, count=len(y))
        return kept

    def findings(self, name: str) -> list[dict[str, Any]]:
        """The findings of the audit by `dashboard.view.finding_key`, or by code."""
        return [entry for entry in self.figures["audit"] if name in (finding_key(entry), entry["code"])]

    @property
    def columns(self) -> list[str]:
        """What the images can be compared by."""
        return self.scored.columns

    def column(self, view: View) -> str | None:
        """The column whose groups a view compares; None if there is none."""
        return view.by if view.by in self.columns else next(iter(self.columns), None)

    def presets(self, at: dict[str, Any]) -> list[Preset]:
        """Thresholds with a meaning; `at` are the figures of the view, for its costs."""
        found = [Preset("Shipped", float(self.figures["threshold"])), Preset("0.5", 0.5)]
        reals = len(self.scored.reals)
        for target in (0.01, 0.005):
            value = self._at_fpr[target]
            reason = "no real images" if not reals else "even the highest score flags too many real images"
            found.append(Preset(f"{target * 100:g} % false alarms", value, "" if value is not None else reason))
        one = "no real images" if not reals else "no AI images"
        value = self._at_eer
        found.append(Preset("Equal errors (EER)", value, "" if value is not None else one))
        lowest = at["cost"]["lowest"]
        nothing = "flagging nothing is cheapest" if lowest.get("value") is not None else words.reason(lowest, one)
        found.append(Preset("Lowest cost", lowest["threshold"], "" if lowest["threshold"] is not None else nothing))
        return found

    @cached_property
    def roc(self) -> pd.DataFrame:
        """Points of the ROC curve to draw."""
        return metrics.thin_along(metrics.roc_frame(self.scored.y, self.scored.p), "fpr", "tpr", DRAWN)

    @cached_property
    def precision_recall(self) -> pd.DataFrame:
        """Points of the precision-recall curve to draw."""
        return metrics.thin_along(metrics.pr_frame(self.scored.y, self.scored.p), "recall", "precision", DRAWN)

    @cached_property
    def detection_error(self) -> pd.DataFrame:
        """Points of the DET curve to draw."""
        frame = metrics.det_frame(self.scored.y, self.scored.p)
        return metrics.thin_along(frame, "fpr_deviate", "fnr_deviate", DRAWN)

    @cached_property
    def reliability(self) -> pd.DataFrame:
        """Bins of the reliability diagram."""
        return metrics.reliability_frame(self.scored.y, self.scored.p, clusters=self.scored.clusters)

    @cached_property
    def cost_curve(self) -> pd.DataFrame:
        """The cost curve, for all mixtures of costs and prevalence."""
        return metrics.cost_curve_frame(self.scored.y, self.scored.p)

    def cost_by_threshold(self, view: View) -> pd.DataFrame:
        """Points of mean cost over the threshold to draw."""
        roc = self.roc
        costs = self.costs(view)
        return roc.assign(cost=costs.of_fpr * roc["fpr"] + costs.of_fnr * (1 - roc["tpr"]))

    def risk_coverage(self, view: View) -> pd.DataFrame:
        """Points of the risk-coverage curve to draw; images without a score can never be decided."""
        frame = metrics.risk_coverage_frame(
            self.scored.y, self.scored.p, threshold=self.threshold(view), unscored=self.scored.unscored
        )
        return metrics.thin_along(frame, "coverage", "risk", DRAWN)

    @cached_property
    def _at_fpr(self) -> dict[float, float | None]:
        y, p = self.scored.y, self.scored.p
        return {target: metrics.threshold_at_fpr(y, p, target=target) for target in (0.01, 0.005)}

    @cached_property
    def _at_eer(self) -> float | None:
        return metrics.threshold_at_eer(self.scored.y, self.scored.p)

    @cached_property
    def ascending(self) -> npt.NDArray[np.float64]:
        """All scores, the lowest first."""
        return np.sort(self.scored.p)

    @cached_property
    def _folded(self) -> list[str]:
        return [name.casefold() for name in self.names]


def _comparable(predictions: pd.DataFrame) -> list[str]:
    """Columns whose values can be compared: `group`, then those of the manifest that have 2 to `MAX_GROUPS` values."""
    others = [
        name
        for name in predictions
        if name not in _NO_GROUPS and name != "group" and 1 < predictions[name].nunique() <= MAX_GROUPS
    ]
    return [*(["group"] if "group" in predictions else []), *others]


def around(ascending: npt.NDArray[np.float64], threshold: float) -> tuple[float, float]:
    """Lowest and highest score of the images around a threshold, as many on either side.

    Parameters
    ----------
    ascending : (N,) array
        All scores, the lowest first.
    """
    place = int(np.searchsorted(ascending, threshold))
    low, high = max(0, place - NEIGHBOURS // 2), min(len(ascending), place + NEIGHBOURS // 2) - 1
    return float(ascending[min(low, len(ascending) - 1)]), float(ascending[max(high, 0)])
