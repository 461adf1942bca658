"""What a checkpoint's header says of sources that were not in training, summed up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from model.metrics import mean_of
from model.tiers import TIERS

# Entries of a header's metrics.
LEAVE_ONE_OUT, MEANS, UNSEEN_REAL, UNSEEN_FAKE = "leave_one_out", "leave_one_out_means", "unseen_real", "unseen_fake"
BY_FOLDS = (LEAVE_ONE_OUT, MEANS)  # these need no thresholds
NOT_SETS = (*BY_FOLDS, UNSEEN_REAL, UNSEEN_FAKE)  # all others are sets of pictures, under whatever name

Figure = dict[str, Any]  # value, low, high; a reason where there is none


def leave_one_out(measured: Mapping[str, Any]) -> dict[str, Any] | None:
    """Mean and worst fold of the leave-one-out figures in a header's metrics; None if there are none.

    Returns
    -------
    dict or None
        `roc_auc` and `tpr_at_1_percent_fpr`, each with `mean` and `worst`, which names its fold as `of`; `folds`, their
        number; and `together`: whether the intervals of means are what training measured of all folds together. In a
        header without that they are recovered from the folds', as if these shared no photographs.
    """
    folds = entries(measured.get(LEAVE_ONE_OUT))
    if not folds:
        return None
    keys = ("roc_auc", "tpr_at_1_percent_fpr")
    figures = {key: _mean_and_worst({name: fold.get(key) for name, fold in folds.items()}, min) for key in keys}
    means = {key: mean for key, mean in entries(measured.get(MEANS)).items() if mean.get("value") is not None}
    together = set(keys) <= set(means)
    if together:
        figures = {key: figure | {"mean": dict(means[key])} for key, figure in figures.items()}
    return {"folds": len(folds), "together": together} | figures


def unseen_real(measured: Mapping[str, Any]) -> dict[str, Any] | None:
    """Mean and worst source of the false-alarm rates on unseen photographs in a header's metrics; None without them.

    Returns
    -------
    dict or None
        By evaluation tier: `sources`, their number, `mean` (each source counts the same) and `worst` with its source
        as `of`.
    """
    return _by_tier(measured.get(UNSEEN_REAL))


def unseen_fake(measured: Mapping[str, Any]) -> dict[str, Any] | None:
    """Shares of AI-generated faces of unseen sources that were called real, as `unseen_real` gives its figures."""
    return _by_tier(measured.get(UNSEEN_FAKE))


def _by_tier(found: object) -> dict[str, Any] | None:
    sources = entries(found)
    names = [name for name in TIERS if any(name in rates for rates in sources.values())]
    tiers = {name: {source: rates.get(name) for source, rates in sources.items() if name in rates} for name in names}
    return {name: {"sources": len(rates)} | _mean_and_worst(rates, max) for name, rates in tiers.items()} or None


def entries(found: object) -> dict[str, Mapping[str, Any]]:
    """The entries of a mapping that are mappings themselves."""
    entries = found.items() if isinstance(found, Mapping) else ()
    return {str(name): entry for name, entry in entries if isinstance(entry, Mapping)}


def _mean_and_worst(rates: Mapping[str, Figure | None], worst: Callable[..., str]) -> dict[str, Figure]:
    defined = {name: rate for name, rate in rates.items() if rate and rate.get("value") is not None}
    if not defined:
        return {"mean": nothing("no figure is defined"), "worst": nothing("no figure is defined")}
    complete = {name: {"low": None, "high": None, **rate} for name, rate in defined.items()}
    name = worst(complete, key=lambda each: complete[each]["value"])
    return {"mean": mean_of(list(complete.values())).to_dict(), "worst": complete[name] | {"of": name}}


def exact(value: float) -> Figure:
    """A figure that is counted, not estimated."""
    return {"value": value, "low": None, "high": None}


def nothing(reason: str) -> Figure:
    """A figure that is not defined."""
    return {"value": None, "low": None, "high": None, "reason": reason}
