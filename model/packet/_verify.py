"""Check a packet: hash everything anew, do its sums again, judge its original again.

Whoever made the packet is not trusted with anything: names and sizes are limited, nothing is written to disk, no path
or address is taken from it, and a checkpoint is found by its hash among those at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.checkpoint import CheckpointInfo, list_checkpoints
from model.packet import _archive, _log
from model.packet._again import again
from model.packet._archive import PacketError
from model.packet._build import FORMAT, KIND, MANIFEST, Paint, digest, to_json
from model.packet._checks import MALFORMED, Check, Outcome, check, load, reason
from model.packet._sections import SECTIONS, Recompute
from model.packet._sums import sums

_NEEDED = ("result.json", "settings.json", "environment.json")


@dataclass(frozen=True)
class Verification:
    """What agrees and what differs.

    Attributes
    ----------
    digest : str
        SHA-256 of the whole packet.
    checks : tuple of Check
        In the order of the work: container, files, log, sums, what was judged again.
    """

    digest: str
    checks: tuple[Check, ...]

    @property
    def agrees(self) -> bool:
        """Whether everything could be checked and nothing differs."""
        return not self.failed

    @property
    def failed(self) -> tuple[Check, ...]:
        """What differs or could not be checked."""
        return tuple(entry for entry in self.checks if entry.outcome in (Outcome.DIFFERS, Outcome.UNCHECKED))


def read(path: Path) -> bytes:
    """Bytes of a packet's file.

    Raises
    ------
    PacketError
        If it cannot be read or is larger than any packet.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_archive.MAX_BYTES + 1)
    except OSError as error:
        raise PacketError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if len(data) > _archive.MAX_BYTES:
        raise PacketError(f"{path}: is larger than {_archive.MAX_BYTES // 2**20} MiB, which no packet is.")
    return data


def verify(
    data: bytes,
    *,
    name: str = "packet",
    expected: str | None = None,
    checkpoints: Iterable[CheckpointInfo] | None = None,
    judge: bool = True,
    paint: Paint | None = None,
    recompute: Mapping[str, Recompute] | None = None,
) -> Verification:
    """Say of each part of a packet whether it agrees.

    Parameters
    ----------
    data : bytes
        The packet.
    name : str
        Of the packet, for messages.
    expected : str, optional
        The digest noted when the packet was made, for example on the printed report.
    checkpoints : iterable of CheckpointInfo, optional
        Those at hand; the bundled ones if not given. The packet's own is found by its SHA-256.
    judge : bool
        Judge the original again. Without it only hashes and sums are checked, and a note says so.
    paint : callable, optional
        As for `build`; without it `overlay.png` is checked by its hash alone.
    recompute : dict of callable, optional
        Makes the account of a section again, by its name; `model.packet.SECTIONS` if not given. A section without one
        is checked by its hash alone.

    Raises
    ------
    PacketError
        If the file is not a packet, or is not safe to read as one.
    """
    files = _archive.unpack(data, name)
    manifest = _manifest(files, name)
    found = digest(data)
    checks: list[Check] = []
    if expected is not None:
        fault = None if found == expected.strip().lower() else f"this packet's is {found}: another packet"
        checks.append(check("digest", fault, "the packet has the digest that was given"))
    fault = _archive.difference(data, files)
    checks.append(check("container", fault, f"all of {len(data):,} bytes are as packets are written"))
    checks += _hashes(files, manifest)
    body = {entry: held for entry, held in files.items() if entry not in (MANIFEST, _log.NAME)}
    fault = _log.problem(files.get(_log.NAME, b""), body)
    checks.append(check("log", fault, f"an unbroken chain of {len(body) + 1} entries"))
    originals = [entry for entry in body if entry.startswith("original.")]
    missing = [entry for entry in _NEEDED if entry not in body]
    if missing or len(originals) != 1:
        what = f"there is no {missing[0]}" if missing else f"there are {len(originals)} originals"
        checks.append(Check("contents", Outcome.DIFFERS, f"{what}: the picture cannot be judged again"))
        return Verification(found, tuple(checks))
    original = originals[0]
    checks += sums(body, original)
    if judge:
        at_hand = list_checkpoints() if checkpoints is None else checkpoints
        checks += again(body, original, at_hand, paint, SECTIONS if recompute is None else recompute)
    else:
        checks.append(Check("judged again", Outcome.NOTED, "left out, as asked: hashes and sums only"))
    return Verification(found, tuple(checks))


def _manifest(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    if MANIFEST not in files:
        raise PacketError(f"{name}: has no {MANIFEST}; it is not an evidence packet.")
    try:
        manifest = load(files, MANIFEST)
        kind, version = manifest["kind"], manifest["format"]
        named = {entry: (held["bytes"], held["sha256"]) for entry, held in manifest["files"].items()}
    except MALFORMED as error:
        raise PacketError(f"{name}: its {MANIFEST} is damaged ({reason(error)}).") from error
    if kind != KIND or not named:
        raise PacketError(f"{name}: its {MANIFEST} is not that of an evidence packet.")
    if version != FORMAT:
        raise PacketError(f"{name}: has format {version!r}; this version reads format {FORMAT}.")
    return manifest


def _hashes(files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> Iterator[Check]:
    listed = manifest["files"]
    for entry in sorted({*listed, *files} - {MANIFEST}):
        if entry not in files:
            fault: str | None = "is in the manifest but not in the packet"
        elif entry not in listed:
            fault = "is in the packet but not in the manifest"
        elif _log.sha256(files[entry]) != listed[entry]["sha256"]:
            fault = "does not have the SHA-256 that the manifest states"
        else:
            fault = None if len(files[entry]) == listed[entry]["bytes"] else "is not as long as the manifest states"
        yield check(f"file {ascii(entry)[1:-1]}", fault, "has the SHA-256 that the manifest states")
    known = {"format": FORMAT, "kind": KIND, "files": {entry: _listed(held) for entry, held in listed.items()}}
    fault = None if files[MANIFEST] == to_json(known) else "is not written as packets write it"
    yield check(f"file {MANIFEST}", fault, f"lists {len(listed)} files")


def _listed(held: Mapping[str, Any]) -> dict[str, Any]:
    return {"bytes": held["bytes"], "sha256": held["sha256"]}
