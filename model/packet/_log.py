"""The log of a packet: what came in and what was made of it, one entry per file, each bound to the one before.

An entry's hash covers the entry and, through `previous`, all entries before it: none can be changed, moved or taken out
without changing every later hash. There are no times in it: a clock that the maker sets proves nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

NAME = "log.jsonl"
_FIRST = "0" * 64
_STAGES = (  # prefix of the name, suffix of the name, what happened; faces come between settings and result
    ("original.", "", "received"),
    ("settings.json", "", "configured"),
    ("environment.json", "", "configured"),
    ("faces/", "/crop.png", "cut out"),
    ("faces/", "/evidence.json", "measured"),
    ("faces/", "/ledger.json", "summed"),
    ("faces/", "/overlay.png", "painted"),
    ("result.json", "", "judged"),
    ("sections/", "", "added"),
)


def write(files: Mapping[str, bytes]) -> bytes:
    """The log of these files, one line of JSON per entry."""
    return b"".join(json.dumps(entry, sort_keys=True).encode() + b"\n" for entry in entries(files))


def entries(files: Mapping[str, bytes]) -> Iterator[dict[str, Any]]:
    """Entries in the order of the work: one per file, and a last one, `sealed`, with their number.

    Raises
    ------
    ValueError
        If a file belongs to none of the stages.
    """
    previous = _FIRST
    order = sorted(files, key=_place)
    for number, name in enumerate(order, start=1):
        data = files[name]
        what = {"event": _STAGES[_stage(name)][2], "file": name, "bytes": len(data), "sha256": sha256(data)}
        entry = _bound({"n": number, "previous": previous} | what)
        yield entry
        previous = entry["hash"]
    yield _bound({"n": len(order) + 1, "previous": previous, "event": "sealed", "files": len(order)})


def problem(log: bytes, files: Mapping[str, bytes]) -> str | None:
    """What is wrong with a log of these files, first fault first; None where nothing is."""
    previous = _FIRST
    lines = log.splitlines()
    for number, (line, expected) in enumerate(zip(lines, entries(files), strict=False), start=1):
        try:
            entry = json.loads(line)
            stated = entry.pop("hash")
        except (ValueError, RecursionError, KeyError, AttributeError, TypeError):
            return f"entry {number} is not an entry of a log"
        if _bound(entry)["hash"] != stated:
            return f"entry {number} does not have the hash that it states"
        if entry.get("previous") != previous:
            return f"the chain breaks before entry {number}: it does not name the hash of the entry before it"
        if entry | {"hash": stated} != expected:
            keys = sorted(key for key in {*entry, *expected} - {"hash"} if entry.get(key) != expected.get(key))
            return f"entry {number} does not tell of the files in the packet ({', '.join(keys)})"
        previous = stated
    if len(lines) != len(files) + 1:
        return f"it has {len(lines):,} entries where {len(files) + 1:,} belong"
    return None if log == write(files) else "it is not written as packets write it"


def sha256(data: bytes) -> str:
    """Hash as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _bound(entry: dict[str, Any]) -> dict[str, Any]:
    return entry | {"hash": sha256(json.dumps(entry, sort_keys=True).encode())}


def _stage(name: str) -> int:
    for index, (prefix, suffix, _) in enumerate(_STAGES):
        if name.startswith(prefix) and name.endswith(suffix):
            return index
    raise ValueError(f"{name!r} is in no stage of the work")


def _place(name: str) -> tuple[int, int, int, str]:
    """Sorts files by stage; those of one face stay together."""
    stage = _stage(name)
    if not name.startswith("faces/"):
        return (0 if stage < 3 else 2, 0, stage, name)
    return (1, int(name.split("/")[1]), stage, name)
