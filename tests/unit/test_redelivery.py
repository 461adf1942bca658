"""The same picture after eight deliveries."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from dashboard.examination import Picture, examine
from model import deliveries, packet
from model.calibration import Thresholds
from model.checkpoint import read_info
from model.detector import Detector
from model.imaging import ImageError, recompress
from model.redelivery import TITLES, holds, redeliver
from model.sources import MemorySource
from tests.unit.test_packet import members


@pytest.fixture
def detector(tiny_checkpoint, one_face):
    return Detector.load(tiny_checkpoint)


def test_every_delivery_has_a_title():
    assert list(TITLES) == list(deliveries.DELIVERIES)


def test_each_delivery_is_judged_like_a_picture_of_its_own(detector, picture):
    data = picture(3, size=(200, 200))
    found = list(redeliver(detector, data, detector.classify(data)))
    assert [entry.name for entry in found] == list(deliveries.DELIVERIES)
    delivered = deliveries.Delivered("x", MemorySource("x", data), deliveries.screenshot)
    expected = detector.classify(delivered.read())
    screenshot = next(entry for entry in found if entry.name == "screenshot")
    assert (screenshot.logit, screenshot.verdict) == (pytest.approx(expected.logit, abs=1e-5), expected.verdict)
    assert len({entry.logit for entry in found}) == len(found)


def test_a_verdict_that_nothing_can_change_holds_and_a_lost_face_is_counted(detector, picture):
    always = detector.with_thresholds(Thresholds(0.0, 0.0))
    data = picture(1, size=(140, 100))  # half of it is too small to be judged
    found = list(redeliver(always, data, always.classify(data)))
    lost = [entry for entry in found if entry.p_fake is None]
    assert "half_size" in [entry.name for entry in lost]
    assert {entry.reason for entry in lost} == {"face_too_small"}
    assert all(entry.held for entry in found if entry.p_fake is not None)
    assert holds(found).startswith(f"The verdict holds in {8 - len(lost)} of 8 deliveries; after {len(lost)} no face")


def test_a_delivery_that_its_format_cannot_hold_is_left_out(detector, picture, tiny_checkpoint):
    data = picture(4, size=(16_500, 120))
    found = examine(detector, Picture("a.png", data, ""))
    entries = found.redelivered()
    assert [entry.name for entry in entries if not entry.made] == ["webp"]
    said = holds(entries)
    assert "of 7 deliveries" in said
    assert said.endswith("1 was left out: WebP cannot hold a picture this large.")
    made = found.packet()
    account = json.loads(members(made)["sections/deliveries.json"])
    assert (account["of"], len(account["deliveries"])) == (7, 8)
    assert packet.verify(made, checkpoints=[read_info(tiny_checkpoint)]).agrees


@pytest.mark.parametrize(("codec", "longest"), [("JPEG", 65_500), ("WEBP", 16_383)])
def test_formats_hold_what_they_are_said_to_hold(codec, longest):
    assert recompress(Image.new("RGB", (longest, 1)), 80, codec=codec).width == longest
    with pytest.raises(ImageError, match="cannot hold a picture this large"):
        recompress(Image.new("RGB", (1, longest + 1)), 80, codec=codec)


def test_the_packet_holds_what_was_computed_and_verifying_computes_it_again(detector, picture, tiny_checkpoint):
    found = examine(detector, Picture("a.png", picture(2), ""))
    plain = found.packet()
    assert not any(name.startswith("sections/") for name in members(plain))
    found.test()
    made = found.packet()
    assert made != plain
    again = examine(detector, Picture("a.png", picture(2), ""))
    again.without(0)
    again.faithfulness(0)
    again.redelivered()
    assert again.packet() == made
    account = json.loads(members(made)["sections/deliveries.json"])
    assert account["held"] == sum(entry["held"] for entry in account["deliveries"])
    assert json.loads(members(made)["sections/quality.json"])["map"]["flip"] == found.faithfulness(0).flip
    verified = packet.verify(made, checkpoints=[read_info(tiny_checkpoint)])
    assert verified.agrees, verified.failed
    items = {entry.item: entry.outcome for entry in verified.checks}
    for section in ("deliveries", "quality", "what_if"):
        assert items[f"sections/{section}.json again"] is packet.Outcome.AGREES


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("deliveries", lambda account: account | {"held": account["held"] - 1}),
        ("deliveries", lambda account: account | {"deliveries": account["deliveries"][:-1]}),
        ("quality", lambda account: account | {"map": account["map"] | {"flip": account["map"]["flip"] + 0.01}}),
        ("quality", lambda account: account | {"evidence": account["evidence"] | {"background": 0.0}}),
        ("what_if", lambda account: account | {"without": account["without"][1:]}),
    ],
)
def test_a_forged_section_with_hashes_computed_anew_is_found(detector, picture, tiny_checkpoint, section, change):
    found = examine(detector, Picture("a.png", picture(2), ""))
    found.test()
    sections = found.sections()
    forged = sections | {section: change(json.loads(json.dumps(sections[section])))}
    made = packet.build(detector, picture(2), result=found.result, sections=forged)
    verified = packet.verify(made, checkpoints=[read_info(tiny_checkpoint)])
    assert [entry.item for entry in verified.failed] == [f"sections/{section}.json again"]
