"""What is declared, pinned and installed is one and the same."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from dashboard.settings import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def requirements(name: str) -> dict[str, Requirement]:
    """Requirements of a file by canonical name, without options and comments."""
    lines = [line.split(" #")[0].strip() for line in (ROOT / name).read_text("utf-8").splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    return {canonicalize_name(entry.name): entry for entry in found}


def pin(requirement: Requirement) -> str:
    """The one version that a requirement allows."""
    match = re.fullmatch(r"==([^=*+]+)", str(requirement.specifier))
    assert match, f"{requirement} is not pinned to one public version"
    return match[1]


CONSTRAINTS = requirements("constraints.txt")


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_pinned_as_in_the_constraints(name: str) -> None:
    for package, requirement in requirements(name).items():
        assert pin(requirement) == pin(CONSTRAINTS[package]), package


def test_every_dependency_is_in_requirements_and_its_pin_is_allowed() -> None:
    pinned = requirements("requirements.txt")
    declared = [Requirement(text) for text in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["heif"])]
    assert {canonicalize_name(entry.name) for entry in declared} == set(pinned)
    for entry in declared:
        version = pin(pinned[canonicalize_name(entry.name)])
        assert entry.specifier.contains(version), f"{entry} does not allow the tested {version}"


@pytest.mark.parametrize("extra", ["train", "dev"])
def test_extras_allow_what_was_tested(extra: str) -> None:
    for text in PROJECT["optional-dependencies"][extra]:
        entry = Requirement(text)
        if entry.name != PROJECT["name"]:
            assert entry.specifier.contains(pin(CONSTRAINTS[canonicalize_name(entry.name)])), text


def test_constraints_name_public_versions_only() -> None:
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-z0-9.-]+==[A-Za-z0-9.]+", line), line


def test_what_is_installed_is_what_was_pinned() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        for package, requirement in requirements(name).items():
            assert Version(metadata.version(package)).public == pin(requirement), package


def test_everything_that_the_application_brings_is_constrained() -> None:
    todo, seen = [canonicalize_name(entry) for entry in requirements("requirements.txt")], set()
    while todo:
        package = todo.pop()
        if package in seen:
            continue
        seen.add(package)
        for text in metadata.requires(package) or ():
            entry = Requirement(text)
            if entry.marker is None or entry.marker.evaluate({"extra": ""}):
                todo.append(canonicalize_name(entry.name))
    # A CUDA build of torch brings libraries that torch pins itself; setuptools comes with the environment.
    own = {name for name in seen if name.startswith(("nvidia-", "cuda-")) or name in ("triton", "setuptools")}
    assert seen - own <= set(CONSTRAINTS)


def test_only_one_build_of_opencv_is_installed() -> None:
    names = {canonicalize_name(entry.name) for entry in metadata.distributions()}
    assert {name for name in names if name.startswith("opencv-")} == {"opencv-python-headless"}


def test_torchvision_can_be_imported_beside_this_torch() -> None:
    import torch

    from model._torchvision import torchvision

    assert Version(torch.__version__).public == pin(CONSTRAINTS["torch"])
    assert Version(torchvision.__version__).public == pin(CONSTRAINTS["torchvision"])


def test_what_the_wheel_carries_exists() -> None:
    code = (ROOT / "hatch_build.py").read_text("utf-8")
    shipped = re.findall(r'^    "([^"]+)": "dashboard/_shipped/', code, flags=re.MULTILINE)
    assert ".streamlit/config.toml" in shipped
    assert "sample_images" in shipped
    for name in shipped:
        assert (ROOT / name).exists(), name


def test_licence_files_are_complete() -> None:
    assert "END OF TERMS AND CONDITIONS" in (ROOT / "LICENSE").read_text("utf-8")
    notice = (ROOT / "NOTICE").read_text("utf-8")
    for line in ("Copyright (c) 2021 OpenAI", "Copyright 2016, Yahoo Inc.", "Permission is hereby granted"):
        assert line in notice


def test_every_bundled_checkpoint_has_a_card_and_a_notice() -> None:
    notice = (ROOT / "NOTICE").read_text("utf-8")
    for path in sorted(Path(ROOT / "model" / "weights").glob("*.safetensors")):
        assert path.with_suffix(".md").is_file(), f"{path.name} has no card"
        assert f"model/weights/{path.name}" in notice, f"{path.name} is not in NOTICE"
