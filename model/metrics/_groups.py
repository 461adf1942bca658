"""Figures per group: each kind of fake against all real images, each source of real images on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.metrics._arrays import Floats, Ints
from model.metrics._rate import BOOTSTRAP, MOVER, Rate, undefined, wilson
from model.metrics._scores import interval
from model.metrics._statistics import allowed, chunks, drawn


def against_reals(
    reals: Floats, fakes: Mapping[str, Floats], *, targets: Sequence[float], resamples: int, seed: int
) -> dict[str, dict[str, tuple[Floats, Floats]]]:
    """AUC and TPR at FPR of every group of fakes against the same real images.

    The real images are resampled once for all groups, so that the groups' resamples can be averaged.

    Parameters
    ----------
    reals : ndarray of shape (R,)
        Scores of all real images, R > 0.
    fakes : dict of ndarray
        Scores by group, none empty.

    Returns
    -------
    dict of dict of (figure of shape (1,), resamples of shape (resamples,))
        By group, then by `roc_auc`, `tpr_at_fpr 0.01`, ...
    """
    rng = np.random.default_rng(seed)
    reals = np.sort(reals)
    positions = {  # how many real images lie below, and at or below, each fake
        name: (np.searchsorted(reals, scores, "left"), np.searchsorted(reals, scores, "right"))
        for name, scores in fakes.items()
    }

    def figures(weights: Floats, below: Floats, name: str) -> dict[str, Floats]:
        left, right = positions[name]
        lower = below[:, left]  # (B, M): drawn reals below each fake
        size = weights.shape[1]
        found = {"roc_auc": (weights * (lower + below[:, right])).sum(axis=1) / (2 * size * len(reals))}
        for target in targets:
            # A fake is caught at this promise iff its own score, as a threshold, keeps it.
            caught = len(reals) - lower <= allowed(target, len(reals))
            found[f"tpr_at_fpr {target:g}"] = (weights * caught).sum(axis=1) / size
        return found

    def cumulated(weights: Floats) -> Floats:
        return np.hstack([np.zeros((len(weights), 1)), weights.cumsum(axis=1)])

    once = cumulated(np.ones((1, len(reals))))
    values = {name: figures(np.ones((1, len(scores))), once, name) for name, scores in fakes.items()}
    draws: dict[str, dict[str, list[Floats]]] = {name: {key: [] for key in values[name]} for name in fakes}
    for rows in chunks(resamples, max(len(reals), *(len(scores) for scores in fakes.values()))):
        below = cumulated(drawn(rng, len(reals), rows))
        for name, scores in fakes.items():
            for key, part in figures(drawn(rng, len(scores), rows), below, name).items():
                draws[name][key].append(part)
    return {
        name: {key: (values[name][key], np.concatenate(parts)) for key, parts in by_key.items()}
        for name, by_key in draws.items()
    }


def group_figures(
    names: Sequence[str],
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
    names, labels, scores : of shape (N,)
        Of the scored images.

    Returns
    -------
    tuple of dict
        Groups, then `over_groups`; JSON-ready.
    """
    of = np.asarray(names, dtype=object)
    flagged = scores >= threshold
    reals = scores[labels == 0]
    fakes = {name: scores[(of == name) & (labels == 1)] for name in dict.fromkeys(names)}
    fakes = {name: own for name, own in fakes.items() if len(own)}
    keys = ["roc_auc", *(f"tpr_at_fpr {target:g}" for target in targets)]
    ranked = (
        against_reals(reals, fakes, targets=targets, resamples=resamples, seed=seed) if len(reals) and fakes else {}
    )
    groups: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(names):
        own = of == name
        fake, real = own & (labels == 1), own & (labels == 0)
        entry: dict[str, Any] = {"label": ("fake" if not real.any() else "real" if not fake.any() else "both")}
        entry |= {"n": int(own.sum()), "n_real": int(real.sum()), "n_fake": int(fake.sum())}
        if fake.any():
            entry["recall"] = wilson(int(flagged[fake].sum()), int(fake.sum())).to_dict()
            rates = {key: _rate(ranked, name, key, min(int(fake.sum()), len(reals))) for key in keys}
            entry["roc_auc"] = rates["roc_auc"].to_dict()
            entry["tpr_at_fpr"] = {f"{target:g}": rates[f"tpr_at_fpr {target:g}"].to_dict() for target in targets}
        if real.any():
            entry["fpr"] = wilson(int(flagged[real].sum()), int(real.sum())).to_dict()
        groups[name] = entry
    return groups, _over_groups(groups, ranked, targets)


def _rate(ranked: Mapping[str, Mapping[str, tuple[Floats, Floats]]], name: str, key: str, smallest: int) -> Rate:
    if name not in ranked:
        return undefined("no real images")
    value, draws = ranked[name][key]
    if smallest < 2:
        return Rate(float(value[0]), None, None, BOOTSTRAP, "no interval: a class has a single image")
    return interval(float(value[0]), draws)


def _over_groups(
    groups: Mapping[str, Mapping[str, Any]],
    ranked: Mapping[str, Mapping[str, tuple[Floats, Floats]]],
    targets: Sequence[float],
) -> dict[str, Any]:
    """Mean of the groups, each counting the same, and the worst group with its own interval."""
    fake = {name: entry for name, entry in groups.items() if "recall" in entry}
    real = {name: entry for name, entry in groups.items() if "fpr" in entry}
    summary: dict[str, Any] = {"fake_groups": len(fake), "real_groups": len(real)}
    if fake:
        summary["recall"] = _mean_and_worst({name: entry["recall"] for name, entry in fake.items()}, "min")
        summary["roc_auc"] = _mean_and_worst({name: entry["roc_auc"] for name, entry in fake.items()}, "min")
        summary["tpr_at_fpr"] = {
            key: _mean_and_worst({name: entry["tpr_at_fpr"][key] for name, entry in fake.items()}, "min")
            for key in (f"{target:g}" for target in targets)
        }
        for key, place in [("roc_auc", summary["roc_auc"])] + [
            (f"tpr_at_fpr {target:g}", summary["tpr_at_fpr"][f"{target:g}"]) for target in targets
        ]:
            if ranked and all(entry["n_fake"] > 1 for entry in fake.values()):
                draws = np.mean([ranked[name][key][1] for name in fake], axis=0)
                place["mean"] = interval(place["mean"]["value"], draws).to_dict()
    if real:
        summary["fpr"] = _mean_and_worst({name: entry["fpr"] for name, entry in real.items()}, "max")
    return summary


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
