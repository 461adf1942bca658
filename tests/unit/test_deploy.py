"""The files for deployment agree with the application and with each other."""

from __future__ import annotations

import ast
import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from dashboard.settings import ROOT, Settings

DEPLOY = ROOT / "deploy"
SUPPLY = runpy.run_path(str(DEPLOY / "supply.py"))
FILES = [*DEPLOY.iterdir(), ROOT / "docs" / "deployment.md"]


def pinned(path: Path) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([^\s\\]+)", path.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version.partition("+")[0] for name, version in found}


def test_the_lock_has_a_hash_for_every_package_and_the_versions_that_were_tested() -> None:
    locked = pinned(DEPLOY / "requirements.lock")
    constrained = pinned(ROOT / "constraints.txt")
    assert len(SUPPLY["packages"]()) == len(locked) > 50
    # setuptools only builds what has no wheel; which one is no matter of constraints.
    assert {name: version for name, version in locked.items() if constrained.get(name, version) != version} == {}
    assert set(pinned(ROOT / "requirements.txt")) <= set(locked)
    assert "opencv-python" not in locked


def test_the_bill_of_materials_is_that_of_the_lock() -> None:
    bill = json.loads((DEPLOY / "sbom.cdx.json").read_text("utf-8"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    listed = {
        (c["name"], c["version"], c["hashes"][0]["content"]) for c in bill["components"] if c["type"] == "library"
    }
    assert listed == {(p.name, p.version, p.sha256) for p in SUPPLY["packages"]()}, "run `make sbom`"
    models = {c["name"]: c["hashes"][0]["content"] for c in bill["components"] if c["type"] != "library"}
    sums = (ROOT / "model" / "weights" / "SHA256SUMS").read_text("utf-8")
    assert sums == "".join(f"{digest}  {name}\n" for name, digest in sorted(models.items())), "run `make sbom`"
    assert len({c["bom-ref"] for c in bill["components"]}) == len(bill["components"])
    assert "| unknown |" not in (ROOT / "docs" / "dependencies.md").read_text("utf-8")


def test_every_setting_that_is_named_exists() -> None:
    known = {f"REALITY_CHECK_{name.upper()}" for name in Settings.model_fields}
    for path in FILES:
        named = set(re.findall(r"REALITY_CHECK_[A-Z0-9_]+", path.read_text("utf-8")))
        assert named <= known, f"{path.name}: {named - known}"


def test_streamlits_options_exist() -> None:
    from streamlit import config

    options = {
        "STREAMLIT_" + re.sub(r"([a-z])([A-Z])", r"\1_\2", key).replace(".", "_").upper()
        for key in config._config_options_template
    }
    for path in FILES:
        named = set(re.findall(r"STREAMLIT_[A-Z_]+", path.read_text("utf-8")))
        assert named <= options, f"{path.name}: {named - options}"


def test_the_python_of_the_image_is_that_of_the_lock() -> None:
    image = re.search(r"^ARG PYTHON=(.+)$", (DEPLOY / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    assert image is not None
    assert f"Python {image[1]}." in (DEPLOY / "requirements.lock").read_text("utf-8").splitlines()[0]


def test_the_image_holds_what_it_needs_and_no_secrets() -> None:
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert kept[0] == "**"
    for folder in ("model", "dashboard", "pages", "sample_images", ".streamlit/config.toml"):
        assert f"!{folder}" in kept
        assert (ROOT / folder).exists()
    assert not [line for line in kept if "secrets" in line or ".env" in line]


def test_the_image_runs_as_nobody_and_says_whether_it_is_well() -> None:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    assert re.findall(r"^USER (\d+):", text, flags=re.MULTILINE)[-1] != "0"
    check = re.search(r'CMD \["python", "-c", (".*")\]\nENTRYPOINT', text)
    assert check is not None
    ast.parse(json.loads(check[1]))
    assert "/api/ready" in check[1]


def test_services_have_no_rights_they_do_not_need() -> None:
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    for line in ("read_only: true", "cap_drop: [ALL]", '"no-new-privileges:true"'):
        assert text.count(line) == 2
    assert "internal: true" in text
    assert not re.search(r"^ +- \"?8501", text, flags=re.MULTILINE)  # not published


def test_no_default_of_a_variable_holds_braces() -> None:
    text = (DEPLOY / "compose.yaml").read_text("utf-8")  # some readers end the variable at the first closing one
    assert not re.findall(r"\$\{[^}]*\{", text)
    given = re.findall(r"^([A-Z_]+)=", (DEPLOY / "site.env.example").read_text("utf-8"), flags=re.MULTILINE)
    assert set(re.findall(r"\$\{([A-Z_]+):\?", text)) <= set(given)


def test_limits_are_those_of_the_application() -> None:
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    for name in ("total_upload_mb", "decode_mb"):
        assert f"${{{name.upper()}:-{Settings.model_fields[name].default}}}" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_the_unit_is_understood(tmp_path: Path) -> None:
    text = (DEPLOY / "reality-check.service").read_text("utf-8")
    place = tmp_path / "reality-check.service"
    place.write_text(text.replace("/opt/reality-check/.venv/bin/python", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(place)], capture_output=True, text=True, check=False)
    if "Failed to" in done.stderr:
        pytest.skip(f"systemd-analyze does not work here: {done.stderr.splitlines()[0]}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("caddy") is None, reason="no caddy")
def test_the_proxy_understands_its_file(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "Caddyfile", tmp_path)
    (tmp_path / "people.caddy").write_text("ada $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n")
    command = ["caddy", "validate", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
