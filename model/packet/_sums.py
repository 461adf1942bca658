"""Whether the numbers in a packet follow from each other; needs no network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from model.calibration import NOT_APPLICABLE, Calibration, Thresholds, verdict
from model.packet import _log
from model.packet._checks import Check, guarded, load

ADDITIVITY = 1e-4  # log-odds between a logit and the sum of its parts


def sums(files: Mapping[str, bytes], original: str) -> Iterator[Check]:
    """The result as a whole, then each examined face; `original` is the name of the file that was judged."""
    yield guarded("result", lambda: _result(files, files[original]), "names the original and follows from its scores")
    for number in faces(files):
        yield guarded(
            f"sum of face {number}",
            lambda number=number: _sum(files, number),  # type: ignore[misc]
            "cells and bias make the logit, and so do regions and bias",
            f"{ADDITIVITY:g} log-odds",
        )


def faces(files: Mapping[str, bytes]) -> list[int]:
    """Numbers of the examined faces, from 1."""
    return sorted({int(name.split("/")[1]) for name in files if name.startswith("faces/")})


def _result(files: Mapping[str, bytes], original: bytes) -> str | None:
    result, settings, here = (load(files, f"{name}.json") for name in ("result", "settings", "environment"))
    if result["error"] is None and (result["sha256"], result["bytes"]) != (_log.sha256(original), len(original)):
        return "it is of another picture than the original in the packet"
    thresholds = Thresholds(**settings["thresholds"])
    if (result["threshold_real"], result["threshold_fake"]) != (thresholds.real, thresholds.fake):
        return "its thresholds are not those of the settings"
    if any(result[name] != here[name] for name in ("checkpoint", "checkpoint_sha256", "runtime")):
        return "its checkpoint or runtime is not that of the environment"
    if settings["precision"] != here["precision"]:
        return "the precision of the settings is not that of the environment"
    scored = [
        (number, face) for number, face in enumerate(result["face_results"], start=1) if face["logit"] is not None
    ]
    if [number for number, _ in scored] != faces(files):
        return f"it has {len(scored)} examined faces, the packet {len(faces(files))}"
    for number, face in scored:
        if (fault := _score(face, Calibration(**settings["calibration"]), thresholds)) is not None:
            return f"face {number}: {fault}"
        if load(files, f"faces/{number}/evidence.json")["logit"] != face["logit"]:
            return f"face {number}: its logit is not that of its evidence map"
    deciding = max((face for _, face in scored), key=lambda face: face["logit"], default={"verdict": NOT_APPLICABLE})
    if result["verdict"] != deciding["verdict"]:
        return "its verdict is not that of the face with the highest score"
    headline = {name for name in result if name in ("p_fake", "logit") or name.startswith("ledger_")}
    if any(result[name] != deciding.get(name) for name in headline):
        return "its numbers are not those of the face with the highest score"
    return None


def _score(face: Mapping[str, Any], calibration: Calibration, thresholds: Thresholds) -> str | None:
    if not math.isclose(face["p_fake"], calibration.probability(face["logit"]), abs_tol=1e-6):
        return "its probability does not follow from its logit"
    if face["verdict"] != verdict(face["p_fake"], thresholds):
        return "its verdict does not follow from its probability and the thresholds"
    return None


def _sum(files: Mapping[str, bytes], number: int) -> str | None:
    evidence, ledger = (load(files, f"faces/{number}/{part}.json") for part in ("evidence", "ledger"))
    cells = np.asarray(evidence["cells"], dtype=np.float64)
    logit, bias, regions = evidence["logit"], evidence["bias"], ledger["regions"]
    if cells.ndim != 2:
        return "the evidence map is not a table of numbers"
    if not abs(float(cells.sum()) + bias - logit) <= ADDITIVITY:
        return f"cells and bias make {float(cells.sum()) + bias:+.5f}, the logit is {logit:+.5f}"
    if not abs(sum(regions.values()) - logit) <= ADDITIVITY:
        return f"the ledger makes {sum(regions.values()):+.5f}, the logit is {logit:+.5f}"
    if regions["bias"] != bias or ledger["logit"] != logit:
        return "the ledger has another bias or logit than the evidence map"
    if not abs(sum(ledger["area"].values()) - 1) <= ADDITIVITY:
        return "the areas of the regions do not make the whole crop"
    return None
