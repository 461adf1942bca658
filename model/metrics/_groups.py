"""Figures per group: each kind of fake against all real images, each source of real images on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from model.metrics._arrays import Floats, Ints
from model.metrics._members import Group, Mask, Members
from model.metrics._rate import MOVER, Rate, combined, undefined
from model.metrics._scores import interval, single
from model.metrics._statistics import Draws, allowed, chunks

MAX_RANKED = 200  # groups whose ranking is resampled: beyond, they are persons or files rather than kinds

Ranked: TypeAlias = dict[str, dict[str, tuple[Floats, Floats]]]


def against_reals(
    reals: Members,
    fakes: Mapping[str, Members],
    scores: Floats,
    *,
    targets: Sequence[float],
    resamples: int,
    seed: int,
) -> Ranked:
    """AUC and TPR at FPR of every group of fakes against the same real images.

    The real images are resampled once for all groups, so that the groups' resamples can be averaged.

    Parameters
    ----------
    reals : Members
        All real images, at least one.
    fakes : dict of Members
        By group, none empty.
    scores : ndarray of shape (N,)

    Returns
    -------
    dict of dict of (figure of shape (1,), resamples of shape (resamples,))
        By group, then by `roc_auc`, `tpr_at_fpr 0.01`, ...
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(scores[reals.places], kind="stable")
    real = scores[reals.places][order]
    fake = {name: scores[own.places] for name, own in fakes.items()}
    of_reals = _draws(Members(reals.places[order], None if reals.clusters is None else reals.clusters[order]))
    of_fakes = {name: _draws(own) for name, own in fakes.items()}
    positions = {  # how many real images lie below, and at or below, each fake
        name: (np.searchsorted(real, own, "left"), np.searchsorted(real, own, "right")) for name, own in fake.items()
    }

    def figures(weights: Floats, below: Floats, name: str) -> dict[str, Floats]:
        left, right = positions[name]
        lower, all_reals = below[:, left], below[:, -1:]  # (B, M): drawn reals below each fake; (B, 1)
        size = weights.sum(axis=1)
        found = {"roc_auc": (weights * (lower + below[:, right])).sum(axis=1) / (2 * size * all_reals[:, 0])}
        for target in targets:
            # A fake is caught at this promise iff its own score, as a threshold, keeps it.
            caught = all_reals - lower <= allowed(target, all_reals)
            found[f"tpr_at_fpr {target:g}"] = (weights * caught).sum(axis=1) / size
        return found

    def cumulated(weights: Floats) -> Floats:
        return np.hstack([np.zeros((len(weights), 1)), weights.cumsum(axis=1)])

    once = cumulated(np.ones((1, len(real))))
    values = {name: figures(np.ones((1, len(own))), once, name) for name, own in fake.items()}
    draws: dict[str, dict[str, list[Floats]]] = {name: {key: [] for key in values[name]} for name in fakes}
    for rows in chunks(resamples, max(len(real), *(len(own) for own in fake.values()))):
        below = cumulated(of_reals.weights(rng, rows))
        for name in fakes:
            for key, part in figures(of_fakes[name].weights(rng, rows), below, name).items():
                draws[name][key].append(part)
    return {
        name: {key: (values[name][key], np.concatenate(parts)) for key, parts in by_key.items()}
        for name, by_key in draws.items()
    }


def _draws(own: Members) -> Draws:
    return Draws(np.zeros(len(own), dtype=np.int64), own.clusters)


def group_rates(groups: Mapping[str, Group], labels: Ints, flagged: Mask) -> dict[str, dict[str, Any]]:
    """Rates at a threshold by group; JSON-ready.

    Parameters
    ----------
    labels, flagged : ndarray of shape (N,)
        Of the scored images.
    """
    right = flagged == (labels == 1)
    entries: dict[str, dict[str, Any]] = {}
    for name, group in groups.items():
        entry: dict[str, Any] = {"label": "fake" if not len(group.real) else "both" if len(group.fake) else "real"}
        entry |= {"n": len(group.all), "n_real": len(group.real), "n_fake": len(group.fake)}
        entry["accuracy"] = group.all.rate(right).to_dict()
        if len(group.fake):
            entry["recall"] = group.fake.rate(flagged).to_dict()
        if len(group.real):
            entry["fpr"] = group.real.rate(flagged).to_dict()
        entries[name] = entry
    return entries


def group_figures(
    groups: Mapping[str, Group],
    reals: Members,
    labels: Ints,
    scores: Floats,
    *,
    threshold: float,
    targets: Sequence[float],
    resamples: int,
    seed: int,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Figures by group, and their mean and extremes over groups.

    A group may hold fake images (recall, AUC and TPR at FPR against all real images of the set), real images (false
    positive rate) or both (all of these).

    Parameters
    ----------
    groups : dict of Group
    reals : Members
        All real images of the set.
    labels, scores : ndarray of shape (N,)
        Of the scored images.

    Returns
    -------
    tuple of dict
        Groups, then `over_groups`; JSON-ready.
    """
    entries = group_rates(groups, labels, scores >= threshold)
    fakes = {name: group.fake for name, group in groups.items() if len(group.fake)}
    ranked: Ranked = {}
    if len(reals) and fakes and len(groups) <= MAX_RANKED:
        ranked = against_reals(reals, fakes, scores, targets=targets, resamples=resamples, seed=seed)
    missing = "no real images" if not len(reals) else f"more than {MAX_RANKED} groups"
    for name, own in fakes.items():
        rates = {key: _rate(ranked[name], key, own, reals).to_dict() for key in ranked[name]} if ranked else {}
        nothing = undefined(missing).to_dict()
        entries[name]["roc_auc"] = rates.get("roc_auc", nothing)
        entries[name]["tpr_at_fpr"] = {f"{each:g}": rates.get(f"tpr_at_fpr {each:g}", nothing) for each in targets}
    resampled = bool(ranked) and min(len(reals), reals.units, *(own.units for own in fakes.values())) > 1
    return entries, over_groups(entries) | _over_ranked(entries, ranked if resampled else {}, targets)


def _rate(ranked: Mapping[str, tuple[Floats, Floats]], key: str, own: Members, reals: Members) -> Rate:
    value, draws = ranked[key]
    if min(own.units, reals.units) < 2:
        return single(float(value[0]), own.clusters is not None)
    return interval(float(value[0]), draws)


def over_groups(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Mean of the groups' rates, each counting the same, the worst group, and how far the extremes are apart.

    `gap` is the largest rate less the smallest; as they were picked for being extreme, it is larger than the true one.
    """
    recalls = {name: entry["recall"] for name, entry in groups.items() if "recall" in entry}
    fprs = {name: entry["fpr"] for name, entry in groups.items() if "fpr" in entry}
    summary: dict[str, Any] = {"fake_groups": len(recalls), "real_groups": len(fprs)}
    if groups:
        summary["accuracy"] = _mean_and_worst({name: entry["accuracy"] for name, entry in groups.items()}, "min")
    if recalls:
        summary["recall"] = _mean_and_worst(recalls, "min") | {"gap": _gap(recalls)}
    if fprs:
        summary["fpr"] = _mean_and_worst(fprs, "max") | {"gap": _gap(fprs)}
    return summary


def _gap(rates: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    if len(rates) < 2:
        return undefined("a single group").to_dict()
    low, high = (pick(rates, key=lambda name: rates[name]["value"]) for pick in (min, max))
    ends = (Rate(rates[name]["value"], rates[name]["low"], rates[name]["high"], "") for name in (high, low))
    return combined(list(zip((1.0, -1.0), ends, strict=True))).to_dict() | {"from": low, "to": high}


def _over_ranked(groups: Mapping[str, Mapping[str, Any]], ranked: Ranked, targets: Sequence[float]) -> dict[str, Any]:
    """Mean and worst of the groups' rankings; the interval of a mean is of the means of their resamples."""
    fake = {name: entry for name, entry in groups.items() if "recall" in entry}
    if not fake:
        return {}

    def summed(key: str, rates: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        found = _mean_and_worst(rates, "min")
        if ranked:
            draws = np.mean([ranked[name][key][1] for name in fake], axis=0)
            found["mean"] = interval(found["mean"]["value"], draws).to_dict()
        return found

    return {
        "roc_auc": summed("roc_auc", {name: entry["roc_auc"] for name, entry in fake.items()}),
        "tpr_at_fpr": {
            f"{target:g}": summed(
                f"tpr_at_fpr {target:g}", {name: entry["tpr_at_fpr"][f"{target:g}"] for name, entry in fake.items()}
            )
            for target in targets
        },
    }


def mean_of(rates: Sequence[Mapping[str, Any]]) -> Rate:
    """Mean of independent figures, its interval recovered from theirs (MOVER, Zou and Donner 2008).

    The distances from each figure to its own limits add up like standard errors.

    Examples
    --------
    >>> mean_of([{"value": 0.5, "low": 0.2, "high": 0.7}, {"value": 0.7, "low": 0.3, "high": 0.8}]).low
    0.35
    """
    values = np.array([rate["value"] for rate in rates])
    mean = float(values.mean())
    if any(rate["low"] is None for rate in rates):
        return Rate(mean, None, None, MOVER, "no interval: a group has none")
    below = np.sqrt(((values - [rate["low"] for rate in rates]) ** 2).sum()) / len(values)
    above = np.sqrt(((np.array([rate["high"] for rate in rates]) - values) ** 2).sum()) / len(values)
    return Rate(mean, mean - float(below), mean + float(above), MOVER)


def _mean_and_worst(rates: Mapping[str, Mapping[str, Any]], worst: str) -> dict[str, Any]:
    defined = {name: rate for name, rate in rates.items() if rate["value"] is not None}
    if not defined:
        reason = next(iter(rates.values())).get("reason", "")
        return {"mean": undefined(reason).to_dict(), worst: undefined(reason).to_dict() | {"group": None}}
    pick = min if worst == "min" else max
    name = pick(defined, key=lambda group: defined[group]["value"])
    return {"mean": mean_of(list(defined.values())).to_dict(), worst: dict(defined[name]) | {"group": name}}
