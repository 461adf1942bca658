"""Every page with real files and the real network, as a visitor uses it."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import FilePayload, Page, expect

from .conftest import Server

SAMPLES = Path(__file__).resolve().parents[2] / "sample_images"
REAL = SAMPLES / "real" / "barack_obama_portrait.jpg"
PAGES = ("", "bulk", "evaluate", "explain", "models", "about")


def start(page: Page, url: str, path: str = "") -> None:
    page.goto(f"{url}/{path}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    idle(page)


def idle(page: Page) -> None:
    page.wait_for_timeout(400)
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0, timeout=60_000)


def upload(page: Page, file: Path | FilePayload) -> None:
    page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(file)
    idle(page)


def archive(tmp_path: Path, *, root: str = "set/", name: str = "set.zip") -> Path:
    path = tmp_path / name
    with zipfile.ZipFile(path, "w") as file:
        for label in ("real", "fake"):
            for picture in sorted((SAMPLES / label).iterdir())[:3]:
                file.write(picture, f"{root}{label}/{picture.name}")
        file.writestr(f"{root}real/broken.jpg", b"\xff\xd8\xff nonsense")
    return path


def no_overflow(page: Page) -> None:
    """Nothing may make the page scroll sideways."""
    wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 1


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("width", [390, 1280])
def test_every_page_opens(visitor: Page, server: Server, path: str, width: int) -> None:
    start(visitor, server.url, path)
    expect(visitor.get_by_test_id("stException")).to_have_count(0)
    no_overflow(visitor)


@pytest.mark.parametrize("width", [390, 1280])
def test_classify_then_explain(visitor: Page, server: Server, width: int) -> None:
    page = visitor
    start(page, server.url)
    upload(page, REAL)
    expect(page.get_by_text("Prediction time")).to_be_visible()
    expect(page.get_by_test_id("stPlotlyChart").first).to_be_visible()
    no_overflow(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Result as JSON").click()
    result = json.loads(Path(download.value.path()).read_text())
    assert result["verdict"] in ("real", "fake", "inconclusive")
    assert 0 <= result["p_fake"] <= 1
    page.get_by_role("button", name="Explain this").click()
    expect(page.get_by_role("heading", name="Why this verdict?")).to_be_visible()
    expect(page.get_by_role("heading", name="Evidence map")).to_be_visible()
    page.get_by_text("Compare with Grad-CAM").click()
    expect(page.get_by_text("HiResCAM (stretched)")).to_be_visible()
    idle(page)
    no_overflow(page)


def test_a_sample_is_one_click_away(visitor: Page, server: Server) -> None:
    start(visitor, server.url)
    visitor.get_by_role("button", name="No face", exact=True).first.click()
    expect(visitor.get_by_role("heading", name="Not applicable")).to_be_visible()


def test_a_broken_file_is_explained(visitor: Page, server: Server) -> None:
    start(visitor, server.url)
    upload(visitor, {"name": "cut.jpg", "mimeType": "image/jpeg", "buffer": REAL.read_bytes()[:5000]})
    expect(visitor.get_by_text("cannot be shown as a picture")).to_be_visible()
    expect(visitor.get_by_text("complete copy")).to_be_visible()


def test_a_picture_can_be_pasted(visitor: Page, server: Server) -> None:
    page = visitor
    start(page, server.url)
    page.get_by_text("Paste", exact=True).click()
    box = page.get_by_test_id("stChatInputTextArea")
    expect(box).to_be_visible()
    box.evaluate(
        """(box, data) => {
            const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
            const clipboard = new DataTransfer();
            clipboard.items.add(new File([bytes], "image.jpg", {type: "image/jpeg"}));
            box.dispatchEvent(new ClipboardEvent("paste", {clipboardData: clipboard, bubbles: true, cancelable: true}));
        }""",
        base64.b64encode(REAL.read_bytes()).decode(),
    )
    expect(page.get_by_text("image.jpg")).to_be_visible()
    idle(page)
    box.press("Enter")
    expect(page.get_by_text("Prediction time")).to_be_visible()


def test_bulk_runs_survives_a_reload_and_downloads(visitor: Page, server: Server, tmp_path: Path) -> None:
    page = visitor
    start(page, server.url, "bulk")
    upload(page, archive(tmp_path))
    expect(page.get_by_text("7 pictures ready to be checked")).to_be_visible()
    page.get_by_role("button", name="Start").click()
    expect(page).to_have_url(re.compile(r"\?run=[\w-]{20,}"))
    page.reload()
    expect(page.get_by_text(re.compile("^Took "))).to_be_visible(timeout=120_000)
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV", exact=True).click()
    table = pd.read_csv(download.value.path())
    assert table["path"].nunique() == 7
    assert table.loc[table["path"] == "set/real/broken.jpg", "error"].notna().all()
    with page.expect_download() as download:
        page.get_by_role("button", name="Parquet", exact=True).click()
    assert len(pd.read_parquet(io.BytesIO(Path(download.value.path()).read_bytes()))) == len(table)
    page.get_by_role("button", name="Delete this run").click()
    page.get_by_text("I want this run deleted").click()
    page.get_by_role("button", name="Delete this run for good").click()
    expect(page.get_by_role("heading", name="Check many pictures")).to_be_visible()
    expect(page.get_by_text("How it works")).to_be_visible()


def test_a_run_is_reviewed_as_a_gallery_and_exported(visitor: Page, server: Server, tmp_path: Path) -> None:
    page = visitor
    start(page, server.url, "bulk")
    upload(page, archive(tmp_path, name="review.zip"))
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text(re.compile("^Took "))).to_be_visible(timeout=120_000)
    idle(page)
    page.get_by_text("Gallery", exact=True).click()
    idle(page)
    cards = page.get_by_role("link", name="Explain", exact=True)
    expect(cards).to_have_count(7 + 1)  # and the page of this name
    page.get_by_text("Heatmaps", exact=True).click()
    expect(page.get_by_text(re.compile("^Blue is evidence"))).to_be_visible(timeout=60_000)
    no_overflow(page)
    page.get_by_text("Export pictures").click()
    page.get_by_text(re.compile("^All that match")).click()
    page.get_by_role("button", name="Make the ZIP file").click()
    with page.expect_download(timeout=120_000) as download:
        page.get_by_role("button", name=re.compile("^Save the ZIP file")).click(timeout=120_000)
    with zipfile.ZipFile(download.value.path()) as file:
        names = file.namelist()
    assert "results.csv" in names
    assert any(name.startswith("reports/") and name.endswith(".html") for name in names)
    cards.last.click()
    expect(page.get_by_role("heading", name="Why this verdict?")).to_be_visible()


def test_evaluate_explains_labels_measures_and_reports(visitor: Page, server: Server, tmp_path: Path) -> None:
    page = visitor
    start(page, server.url, "evaluate")
    upload(page, archive(tmp_path))
    expect(page.get_by_text("This is how the labels were read")).to_be_visible()
    page.get_by_role("button", name="Run the evaluation").click()
    expect(page.get_by_role("heading", name="At one threshold")).to_be_visible(timeout=120_000)
    idle(page)
    found = page.get_by_test_id("stMetric").filter(has_text="AI-generated found").get_by_test_id("stMetricValue")
    slider = page.get_by_role("slider").first
    slider.press("Home")
    expect(found).to_have_text("100.0 %")
    idle(page)  # a key that comes while the page is drawn again is lost
    slider.press("End")
    expect(found).not_to_have_text("100.0 %")
    idle(page)  # a chart that is being drawn again cannot be scrolled to
    cell = page.get_by_test_id("stPlotlyChart").first
    cell.scroll_into_view_if_needed()
    box = cell.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.35)  # true negatives
    expect(page.get_by_role("radio", name=re.compile("Real not flagged"))).to_be_checked()
    for tab in ("Groups", "Calibration"):
        page.get_by_role("tab", name=tab).click()
        idle(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="metrics.json").click()
    assert json.loads(Path(download.value.path()).read_text())["images"] == 7
    with page.expect_download() as download:
        page.get_by_role("button", name="Report").click()
    assert "<html" in Path(download.value.path()).read_text().lower()
