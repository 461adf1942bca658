"""What the background holds and decides is counted from ledgers, whose parts are sums."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.background import counted
from model.checkpoint import CheckpointInfo
from model.regions import REGIONS
from tests.support import header

INFO = CheckpointInfo("tiny", Path("tiny.safetensors"), header(thresholds={"real": 0.3, "fake": 0.7}), "0" * 64)


def row(verdict: str, logit: float, **ledger: float) -> dict[str, object]:
    parts = {f"ledger_{name}": ledger.get(name, 0.0) for name in REGIONS}
    return {"verdict": verdict, "logit": logit, **parts}


def test_faces_are_counted_by_what_their_background_holds_and_decides() -> None:
    rows = [
        row("fake", 2.0, nose=2.0),
        row("fake", 2.0, nose=0.5, background=1.5),  # holds more, and without it inconclusive: logit 0.5
        row("fake", 1.5, nose=-2.0, background=3.5),  # turned round: logit -2
        row("real", -2.0, nose=-1.0, hair=-1.0, background=0.0),
        row("inconclusive", 0.0, nose=2.0, background=-2.0),  # as much as the face; without it fake
        row("fake", 2.0, nose=-2.5, hair=2.5, background=2.0),  # without it real, but the hair holds more
    ]
    results = pd.DataFrame([*rows, {"verdict": "not_applicable"}])  # no face, no ledger
    assert counted(results, INFO) == (6, 2, 3, 1)
