"""Runtimes beside the reference on pictures that the gate has not seen; the full table is in docs/runtimes.md."""

import os
from pathlib import Path

import pytest

from benchmarks.agreement import agreements
from model import runtimes
from model.checkpoint import list_checkpoints

FACES = Path(os.environ.get("REALITY_CHECK_FACES", Path(__file__).parents[3] / "shared" / "data" / "faces256"))
COUNT = 24
BEYOND = 1.5  # these are others than the gate's own, on which its tolerances hold


@pytest.mark.skipif(not (FACES / "test").is_dir(), reason="needs labelled faces: set REALITY_CHECK_FACES")
@pytest.mark.parametrize("info", list_checkpoints(), ids=lambda info: info.name)
def test_what_the_gate_admits_agrees_on_other_pictures_too(info):
    admitted = {name: found for name, found in agreements(info, FACES / "test", COUNT) if not isinstance(found, str)}
    assert "torch-bf16" in admitted
    for name, found in admitted.items():
        tolerance = runtimes.TOLERANCES[name.split("-")[1]]
        assert found.faces > 0.9 * COUNT
        assert found.p_fake <= BEYOND * tolerance.p_fake, (name, found)
        assert 1 - found.correlation <= BEYOND * (1 - tolerance.correlation), (name, found)
        assert found.error <= BEYOND * tolerance.error, (name, found)
