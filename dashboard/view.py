"""How a visitor looks at an evaluation: threshold, costs, and which images. A view fits into a page's address."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

CELLS = ("FP", "FN", "TP", "TN")
TRUTHS = ("real", "fake")
LEAST_PREVALENCE = 0.0001  # what the field for it can show, and as much below 1
ORDERS = ("certain", "wrong", "unsure", "name")
_LONGEST = 200  # characters of a text that is taken from an address


@dataclass(frozen=True)
class Selection:
    """Which images; every condition that is set must hold.

    Attributes
    ----------
    cell : str
        Cell of the confusion matrix at the view's threshold: FP, FN, TP, TN, or ''.
    truth : str
        `real`, `fake` or ''.
    low, high : float or None
        Bounds of the score, both included.
    sure : float or None
        Least distance from the threshold, on either side scaled to [0, 1].
    column, value : str
        Group: the value of a column.
    finding : str
        A finding of the audit, as `finding_key` names it, or a code for all findings with it; the images that it names.
    text : str
        Part of the name, in either case.
    """

    cell: str = ""
    truth: str = ""
    low: float | None = None
    high: float | None = None
    sure: float | None = None
    column: str = ""
    value: str = ""
    finding: str = ""
    text: str = ""


@dataclass(frozen=True)
class View:
    """How one visitor looks at one evaluation.

    Attributes
    ----------
    threshold : float or None
        None for the one that the run was made with.
    cost_fp, cost_fn : float
        Costs of the two mistakes, in any one unit.
    prevalence : float or None
        Share of fakes where the detector will be used, see `possible`; None for that of the set.
    by : str
        Column whose groups are compared; '' for the first.
    order : str
        One of `ORDERS`.
    page : int
        Of the images, from 1.
    other : str
        Id of the run that this one is compared with, or ''.
    """

    threshold: float | None = None
    cost_fp: float = 1.0
    cost_fn: float = 1.0
    prevalence: float | None = None
    selection: Selection = field(default_factory=Selection)
    by: str = ""
    order: str = "wrong"
    page: int = 1
    other: str = ""

    def but(self, **changes: object) -> View:
        """The view with changes; other images begin on their first page."""
        if changes.keys() & {"selection", "threshold", "order"}:
            changes = {"page": 1} | changes
        return replace(self, **changes)  # type: ignore[arg-type]

    def to_params(self) -> dict[str, str]:
        """What differs from the default, as parameters of an address; floats keep every digit."""
        found: dict[str, str] = {}
        for prefix, part in (("", self), ("only_", self.selection)):
            for entry in fields(part):
                value = getattr(part, entry.name)
                if entry.name != "selection" and value != getattr(type(part)(), entry.name):
                    found[prefix + entry.name] = value if isinstance(value, str) else repr(value)
        return found

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> View:
        """The view of an address; what cannot be understood there is left at its default."""
        share = _number(params, "threshold", 0.0, 1.0)
        costs = [_number(params, name, 0.0, 1e9) for name in ("cost_fp", "cost_fn")]
        fp, fn = (1.0 if cost is None else cost for cost in costs)
        prevalence = _number(params, "prevalence", 0.0, 1.0)
        page = params.get("page", "1")
        return cls(
            threshold=share,
            cost_fp=fp if fp + fn > 0 else 1.0,
            cost_fn=fn,
            prevalence=possible(prevalence) if prevalence is not None and 0 < prevalence < 1 else None,
            selection=Selection(
                cell=_word(params, "only_cell", CELLS),
                truth=_word(params, "only_truth", TRUTHS),
                low=_number(params, "only_low", 0.0, 1.0),
                high=_number(params, "only_high", 0.0, 1.0),
                sure=_number(params, "only_sure", 0.0, 1.0),
                **{name: params.get(f"only_{name}", "")[:_LONGEST] for name in ("column", "value", "finding", "text")},
            ),
            by=params.get("by", "")[:_LONGEST],
            order=_word(params, "order", ORDERS) or "wrong",
            page=int(page) if page.isdecimal() and len(page) < 9 and int(page) else 1,
            other=params.get("other", "")[:_LONGEST],
        )


PARAMETERS = frozenset(
    View(0.5, 2, 2, 0.5, Selection("FP", "real", 0, 1, 0, "c", "v", "f", "t"), "b", "name", 2, "o").to_params()
)


def possible(prevalence: float) -> float:
    """The nearest share of fakes that can be assumed, in [`LEAST_PREVALENCE`, 1 - `LEAST_PREVALENCE`]."""
    return min(max(prevalence, LEAST_PREVALENCE), 1 - LEAST_PREVALENCE)


def finding_key(finding: Mapping[str, Any]) -> str:
    """What tells a finding of an audit from the others, short enough for an address: no two share code and title.

    >>> finding_key({"code": "RC002", "title": "The file gives the label away"})
    'RC002 The file gives the label away'
    """
    return f"{finding['code']} {finding['title']}"[:_LONGEST]


def _number(params: Mapping[str, str], name: str, low: float, high: float) -> float | None:
    try:
        value = float(params.get(name, "nan"))
    except ValueError:
        return None
    return value if math.isfinite(value) and low <= value <= high else None


def _word(params: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    word = params.get(name, "")
    return word if word in known else ""
