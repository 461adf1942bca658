"""The Explain page in a browser: numbers under the pointer, controls, tests on request, and a packet that verifies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from model import packet

from .conftest import Server
from .test_tour import REAL, idle, no_overflow, start, upload


@pytest.fixture
def explained(visitor: Page, server: Server) -> Page:
    """The page on a real photograph."""
    start(visitor, server.url, "explain")
    upload(visitor, REAL)
    expect(visitor.locator(".rc-zone").first).to_be_attached(timeout=60_000)
    idle(visitor)
    return visitor


@pytest.mark.parametrize("width", [390, 1280])
def test_a_part_says_its_number_when_it_is_pointed_at(explained: Page) -> None:
    face = explained.locator(".rc-face").last
    face.scroll_into_view_if_needed()
    box = face.bounding_box()
    assert box is not None
    expect(explained.locator(".rc-hint").last).to_be_visible()
    explained.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.75)
    note = explained.locator(".rc-note:visible")
    expect(note).to_have_count(1)
    expect(note).to_have_text(re.compile(r"(Mouth|Jaw and chin): \d+\.\d\d log-odds toward"))
    explained.get_by_text("Cells", exact=True).click()
    expect(explained.locator(".rc-zone")).to_have_count(14 * 14)
    no_overflow(explained)


def test_outlines_and_grad_cam_are_a_choice(explained: Page) -> None:
    layers = explained.locator(".rc-face").last.locator("img")
    expect(layers).to_have_count(3)
    explained.get_by_text("Outlines", exact=True).click()
    expect(layers).to_have_count(2)
    explained.get_by_text("Grad-CAM, rescaled").click()
    expect(explained.get_by_text("strongest on this picture")).to_be_visible()
    expect(explained.get_by_text("stretched to their own maximum")).to_be_visible()


def test_the_packet_and_the_report_can_be_taken_away(explained: Page) -> None:
    with explained.expect_download() as download:
        explained.get_by_role("button", name="Evidence packet (ZIP)").click()
    data = Path(download.value.path()).read_bytes()
    assert packet.verify(data, judge=False).agrees
    with explained.expect_download() as download:
        explained.get_by_role("button", name="Report (HTML)").click()
    assert packet.digest(data) in Path(download.value.path()).read_text("utf-8")
    idle(explained)
