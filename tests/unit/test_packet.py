"""Evidence packets: what is in one, that it is the same every time, and that it verifies where it was not made."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from model import packet, runtimes
from model.calibration import Thresholds
from model.checkpoint import read_info
from model.detector import Detector
from model.packet import _log
from model.packet._build import environment, plain_name
from model.packet._compare import TOLERANCES, Comparison
from tests.support import BACKDROP, draw_face, encode

SECTIONS = {"redelivery": {"held": 7, "of": 8}}


def paint(crop, evidence):
    """An overlay of its own: red where the evidence is positive."""
    layer = Image.fromarray((np.clip(evidence, 0, 1) * 255).astype(np.uint8)).resize(crop.size)
    return Image.merge("RGB", (layer, *crop.split()[1:]))


@pytest.fixture
def detector(tiny_checkpoint, one_face):
    return Detector.load(tiny_checkpoint)


@pytest.fixture
def at_hand(tiny_checkpoint):
    return [read_info(tiny_checkpoint)]


def members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def account(data, name):
    return json.loads(members(data)[name])


def test_a_packet_holds_the_original_the_evidence_and_what_it_was_made_with(detector, picture):
    data = picture(1)
    made = packet.build(detector, data, name="/home/ada/portrait.png", paint=paint, sections=SECTIONS)
    held = members(made)
    assert sorted(held) == [
        "environment.json",
        "faces/1/crop.png",
        "faces/1/evidence.json",
        "faces/1/ledger.json",
        "faces/1/overlay.png",
        "log.jsonl",
        "manifest.json",
        "original.png",
        "result.json",
        "sections/redelivery.json",
        "settings.json",
    ]
    assert held["original.png"] == data
    result = detector.classify(data)
    assert account(made, "result.json")["path"] == "portrait.png"
    assert account(made, "result.json")["logit"] == result.logit
    assert "elapsed_ms" not in account(made, "result.json")
    cells = np.array(account(made, "faces/1/evidence.json")["cells"])
    assert np.array_equal(cells.astype(np.float32), result.deciding.evidence)
    assert sum(account(made, "faces/1/ledger.json")["regions"].values()) == pytest.approx(result.logit, abs=1e-4)
    assert account(made, "sections/redelivery.json") == SECTIONS["redelivery"]
    here = account(made, "environment.json")
    assert here["checkpoint_sha256"] == detector.checkpoint.sha256
    assert here["packages"]["torch"] and here["runtime"] == "torch-fp32"
    assert b"/home/ada" not in made
    listed = account(made, "manifest.json")["files"]
    assert {name: entry["sha256"] for name, entry in listed.items()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in held.items() if name != "manifest.json"
    }
    assert packet.digest(made) == hashlib.sha256(made).hexdigest()


def test_the_same_input_gives_the_same_bytes(detector, picture):
    first = packet.build(detector, picture(1), name="a.png", paint=paint, sections=SECTIONS)
    again = packet.build(detector, picture(1), name="a.png", paint=paint, sections=SECTIONS)
    assert first == again
    assert first != packet.build(detector, picture(2), name="a.png", paint=paint, sections=SECTIONS)
    given = detector.classify(picture(1), name="a.png")
    assert first == packet.build(detector, picture(1), result=given, paint=paint, sections=SECTIONS)


def test_common_tools_read_a_packet_as_plain_files(detector, picture):
    made = packet.build(detector, picture(1))
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        for info in archive.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.external_attr >> 16 == 0o100644


@pytest.mark.parametrize("with_paint", [True, False])
def test_an_untouched_packet_agrees_in_every_item(detector, picture, at_hand, with_paint):
    made = packet.build(detector, picture(3), paint=paint if with_paint else None, sections=SECTIONS)
    found = packet.verify(made, checkpoints=at_hand, paint=paint, expected=packet.digest(made).upper())
    assert found.agrees, found.failed
    items = {entry.item: entry for entry in found.checks}
    assert items["sections/redelivery.json again"].outcome is packet.Outcome.NOTED
    assert items["faces/1/evidence.json again"].tolerance == "0.001 log-odds"
    expected = {"digest", "container", "log", "result", "sum of face 1", "thresholds", "result.json again"}
    assert expected <= set(items)
    assert ("faces/1/overlay.png again" in items) == with_paint


def test_a_section_is_computed_again_where_its_maker_is_known(detector, picture, at_hand):
    made = packet.build(detector, picture(3), sections={"flip": {"logit": 1.0, "held": True}})
    for logit, outcome in ((1.0004, packet.Outcome.AGREES), (1.5, packet.Outcome.DIFFERS)):
        found = packet.verify(
            made, checkpoints=at_hand, recompute={"flip": lambda *_, logit=logit: {"logit": logit, "held": True}}
        )
        assert {entry.item: entry.outcome for entry in found.checks}["sections/flip.json again"] is outcome
        assert found.agrees == (outcome is packet.Outcome.AGREES)


@pytest.mark.parametrize("kind", ["no face", "no image", "bf16", "by hand", "openvino", "onnxruntime"])
def test_every_kind_of_answer_can_be_packed_and_verified(
    tiny_checkpoint, one_face, picture, at_hand, kind, monkeypatch, tmp_path
):
    monkeypatch.setenv("REALITY_CHECK_CACHE_DIR", str(tmp_path / "cache"))
    if kind in runtimes.NAMES and kind not in runtimes.available():
        pytest.skip(f"the extra {kind} is not installed")
    detector = Detector.load(
        tiny_checkpoint,
        precision="bf16" if kind == "bf16" else "fp32",
        runtime=kind if kind in runtimes.NAMES else "torch",
    )
    data = picture(4)
    if kind == "no face":
        data = encode(Image.new("RGB", (64, 64), (128, 128, 128)))
    elif kind == "no image":
        data = b"not an image"
    elif kind == "by hand":
        detector = detector.with_thresholds(Thresholds(0.1, 0.2, None, True))
    made = packet.build(detector, data, name="x.jpg", paint=paint)
    if kind == "no image":
        assert members(made)["original.bin"] == data
        assert "x.jpg" in account(made, "result.json")["error"]
    found = packet.verify(made, checkpoints=at_hand, paint=paint)
    assert found.agrees, found.failed


def test_a_real_face_finder_finds_the_same_faces_again(tiny_checkpoint):
    faces = Image.new("RGB", (420, 220), BACKDROP)
    faces.paste(draw_face(200), (5, 10))
    faces.paste(draw_face(200, skin=(180, 130, 110)), (215, 10))
    data = encode(faces, "JPEG", quality=92)
    made = packet.build(Detector.load(tiny_checkpoint), data, name="two.jpg", paint=paint)
    assert {"original.jpg", "faces/1/crop.png", "faces/2/crop.png"} <= set(members(made))
    found = packet.verify(made, checkpoints=[read_info(tiny_checkpoint)], paint=paint)
    assert found.agrees, found.failed


def test_without_the_checkpoint_it_says_that_it_cannot_judge_again(detector, picture, at_hand):
    made = packet.build(detector, picture(5))
    found = packet.verify(made, checkpoints=[])
    assert [(entry.item, entry.outcome) for entry in found.failed] == [("judged again", packet.Outcome.UNCHECKED)]
    assert detector.checkpoint.sha256 in found.failed[0].detail
    assert packet.verify(made, checkpoints=[], judge=False).agrees


def test_another_environment_is_noted_and_counts_as_nothing(detector, picture, at_hand, monkeypatch):
    made = packet.build(detector, picture(5))
    there = environment(detector) | {"threads": 64, "python": "3.14.9"}
    monkeypatch.setattr("model.packet._build.environment", lambda _: there)
    found = packet.verify(made, checkpoints=at_hand)
    assert found.agrees
    noted = next(entry for entry in found.checks if entry.item == "environment")
    assert noted.outcome is packet.Outcome.NOTED
    assert "threads" in noted.detail and "python" in noted.detail


def test_a_result_of_something_else_is_refused(detector, picture, tiny_checkpoint):
    other = detector.classify(picture(2), name="b.png")
    with pytest.raises(ValueError, match="another picture"):
        packet.build(detector, picture(1), result=other)
    in_bf16 = Detector.load(tiny_checkpoint, precision="bf16").classify(picture(1))
    with pytest.raises(ValueError, match="another checkpoint or runtime"):
        packet.build(detector, picture(1), result=in_bf16)


@pytest.mark.parametrize("name", ["", "Up", "a/b", "../a", "a" * 41, "1a"])
def test_a_section_needs_a_plain_name(detector, picture, name):
    with pytest.raises(packet.PacketError, match="cannot be in a packet"):
        packet.build(detector, picture(1), sections={name: 1})


@pytest.mark.parametrize("content", [float("nan"), {"a": object()}])
def test_a_section_needs_json(detector, picture, content):
    with pytest.raises(ValueError, match="JSON"):
        packet.build(detector, picture(1), sections={"x": content})


def test_the_log_tells_the_order_of_the_work():
    names = ["result.json", "faces/10/crop.png", "faces/2/ledger.json", "faces/2/crop.png", "original.png"]
    lines = [json.loads(line) for line in _log.write(dict.fromkeys(names, b"x")).splitlines()]
    told = [entry.get("file") for entry in lines]
    assert told == [
        "original.png",
        "faces/2/crop.png",
        "faces/2/ledger.json",
        "faces/10/crop.png",
        "result.json",
        None,
    ]
    assert lines[-1]["event"] == "sealed"
    for before, after in zip(lines, lines[1:], strict=False):
        assert after["previous"] == before["hash"]


def test_numbers_are_held_against_the_tolerance_of_their_unit():
    comparison = Comparison(TOLERANCES["fp32"])
    stored = {"logit": 1.0, "crop_box": [1, 2], "ledger_nose": 0.5, "verdict": "fake", "count": 1}
    comparison.add(stored, {"logit": 1.0005, "crop_box": [1.05, 2], "ledger_nose": 0.5, "verdict": "fake", "count": 1})
    assert comparison.problems == []
    assert comparison.deviation == "0.0005 log-odds, 0.05 px"
    comparison.add(stored, {"logit": 1.002, "crop_box": [1], "ledger_nose": None, "verdict": "real", "n": 1})
    assert [text.split(" ")[0] for text in comparison.problems] == [
        "count",
        "crop_box",
        "ledger_nose",
        "logit",
        "n",
        "verdict",
    ]
    comparison = Comparison(TOLERANCES["fp32"])
    comparison.add({"count": 1, "flag": True}, {"count": 1.0001, "flag": 1})
    assert len(comparison.problems) == 2


def test_shares_and_correlations_of_a_section_are_not_held_as_log_odds():
    stored = {"evidence": {"face": 0.3, "background": 0.5}, "map": {"flip": 0.6, "flip_move": 0.1}}
    again = {"evidence": {"face": 0.5, "background": 0.3}, "map": {"flip": 0.84, "flip_move": 0.2}}
    comparison = Comparison(TOLERANCES["bf16"])
    comparison.add(stored, again, unit="log-odds")
    places = [text.split(" ")[0] for text in comparison.problems]
    assert places == ["evidence.background", "evidence.face", "map.flip"]


def test_names_lose_their_folders():
    assert plain_name("a/b\\c.png") == "c.png"
    assert plain_name("/") == "image"


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(packet.PacketError, match=r"gone\.zip: cannot be read"):
        packet.read(tmp_path / "gone.zip")


def test_a_runtime_that_is_not_that_of_the_environment_is_found(detector, picture, at_hand, monkeypatch):
    there = environment(detector)
    with monkeypatch.context() as patch:
        patch.setattr("model.packet._build.environment", lambda _: there)
        patch.setattr(detector, "runtime", "openvino-fp32")  # what its result says
        made = packet.build(detector, picture(5))
    found = {entry.item: entry for entry in packet.verify(made, checkpoints=at_hand).checks}
    assert found["result.json again"].outcome is packet.Outcome.DIFFERS
    assert "runtime" in found["result.json again"].detail


@pytest.mark.parametrize("runtime", ["banana-fp32", "openvino-bf16", "openvino"])
def test_a_runtime_that_cannot_have_judged_is_found_whatever_agrees_on_it(
    detector, picture, at_hand, monkeypatch, runtime
):
    with monkeypatch.context() as patch:
        patch.setattr(detector, "runtime", runtime)
        made = packet.build(detector, picture(3))
    found = {entry.item: entry.outcome for entry in packet.verify(made, checkpoints=at_hand).checks}
    assert found["result.json again"] is packet.Outcome.DIFFERS


def test_no_packet_is_made_of_what_could_not_be_computed_again(detector, picture, monkeypatch):
    monkeypatch.setattr(detector, "precision", "int8")
    with pytest.raises(packet.PacketError, match="fp32 or bf16"):
        packet.build(detector, picture(3))
