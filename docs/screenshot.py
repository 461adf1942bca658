"""Take the README's picture of the Classify page anew: `python docs/screenshot.py`, where Chromium is installed."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tests.browser.conftest import CHROMIUM, FLAGS, serving  # noqa: E402 - found by the line above
from tests.browser.test_tour import idle, start, upload  # noqa: E402

PICTURE = HERE.parent / "sample_images" / "fake" / "diffusion_runway.webp"
WIDTH, HEIGHT, SHOWN = 1280, 1700, 0.8  # CSS pixels, and how large they are in the picture

if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory() as home,
        serving(Path(home)) as server,
        sync_playwright() as driver,
        driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as browser,
    ):
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        start(page, server.url)
        upload(page, PICTURE)
        expect(page.get_by_role("heading", name="AI-generated")).to_be_visible(timeout=60_000)
        expect(page.get_by_role("heading", name="Where the evidence lies")).to_be_visible()
        idle(page)
        expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=60_000)
        expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=60_000)  # what a page shows while it waits
        page.wait_for_timeout(1000)  # charts are drawn in steps
        image = Image.open(io.BytesIO(page.screenshot()))
        image.resize((round(WIDTH * SHOWN), round(HEIGHT * SHOWN)), Image.Resampling.LANCZOS).convert("RGB").save(
            HERE / "images" / "classify.png", optimize=True
        )
