"""Temperature, bias and thresholds from pictures that were not trained on.

Three ways to the thresholds, from the weakest claim to the strongest: `fit_thresholds` on validation pictures, whose
sources are in training; `for_unseen` on sources that were left out of training; `recalibrate`, for a finished
checkpoint, on the pictures of its user.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit

from model import checkpoint
from model.accuracy import BY_FOLDS
from model.calibration import Calibration, Thresholds
from model.checkpoint import CheckpointInfo, read_info
from model.dataset import LabelledSet, load_labelled
from model.detector import Detector
from model.metrics import wilson
from model.tiers import TIERS, tier
from model.training import card

Scores = Mapping[str, tuple[np.ndarray, np.ndarray]]


class CalibrationError(ValueError):
    """Pictures or scores from which no thresholds can be set."""


def fit_calibration(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Temperature and bias that minimise cross-entropy, both labels weighing the same (Platt 1999; Guo et al. 2017).

    The targets are Platt's, (n + 1) / (n + 2) of n fakes and 1 / (n + 2) of n real pictures in place of 1 and 0: logits
    that separate the labels altogether would ask for a temperature of 0.

    Parameters
    ----------
    logits, labels : ndarray of shape (N,)
        Of a mixture of clean and degraded copies; labels 0 real, 1 fake.
    """
    weights = np.where(labels == 1, 0.5 / max((labels == 1).sum(), 1), 0.5 / max((labels == 0).sum(), 1))
    n_fake, n_real = int((labels == 1).sum()), int((labels == 0).sum())
    targets = np.where(labels == 1, (n_fake + 1) / (n_fake + 2), 1 / (n_real + 2))

    def loss(parameters: np.ndarray) -> float:
        odds = logits * np.exp(-parameters[0]) + parameters[1]
        return float((weights * (np.logaddexp(0, odds) - targets * odds)).sum())

    found = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-9, "maxiter": 2000})
    return Calibration(float(np.exp(found.x[0])), float(found.x[1]))


def probabilities(logits: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Calibrated p_fake of an array of logits."""
    return expit(logits / calibration.temperature + calibration.bias)


def balanced_ece(p: np.ndarray, labels: np.ndarray, *, bins: int = 15) -> float:
    """Expected calibration error in bins of equal mass, where both labels weigh the same, as in `fit_calibration`.

    Parameters
    ----------
    p, labels : ndarray of shape (N,)
        Of both labels.

    See Also
    --------
    model.metrics.ece : every picture weighs the same, with an interval.
    """
    order = np.argsort(p, kind="stable")
    p, labels = p[order], labels[order]
    weights = np.where(labels == 1, 0.5 / (labels == 1).sum(), 0.5 / (labels == 0).sum())
    middle = weights.cumsum() - weights / 2  # in (0, 1)
    which = np.minimum((middle * bins + 1e-9).astype(int), bins - 1)
    return float(np.abs(np.bincount(which, weights * (labels - p))).sum())


def decide(logits: Scores, max_false_positive_rate: float) -> tuple[Calibration, Thresholds]:
    """Calibrate on the mixture of all conditions; thresholds for the worst of them.

    Parameters
    ----------
    logits : dict of str to (logits, labels)
        Conditions, e.g. one per tier.
    max_false_positive_rate : float
    """
    calibration = _on_mixture(logits)
    scores = {name: (probabilities(own, calibration), known) for name, (own, known) in logits.items()}
    return calibration, fit_thresholds(scores, max_false_positive_rate)


def _on_mixture(logits: Scores) -> Calibration:
    return fit_calibration(*(np.concatenate(parts) for parts in zip(*logits.values(), strict=True)))


def fit_thresholds(scores: Scores, max_false_positive_rate: float) -> Thresholds:
    """Thresholds whose error rate stays within a limit in the worst of several conditions.

    `fake` is the smallest probability at which at most this share of real photographs is called fake, in every
    condition; `real` the largest at which at most this share of fakes is called real. The band between is inconclusive.
    Neither crosses one half.

    Parameters
    ----------
    scores : dict of str to (p_fake, labels)
        Conditions, e.g. one per degradation tier.
    max_false_positive_rate : float

    Returns
    -------
    Thresholds
        `fpr` is None if so many photographs score exactly 1 that no threshold keeps the limit.

    Raises
    ------
    CalibrationError
        If a condition lacks one of the labels.
    """
    for name, (_, labels) in scores.items():
        if not (labels == 0).any() or not (labels == 1).any():
            raise CalibrationError(f"thresholds need scores of both labels, but {name} lacks one")
    fake, fpr = _threshold_of_fake([p[y == 0] for p, y in scores.values()], max_false_positive_rate)
    real = min(0.5, *(-_upper(-p[y == 1], max_false_positive_rate) for p, y in scores.values()))
    return Thresholds(real=max(real, 0.0), fake=fake, fpr=fpr)


def _threshold_of_fake(photographs: Sequence[np.ndarray], max_fpr: float) -> tuple[float, float | None]:
    """The threshold that at most a share of the photographs of each condition reaches, and that share if it is held."""
    fake = min(max(0.5, *(_upper(p, max_fpr) for p in photographs)), 1.0)
    return fake, max_fpr if all((p >= fake).mean() <= max_fpr for p in photographs) else None


def _upper(values: np.ndarray, rate: float) -> float:
    """Smallest threshold t with share(values >= t) <= rate."""
    ordered = np.sort(values)[::-1]
    return float(np.nextafter(ordered[int(rate * len(ordered) + 1e-9)], np.inf))


def held_out_scores(
    fold: str, pictures: pd.DataFrame, logits: Mapping[str, np.ndarray], on_val: Scores
) -> pd.DataFrame:
    """Held-out pictures of a fold in every tier, calibrated on the fold's own val: rows for `for_unseen`.

    Parameters
    ----------
    pictures : DataFrame
        `source` and `label` of the N pictures.
    logits : dict of str to ndarray of shape (N,)
        By tier, from the network that was trained without the fold.
    on_val : dict of str to (logits, labels)
        Val pictures without the fold, by tier.
    """
    calibration = _on_mixture(on_val)
    return pd.concat(
        pictures[["source", "label"]].assign(tier=name, fold=fold, p_fake=probabilities(values, calibration))
        for name, values in logits.items()
    )[["tier", "fold", "source", "label", "p_fake"]]


def for_unseen(known: Thresholds, scores: pd.DataFrame, max_fpr: float) -> Thresholds:
    """Thresholds whose *fake* keeps the limit on photographs of sources that were left out of training, too.

    In every tier, at most `max_fpr` of these photographs together are called fake. The threshold of *real* stays: what
    an unseen generator made may look like any photograph, so that no threshold keeps the share of it that passes as
    real small. How large it is, is stated instead (`unseen_error_table`).

    Parameters
    ----------
    known : Thresholds
        From sources that are in training.
    scores : DataFrame
        One row per tier and held-out picture: `tier`, `fold`, `source`, `label` (0 real, 1 fake) and `p_fake`, from the
        network that was trained without the fold, calibrated. Pictures of sources that it saw do not belong here.
    max_fpr : float

    Raises
    ------
    CalibrationError
        If there is no photograph among them.
    """
    photographs = [rows["p_fake"].to_numpy(dtype=float) for _, rows in scores[scores["label"] == 0].groupby("tier")]
    if not photographs:
        raise CalibrationError("a threshold for unseen sources needs photographs of them, but there are none")
    fake, fpr = _threshold_of_fake(photographs, max_fpr)
    return replace(known, fake=max(known.fake, fake), fpr=fpr)


def unseen_error_table(scores: pd.DataFrame, thresholds: Thresholds) -> pd.DataFrame:
    """Wrong verdicts per tier and unseen source.

    Parameters
    ----------
    scores : DataFrame
        As for `for_unseen`.
    thresholds : Thresholds

    Returns
    -------
    DataFrame
        One row per tier, label and source, in the order of `scores`: `tier`, `label`, `source`, `n`, `errors`
        (photographs called fake, or fakes called real), and their share `value` with Wilson's 95 % interval `low`,
        `high`.
    """
    wrong = np.where(scores["label"] == 0, scores["p_fake"] >= thresholds.fake, scores["p_fake"] <= thresholds.real)
    rows = []
    for (name, label, source), own in scores.assign(wrong=wrong).groupby(["tier", "label", "source"], sort=False):
        errors = int(own["wrong"].sum())
        rate = wilson(errors, len(own))
        rows.append((name, label, source, len(own), errors, rate.value, rate.low, rate.high))
    return pd.DataFrame(rows, columns=["tier", "label", "source", "n", "errors", "value", "low", "high"])


def unseen_entries(table: pd.DataFrame) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """What `unseen_error_table` says, as a checkpoint's header holds it among its metrics.

    Returns
    -------
    dict
        `unseen_real` (photographs called fake) and `unseen_fake` (fakes called real): by source, then by tier, `n`,
        `errors`, `value`, `low` and `high`.
    """
    out: dict[str, dict[str, dict[str, dict[str, float]]]] = {"unseen_real": {}, "unseen_fake": {}}
    for row in table.to_dict("records"):
        of_source = out["unseen_fake" if row["label"] else "unseen_real"].setdefault(str(row["source"]), {})
        of_source[str(row["tier"])] = {key: row[key] for key in ("n", "errors", "value", "low", "high")}
    return out


@dataclass(frozen=True)
class Recalibration:
    """A checkpoint with new calibration and thresholds.

    Attributes
    ----------
    info : CheckpointInfo
        Of the new file.
    before, after : Thresholds
    ece : dict of str to (float, float)
        Balanced calibration error by tier, before and after, on the pictures of the calibration themselves.
    counts : dict of str to (int, int)
        Real and fake pictures by tier whose face could be scored.
    left_out : int
        Pictures that could not be scored as they are.
    """

    info: CheckpointInfo
    before: Thresholds
    after: Thresholds
    ece: dict[str, tuple[float, ...]]
    counts: dict[str, tuple[int, int]]
    left_out: int


def labelled_rows(root: Path, manifest: Path | None = None) -> LabelledSet:
    """A labelled folder, or the rows of a manifest; of one with the column `split`, the rows `val`.

    Raises
    ------
    model.dataset.LabelError, CalibrationError
        If nothing can be used.
    """
    if manifest is None:
        return load_labelled(root)
    labelled = load_labelled(manifest, root=root)
    if "split" not in labelled.frame:
        return labelled
    rows = np.flatnonzero(labelled.frame["split"] == "val")
    if not len(rows):
        raise CalibrationError(f"{manifest}: has no usable row whose split is val")
    frame = labelled.frame.iloc[rows].reset_index(drop=True)
    return LabelledSet([labelled.sources[row] for row in rows], frame, labelled.folders, labelled.skipped)


def recalibrate(
    path: Path,
    labelled: LabelledSet,
    out: Path,
    *,
    max_false_positive_rate: float = 0.01,
    progress: Callable[[int, int], None] | None = None,
) -> Recalibration:
    """Fit temperature, bias and thresholds of a checkpoint anew; its weights stay as they are.

    Every picture is judged as in use, as it is and as the other tiers deliver it. Figures in the header that depend on
    the old thresholds or calibration are dropped; those of leave-one-out depend on the order of scores alone and stay.

    Parameters
    ----------
    path, out : Path
        The checkpoint, and the file to write; the header's `name` becomes that of `out`.
    labelled : LabelledSet
        Pictures that the checkpoint was not trained on.
    progress : callable, optional
        Called with the pictures done, and their count over all tiers.

    Raises
    ------
    CalibrationError
        If `out` is the checkpoint itself or does not end in `.safetensors`, or in a tier a label has no picture with a
        usable face.
    """
    info = read_info(path)
    if out.resolve() == path.resolve():
        raise CalibrationError(f"{out}: is the checkpoint itself; name another file to write")
    if out.suffix != ".safetensors":
        raise CalibrationError(f"{out}: a checkpoint's name ends in .safetensors; name the file so")
    detector = Detector.load(info.path)
    labels = labelled.frame["label"].to_numpy()
    logits: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    used: list[tuple[str, int]] = []  # SHA-256 and label of the pictures that could be scored as they are
    for number, name in enumerate(TIERS):
        found = np.full(len(labelled), np.nan)
        for index, result in enumerate(detector.classify_many(labelled.sources, transform=partial(tier, name=name))):
            if result.deciding_face is not None:
                found[index] = result.faces[result.deciding_face].logit
                if name == "clean":
                    used.append((result.sha256, int(labels[index])))
            if progress is not None:
                progress(number * len(labelled) + index + 1, len(TIERS) * len(labelled))
        scored = ~np.isnan(found)
        logits[name] = found[scored], labels[scored]
    calibration, thresholds = decide(logits, max_false_positive_rate)
    errors = {
        name: tuple(balanced_ece(probabilities(values, each), own) for each in (info.calibration, calibration))
        for name, (values, own) in logits.items()
    }
    header = info.header | {
        "name": out.stem,
        "temperature": calibration.temperature,
        "calibration_bias": calibration.bias,
        "thresholds": {"real": thresholds.real, "fake": thresholds.fake, "fpr": thresholds.fpr},
        "metrics": {key: value for key, value in info.header["metrics"].items() if key in BY_FOLDS},
        "calibrated_on": {
            "digest": hashlib.sha256("\n".join(sorted(sha256 for sha256, _ in used)).encode()).hexdigest(),
            "n_real": sum(label == 0 for _, label in used),
            "n_fake": sum(label == 1 for _, label in used),
            "checkpoint": info.sha256,
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        },
    }
    written = checkpoint.rewrite(info, header, out)
    written.card.write_text(card.render(written), "utf-8")
    counts = {name: (int((own == 0).sum()), int((own == 1).sum())) for name, (_, own) in logits.items()}
    return Recalibration(written, info.thresholds, thresholds, errors, counts, len(labelled) - len(used))
