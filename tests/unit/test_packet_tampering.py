"""Whatever is changed in a packet is found, and named: by the careless, and by those who compute the hashes anew."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from model import packet
from model.checkpoint import read_info
from model.detector import Detector
from model.packet import _archive, _build, _log
from tests.support import encode
from tests.unit.test_packet import members, paint


@pytest.fixture
def detector(tiny_checkpoint, one_face):
    return Detector.load(tiny_checkpoint)


@pytest.fixture
def made(detector, picture):
    return packet.build(detector, picture(1), name="a.png", paint=paint, sections={"note": {"logit": 1.0}})


@pytest.fixture
def verify(tiny_checkpoint, one_face):
    def run(data, **options):
        return packet.verify(data, checkpoints=[read_info(tiny_checkpoint)], paint=paint, **options)

    return run


def edit(files, name, change):
    """Apply a change to one JSON file, and write it as packets do."""
    content = json.loads(files[name])
    change(content)
    return files | {name: _build.to_json(content)}


def forged(made, change):
    """A packet with changed contents whose log and manifest were computed anew."""
    body = {name: data for name, data in members(made).items() if name not in ("log.jsonl", "manifest.json")}
    return _build.seal(change(body))


def retouch(png):
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.paste((255, 0, 0), (10, 10, 14, 14))
    return encode(picture)


def move(key, amount, *path):
    def change(content):
        for step in path:
            content = content[step]
        content[key] = content[key] + amount

    return change


def put(key, value, *path):
    def change(content):
        for step in path:
            content = content[step]
        content[key] = value

    return change


def shift_cells(content):
    """Evidence moved from one place to another; the sum stays."""
    content["cells"][0][0] += 0.5
    content["cells"][1][1] -= 0.5


def shift_regions(content):
    content["regions"]["mouth"] += 0.5
    content["regions"]["hair"] -= 0.5


def flipped(files):
    """The other verdict, everywhere where it is written."""

    def change(result):
        other = {"fake": "real", "real": "fake", "inconclusive": "fake"}[result["verdict"]]
        result["verdict"] = result["face_results"][0]["verdict"] = other

    return edit(files, "result.json", change)


def lenient(files):
    """Thresholds at which the verdict is another one, with the verdict that follows from them."""
    p_fake = json.loads(files["result.json"])["p_fake"]
    files = edit(files, "settings.json", lambda held: held["thresholds"].update(real=p_fake / 2, fake=p_fake))

    def change(result):
        result |= {"threshold_real": p_fake / 2, "threshold_fake": p_fake, "verdict": "fake"}
        result["face_results"][0]["verdict"] = "fake"

    return edit(files, "result.json", change)


def without(*names):
    return lambda files: {name: data for name, data in files.items() if name not in names}


def replaced(name, content):
    return lambda files: files | {name: content}


def edited(name, change):
    return lambda files: edit(files, name, change)


OTHER = encode(Image.effect_noise((160, 160), 80).convert("RGB"))
FORGERIES = {  # change -> item that must name it
    "another original": (replaced("original.png", OTHER), "result"),
    "another original, result adapted": (
        lambda files: edit(
            files | {"original.png": OTHER},
            "result.json",
            lambda held: held.update(sha256=_log.sha256(OTHER), bytes=len(OTHER)),
        ),
        "result.json again",
    ),
    "original is no picture": (
        lambda files: edit(
            files | {"original.png": b"x"},
            "result.json",
            lambda held: held.update(sha256=_log.sha256(b"x"), bytes=1),
        ),
        "contents",
    ),
    "original under another name": (
        lambda files: without("original.png")(files) | {"original.jpg": files["original.png"]},
        "contents",
    ),
    "two originals": (replaced("original.jpg", b"x"), "contents"),
    "no original": (without("original.png"), "contents"),
    "crop retouched": (lambda files: files | {"faces/1/crop.png": retouch(files["faces/1/crop.png"])}, "crop.png"),
    "crop of another size": (replaced("faces/1/crop.png", OTHER), "faces/1/crop.png again"),
    "crop is no picture": (replaced("faces/1/crop.png", b"x"), "faces/1/crop.png again"),
    "overlay repainted": (
        lambda files: files | {"faces/1/overlay.png": retouch(files["faces/1/overlay.png"])},
        "faces/1/overlay.png again",
    ),
    "evidence increased": (edited("faces/1/evidence.json", move(0, 0.5, "cells", 0)), "sum of face 1"),
    "evidence moved": (edited("faces/1/evidence.json", shift_cells), "faces/1/evidence.json again"),
    "evidence not finite": (
        lambda files: files | {"faces/1/evidence.json": files["faces/1/evidence.json"].replace(b"0.25", b"NaN")},
        "sum of face 1",
    ),
    "evidence not a table": (edited("faces/1/evidence.json", put("cells", "x")), "sum of face 1"),
    "evidence nested too deeply": (
        replaced("faces/1/evidence.json", b"[" * 100_000 + b"]" * 100_000),
        "sum of face 1",
    ),
    "ledger increased": (edited("faces/1/ledger.json", move("nose", 0.5, "regions")), "sum of face 1"),
    "ledger moved": (edited("faces/1/ledger.json", shift_regions), "faces/1/ledger.json again"),
    "ledger in the result changed": (
        edited("result.json", move("ledger_nose", 0.5, "face_results", 0)),
        "result.json again",
    ),
    "verdict changed": (flipped, "result"),
    "probability changed": (edited("result.json", put("p_fake", 0.5, "face_results", 0)), "result"),
    "probability of the picture changed": (edited("result.json", move("p_fake", -0.3)), "result"),
    "logit changed": (edited("result.json", move("logit", 1.0, "face_results", 0)), "result"),
    "thresholds moved": (lenient, "thresholds"),
    "false-alarm rate invented": (
        edited("settings.json", lambda held: held["thresholds"].update(custom=True, fpr=0.001)),
        "thresholds",
    ),
    "thresholds impossible": (edited("settings.json", put("real", 2, "thresholds")), "result"),
    "calibration changed": (edited("settings.json", put("temperature", 9.0, "calibration")), "result"),
    "calibration changed a little": (edited("settings.json", move("bias", 1e-7, "calibration")), "settings.json again"),
    "framing changed": (edited("settings.json", put("side", 128, "framing")), "settings.json again"),
    "landmarks moved": (edited("result.json", move(0, 3.0, "face_results", 0, "landmarks", 0)), "result.json again"),
    "box moved": (edited("result.json", move(0, 3.0, "face_results", 0, "crop_box")), "faces/1/crop.png again"),
    "face left out": (edited("result.json", put("face_results", [])), "result"),
    "evidence left out": (without("faces/1/evidence.json"), "sum of face 1"),
    "overlay of a face that is not there": (replaced("faces/2/overlay.png", OTHER), "contents"),
    "another checkpoint named": (
        lambda files: edit(
            edit(files, "result.json", put("checkpoint_sha256", "0" * 64)),
            "environment.json",
            put("checkpoint_sha256", "0" * 64),
        ),
        "judged again",
    ),
    "checkpoint not the one of the result": (edited("environment.json", put("checkpoint", "x")), "result"),
    "precision unknown": (edited("settings.json", put("precision", "fp8")), "judged again"),
    "precision not that of the result": (edited("settings.json", put("precision", "bf16")), "result"),
    "result is no JSON": (replaced("result.json", b"{"), "result"),
    "result is a list": (replaced("result.json", b"[]\n"), "result"),
    "result left out": (without("result.json"), "contents"),
    "the same account written otherwise": (
        lambda files: files | {"result.json": files["result.json"].replace(b'"error": null', b'"error":  null')},
        "result.json again",
    ),
    "an account twice in one file": (
        lambda files: files | {"result.json": files["result.json"].replace(b"{\n", b'{\n "verdict": "real",\n', 1)},
        "result.json again",
    ),
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forgery_with_new_hashes_is_found_and_named(made, verify, kind):
    change, item = FORGERIES[kind]
    data = forged(made, change)
    assert data != made
    found = verify(data)
    assert not found.agrees
    assert any(item in entry.item for entry in found.failed), found.failed
    held = {entry.item: entry.outcome for entry in found.checks}
    assert held["container"] is held["log"] is packet.Outcome.AGREES  # only the sums and the judging can tell
    assert not verify(data, expected=packet.digest(made)).agrees


def test_only_the_noted_digest_finds_a_packet_that_is_right_about_another_picture(made, detector, verify, picture):
    other = packet.build(detector, picture(1) + b"\0", name="a.png", paint=paint)  # a byte that no decoder reads
    assert verify(other).agrees
    found = verify(other, expected=packet.digest(made))
    assert [entry.item for entry in found.failed] == ["digest"]


def lines(files):
    return files["log.jsonl"].splitlines(keepends=True)


def relog(files, log):
    """Another log, with a manifest that fits it."""
    body = files | {"log.jsonl": b"".join(log)}
    del body["manifest.json"]
    listed = {name: {"bytes": len(data), "sha256": _log.sha256(data)} for name, data in body.items()}
    return body | {"manifest.json": _build.to_json({"format": 1, "kind": _build.KIND, "files": listed})}


def rehashed(line, **changes):
    entry = json.loads(line) | changes
    del entry["hash"]
    entry["hash"] = _log.sha256(json.dumps(entry, sort_keys=True).encode())
    return json.dumps(entry, sort_keys=True).encode() + b"\n"


def swapped(log):
    return [*log[:2], log[3], log[2], *log[4:]]


CARELESS = {
    "original changed": (lambda files: files | {"original.png": OTHER}, "file original.png"),
    "file added": (lambda files: files | {"sections/more.json": b"1"}, "file sections/more.json"),
    "file taken out": (without("faces/1/overlay.png"), "file faces/1/overlay.png"),
    "section changed": (lambda files: edit(files, "sections/note.json", put("logit", 2.0)), "file sections/note.json"),
    "manifest: another hash": (
        lambda files: edit(files, "manifest.json", put("sha256", "0" * 64, "files", "result.json")),
        "file result.json",
    ),
    "manifest: another size": (
        lambda files: edit(files, "manifest.json", put("bytes", 1, "files", "result.json")),
        "file result.json",
    ),
    "manifest: more than belongs there": (
        lambda files: edit(files, "manifest.json", put("note", "genuine")),
        "file manifest.json",
    ),
    "log: an entry taken out": (lambda files: relog(files, [*lines(files)[:2], *lines(files)[3:]]), "log"),
    "log: entries exchanged": (lambda files: relog(files, swapped(lines(files))), "log"),
    "log: the end cut off": (lambda files: relog(files, lines(files)[:-1]), "log"),
    "log: an entry changed": (
        lambda files: relog(files, [lines(files)[0].replace(b"received", b"invented"), *lines(files)[1:]]),
        "log",
    ),
    "log: an entry changed and hashed": (
        lambda files: relog(files, [rehashed(lines(files)[0], event="invented"), *lines(files)[1:]]),
        "log",
    ),
    "log: an entry added": (lambda files: relog(files, [*lines(files), lines(files)[-1]]), "log"),
    "log: not a log": (lambda files: relog(files, [b"[]\n"]), "log"),
    "log: a blank at the end": (lambda files: relog(files, [*lines(files)[:-1], lines(files)[-1][:-1]]), "log"),
    "log left out": (without("log.jsonl"), "log"),
}


@pytest.mark.parametrize("kind", CARELESS)
def test_a_change_without_new_hashes_is_found_and_named(made, verify, kind):
    change, item = CARELESS[kind]
    found = verify(_archive.pack(change(members(made))), judge=False)
    assert item in [entry.item for entry in found.failed], found.failed


def rezip(made, adapt=lambda info: None, *, extra=(), compression=zipfile.ZIP_STORED, comment=b""):
    """The packet written anew by a common tool."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore", UserWarning)  # of a name that is there twice
        for name, data in members(made).items():
            info = zipfile.ZipInfo(name)
            info.create_version = 20
            info.external_attr = 0o100644 << 16
            info.compress_type = compression
            adapt(info)
            archive.writestr(info, data)
        for info, data in extra:
            archive.writestr(info, data)
        archive.comment = comment
    return buffer.getvalue()


def with_field(info):
    info.extra = struct.pack("<HH4s", 0xCAFE, 4, b"note")


def dated(info):
    info.date_time = (2024, 5, 6, 7, 8, 10)


CONTAINERS = {  # the contents are untouched
    "bytes at the end": (lambda made: made + b"x", "follow its end record"),
    "bytes at the start": (lambda made: b"#!/bin/sh\n" + made, "stand before its first file"),
    "a comment": (lambda made: rezip(made, comment=b"genuine"), "carries a comment"),
    "times": (lambda made: rezip(made, dated), "the header of environment.json"),
    "extra fields": (lambda made: rezip(made, with_field), "the header of environment.json"),
    "executable": (
        lambda made: rezip(made, lambda info: setattr(info, "external_attr", 0o100755 << 16)),
        "the directory entry of environment.json",
    ),
    "a comment on a file": (
        lambda made: rezip(made, lambda info: setattr(info, "comment", b"x")),
        "the directory entry of environment.json",
    ),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_container_that_was_written_otherwise_is_found_and_named(made, verify, kind):
    change, words = CONTAINERS[kind]
    found = verify(change(made), judge=False)
    assert [entry.item for entry in found.failed] == ["container"]
    assert words in found.failed[0].detail


def test_the_test_s_own_writer_is_right(made, verify):
    data = rezip(made, lambda info: setattr(info, "create_system", 3))
    assert data == made


def member(name, mode=0o100644):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def bits(made, flag):
    """Set a flag in every local header and directory entry."""
    data = bytearray(made)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= flag
            at = data.find(signature, at + 4)
    return bytes(data)


def claiming(made, size):
    """The first directory entry states another size."""
    data = bytearray(made)
    at = data.find(b"PK\x01\x02")
    data[at + 20 : at + 28] = struct.pack("<2I", size, size)
    return bytes(data)


REFUSED = {
    "empty": (lambda made: b"", "not a readable ZIP"),
    "not a ZIP": (lambda made: b"GIF89a" * 50, "not a readable ZIP"),
    "cut off": (lambda made: made[:-30], "not a readable ZIP"),
    "a ZIP of something else": (
        lambda made: _archive.pack({"original.png": b"x"}),
        "has no manifest.json; it is not an evidence packet",
    ),
    "manifest is no JSON": (
        lambda made: _archive.pack(members(made) | {"manifest.json": b"{"}),
        "its manifest.json is damaged",
    ),
    "manifest is a number": (
        lambda made: _archive.pack(members(made) | {"manifest.json": b"1"}),
        "its manifest.json is damaged",
    ),
    "manifest of another kind": (
        lambda made: _archive.pack(edit(members(made), "manifest.json", put("kind", "x"))),
        "not that of an evidence packet",
    ),
    "a later format": (
        lambda made: _archive.pack(edit(members(made), "manifest.json", put("format", 2))),
        "this version reads format 1",
    ),
    "compressed": (lambda made: rezip(made, compression=zipfile.ZIP_DEFLATED), "is compressed"),
    "a name twice": (lambda made: rezip(made, extra=[(member("result.json"), b"{}")]), "is in it twice"),
    "a symbolic link": (
        lambda made: rezip(made, extra=[(member("sections/a.json", 0o120777), b"/etc/passwd")]),
        "is a symbolic link",
    ),
    "a device": (lambda made: rezip(made, extra=[(member("sections/a.json", 0o020644), b"")]), "not a regular file"),
    "a folder": (lambda made: rezip(made, extra=[(member("sections/"), b"")]), "is a folder"),
    "a path out of it": (lambda made: rezip(made, extra=[(member("../a.json"), b"")]), "name that packets do not use"),
    "an absolute path": (lambda made: rezip(made, extra=[(member("/etc/a"), b"")]), "name that packets do not use"),
    "a backslash": (lambda made: rezip(made, extra=[(member("faces\\a"), b"")]), "name that packets do not use"),
    "another archive": (lambda made: rezip(made, extra=[(member("more.zip"), made)]), "name that packets do not use"),
    "a name in other letters": (lambda made: rezip(made, extra=[(member("r\u00e9.json"), b"")]), "name that packets"),
    "encrypted": (lambda made: bits(made, 1), "is encrypted"),
    "more than there is": (lambda made: claiming(made, 2**20), "states more contents"),
    "too many files": (
        lambda made: rezip(made, extra=[(member(f"sections/s{n}.json"), b"") for n in range(5000)]),
        "at most 4,096 are accepted",
    ),
    "too large an account": (
        lambda made: rezip(made, extra=[(member("sections/a.json"), bytes(9 * 2**20))]),
        "is too large",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_a_packet_or_not_safe_is_refused_with_the_reason(made, kind):
    change, words = REFUSED[kind]
    with pytest.raises(packet.PacketError) as caught:
        packet.verify(change(made), name="p.zip", judge=False)
    assert words in str(caught.value)
    assert str(caught.value).startswith("p.zip")


def rejected(data):
    try:
        return not packet.verify(data, judge=False).agrees
    except packet.PacketError:
        return True


def test_any_changed_byte_is_found(made):
    """Every byte of headers, directory and end record, and every 13th of the contents."""
    places = set(range(0, len(made), 13))
    start = 0
    for what, part in _archive._parts(members(made)):
        if not what.startswith("the contents"):
            places |= set(range(start, start + len(part)))
        start += len(part)
    assert start == len(made)
    rng = np.random.default_rng(0)
    data = bytearray(made)
    for place in sorted(places):
        data[place] ^= int(rng.integers(1, 256))
        assert rejected(bytes(data)), place
        data[place] = made[place]
    assert not rejected(made)


def test_any_missing_or_added_byte_is_found(made):
    for place in range(0, len(made), 101):
        assert rejected(made[:place] + made[place + 1 :]), place
        assert rejected(made[:place] + b"\0" + made[place:]), place


def test_a_file_larger_than_any_packet_is_not_read(tmp_path, made):
    large = tmp_path / "large.zip"
    with large.open("wb") as file:
        file.truncate(packet.MAX_BYTES + 1)
    with pytest.raises(packet.PacketError, match="larger than 256 MiB"):
        packet.read(large)
