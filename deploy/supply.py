"""What the application is made of: `python deploy/supply.py lock`, and `python deploy/supply.py sbom`.

`lock` asks pip which files it would install for requirements.txt within constraints.txt on this platform, and writes
their names, versions and SHA-256 to requirements.lock. `sbom` writes, for the locked packages as they are installed
here and the bundled checkpoints, a bill of materials (CycloneDX 1.6, sbom.cdx.json) and the table of licences in
docs/dependencies.md. Both files are the same when nothing has changed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LOCK, SBOM, TABLE = HERE / "requirements.lock", HERE / "sbom.cdx.json", ROOT / "docs" / "dependencies.md"
SELF = "reality-check"
_PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^\s\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
# What packages that predate `License-Expression` say of themselves, as SPDX identifiers.
_SPDX = {
    "Apache Software License": "Apache-2.0", "Apache License 2.0": "Apache-2.0", "Apache 2.0": "Apache-2.0",
    "Apache Software License 2.0": "Apache-2.0", "BSD License": "BSD-3-Clause", "BSD": "BSD-3-Clause",
    "BSD 3-Clause License": "BSD-3-Clause", "3-Clause BSD License": "BSD-3-Clause", "MIT License": "MIT",
    "ISC License": "ISC", "ISC License (ISCL)": "ISC", "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}  # fmt: skip


@dataclass(frozen=True)
class Package:
    """A locked package."""

    name: str
    version: str
    sha256: str


def lock() -> None:
    """Write requirements.lock."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--report", str(report), "-r", str(ROOT / "requirements.txt"), "-c", str(ROOT / "constraints.txt")]
        subprocess.run(command, check=True, cwd=ROOT)
        found = json.loads(report.read_text("utf-8"))
    where = found["environment"]
    lines = []
    for entry in found["install"]:
        name, version = _normal(entry["metadata"]["name"]), entry["metadata"]["version"]
        if name != SELF:
            digest = entry["download_info"]["archive_info"]["hashes"]["sha256"]
            lines.append(f"{name}=={version} \\\n    --hash=sha256:{digest}\n")
    head = (
        "# Written by `make lock`: the files that were tested, by their SHA-256, for "
        f"{where['sys_platform']} {where['platform_machine']} and Python {where['python_version']}.\n"
        "# pip install --require-hashes --no-deps --no-build-isolation -r deploy/requirements.lock\n"
    )
    LOCK.write_text(head + "".join(sorted(lines)), "utf-8")


def packages() -> list[Package]:
    """The locked packages."""
    found = []
    for block in LOCK.read_text("utf-8").replace("\\\n", " ").splitlines():
        pin, digest = _PIN.match(block), _HASH.search(block)
        if pin and digest:
            found.append(Package(pin["name"], pin["version"], digest[1]))
    return found


def licence(name: str) -> str:
    """Licence of an installed package, as an SPDX expression where it can be told; `unknown` if it says nothing.

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        If it is not installed.
    """
    about = metadata.metadata(name)
    if "License-Expression" in about:
        return str(about["License-Expression"])
    classified = [
        entry.rpartition(" :: ")[2]
        for entry in about.get_all("Classifier") or ()
        if entry.startswith("License :: ") and not entry.endswith("OSI Approved")
    ]
    if classified:
        return " OR ".join(dict.fromkeys(_SPDX.get(entry, entry) for entry in classified))
    stated = (about.get_all("License") or [""])[0].strip().splitlines()
    first = stated[0].strip() if stated else ""
    return _SPDX.get(first, first[:60]) if first and first != "UNKNOWN" else "unknown"


def sbom() -> dict[str, Any]:
    """The bill of materials."""
    components: list[dict[str, Any]] = []
    for package in packages():
        stated = licence(package.name)
        url = f"pkg:pypi/{package.name}@{package.version.replace('+', '%2B')}"
        components.append(
            {
                "type": "library",
                "bom-ref": url,
                "name": package.name,
                "version": package.version,
                "purl": url,
                "hashes": [{"alg": "SHA-256", "content": package.sha256}],
                "licenses": [_licence_entry(stated)] if stated != "unknown" else [],
            }
        )
    for line in (ROOT / "model" / "weights" / "SHA256SUMS").read_text("utf-8").splitlines():
        digest, name = line.split(maxsplit=1)
        components.append(
            {
                "type": "machine-learning-model",
                "bom-ref": f"checkpoint:{name}",
                "name": name,
                "version": digest[:12],
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
        )
    own = re.search(r'__version__ = "([^"]+)"', (ROOT / "model" / "__init__.py").read_text("utf-8"))
    version = own[1] if own else "0"
    content = json.dumps(components, sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": SELF,
                "name": SELF,
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": components,
        "dependencies": [{"ref": SELF, "dependsOn": [entry["bom-ref"] for entry in components]}],
    }


def table() -> str:
    """The licences as a page."""
    rows = [f"| {package.name} | {package.version} | {licence(package.name)} |" for package in packages()]
    return (
        "<!-- Generated by `make sbom`. -->\n\n# Dependencies\n\n"
        "Everything that is installed with the application, as `deploy/requirements.lock` pins it, and under which "
        "licence, by what each package says of itself. Licences of weights are in `NOTICE` and in the cards beside "
        "them. The same list for machines is `deploy/sbom.cdx.json` (CycloneDX).\n\n"
        "| Package | Version | Licence |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["lock", "sbom"])
    if parser.parse_args().what == "lock":
        lock()
        return
    SBOM.write_text(json.dumps(sbom(), indent=1, ensure_ascii=False) + "\n", "utf-8")
    TABLE.write_text(table(), "utf-8")


def _licence_entry(stated: str) -> dict[str, Any]:
    if re.fullmatch(r"[A-Za-z0-9.+-]+", stated):
        return {"license": {"id": stated}}
    if re.fullmatch(r"[A-Za-z0-9.+() -]+", stated) and re.search(r" (AND|OR|WITH) ", stated):
        return {"expression": stated}
    return {"license": {"name": stated}}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
