"""What `make` would do with the environment that it finds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dashboard.settings import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose environment was made and filled."""
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    for mark in (".app-installed", ".dev-installed"):
        (tmp_path / ".venv" / mark).touch()
    return tmp_path


def planned(checkout: Path, target: str) -> str:
    command = ["make", "--dry-run", target, f"PYTHON={sys.executable}"]
    return subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True).stdout


def test_what_is_there_is_left_alone(checkout: Path) -> None:
    assert planned(checkout, "test").strip() == ".venv/bin/python -m pytest"


@pytest.mark.parametrize("target", ["app", "test"])
def test_an_environment_whose_python_has_gone_is_made_and_filled_anew(checkout: Path, target: str) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to(checkout / "gone")
    plan = planned(checkout, target)
    assert "-m venv --clear .venv" in plan
    assert "--requirement requirements.txt" in plan
    assert ("--requirement requirements-dev.txt" in plan) == (target == "test")
