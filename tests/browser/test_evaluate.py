"""Evaluate as a reviewer uses it: click a figure, see its images, open one, come back, reload."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from dashboard.store import RunStore
from model.checkpoint import read_info
from tests.app.synthetic import Plan, keep
from tests.support import draw_face, encode, save_tiny

from .conftest import Server, Watch, serving
from .test_tour import idle, no_overflow


@pytest.fixture(scope="module")
def review(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server with a small untrained network and one finished evaluation of drawn faces; with the run's id."""
    home = tmp_path_factory.mktemp("review")
    weights = save_tiny(home / "tiny.safetensors")
    info = read_info(weights)
    plan = Plan(real=40, fake=40, checkpoint=info.name, checkpoint_sha256=info.sha256)
    store = RunStore(home / "data" / "runs")
    run = keep(store, plan, picture=encode(draw_face(128), "JPEG"))
    store.close()
    with serving(home, default_checkpoint=str(weights), shared_runs="true") as started:
        yield started, run.id


@pytest.fixture
def evaluated(review: tuple[Server, str], chromium: Browser, width: int) -> Iterator[Page]:
    """The page of that evaluation; the test fails on anything amiss in the console or on the network."""
    server, run = review
    context = chromium.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(60_000)
    watch = Watch(server.url)
    watch.attach(page)
    page.goto(f"{server.url}/evaluate?run={run}")
    expect(page.get_by_role("heading", name="At one threshold")).to_be_visible(timeout=120_000)
    idle(page)
    yield page
    context.close()
    assert watch.problems == [], f"server log:\n{server.log.read_text()[-4000:]}"


def predictions(page: Page) -> pd.DataFrame:
    with page.expect_download() as download:
        page.get_by_role("button", name="Predictions as CSV").click()
    return pd.read_csv(download.value.path()).dropna(subset=["p_fake"])


def pictures(page: Page) -> Locator:
    """The images of the gallery."""
    return page.locator('img[alt*=": real/"], img[alt*=": fake/"]')


def shown(page: Page) -> set[str]:
    """Paths of the images in the gallery, from their descriptions."""
    images = pictures(page)
    return {str(images.nth(place).get_attribute("alt")).split(": ", 1)[1] for place in range(images.count())}


def click_cell(page: Page, across: float, down: float) -> None:
    chart = page.get_by_test_id("stPlotlyChart").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * across, box["y"] + box["height"] * down)
    idle(page)


def radio(page: Page, name: str) -> Locator:
    return page.get_by_role("radio", name=re.compile(f"^{name} "))


def test_from_a_cell_to_an_explanation_and_back(evaluated: Page) -> None:
    page = evaluated
    table = predictions(page)
    number = page.get_by_role("spinbutton", name="Threshold")
    number.fill("0.3")
    number.press("Enter")
    expect(page).to_have_url(re.compile(r"threshold=0\.3"))
    idle(page)
    cells = {"Real not flagged": (0.35, 0.35), "AI found": (0.8, 0.8), "Missed AI": (0.35, 0.8)}
    for name, place in cells.items():
        click_cell(page, *place)
        expect(radio(page, name)).to_be_checked()
        fake, flagged = table["label"] == 1, table["p_fake"] >= 0.3
        own = {
            "Real not flagged": ~fake & ~flagged,
            "AI found": fake & flagged,
            "Missed AI": fake & ~flagged,
        }[name]
        expect(page.get_by_text(re.compile(f"^{own.sum()} pictures?[,.]"))).to_be_visible()
        expect(pictures(page)).to_have_count(min(12, int(own.sum())))
        expect(page).to_have_url(re.compile("only_cell="))
        idle(page)
        assert shown(page) <= set(table.loc[own, "path"])
    filled = "Missed AI"
    images, address = shown(page), page.url
    assert "only_cell=" in address

    page.get_by_role("link", name="Explain", exact=True).last.click()
    expect(page.get_by_role("heading", name="Why this verdict?")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/explain\?.*image=\d+"))
    expect(page.get_by_role("heading", name="Regional ledger")).to_be_visible()
    page.reload()  # the address alone finds the picture
    expect(page.get_by_role("heading", name="Regional ledger")).to_be_visible()
    page.get_by_role("link", name="Back to the evaluation").click()
    expect(page.get_by_role("heading", name="At one threshold")).to_be_visible()
    idle(page)
    expect(radio(page, filled)).to_be_checked()
    expect(page.get_by_role("spinbutton", name="Threshold")).to_have_value("0.300000")
    expect(pictures(page)).to_have_count(len(images))
    assert shown(page) == images

    page.goto(address)  # another session: everything comes from the address
    expect(page.get_by_role("heading", name="At one threshold")).to_be_visible()
    idle(page)
    expect(radio(page, filled)).to_be_checked()
    expect(pictures(page)).to_have_count(len(images))
    assert shown(page) == images


def test_every_chart_can_be_drawn(evaluated: Page) -> None:
    page = evaluated
    for tab in ("Curves", "Calibration", "Costs", "Groups", "Regions", "Errors"):
        page.get_by_role("tab", name=tab).click()
        idle(page)
        expect(page.get_by_test_id("stPlotlyChart").first).to_be_visible()
        expect(page.get_by_test_id("stException")).to_have_count(0)
        no_overflow(page)


def test_heatmaps_come_on_request(evaluated: Page) -> None:
    page = evaluated
    expect(page.get_by_text(re.compile("^Blue is evidence"))).to_have_count(0)
    page.get_by_text("Heatmaps", exact=True).click()
    expect(page.get_by_role("switch", name="Heatmaps")).to_be_checked()
    expect(page.locator('img[alt^="Evidence over the face of"]')).to_have_count(12, timeout=120_000)
    expect(page.get_by_text(re.compile("^Blue is evidence"))).to_be_visible()


def test_a_point_of_a_curve_shows_images(evaluated: Page) -> None:
    page = evaluated
    page.get_by_role("tab", name="Curves").click()
    idle(page)
    chart = page.get_by_test_id("stPlotlyChart").first
    point = chart.locator(".scatterlayer .trace").first.locator(".points path").nth(1)
    chosen = page.get_by_role("button", name=re.compile("^Probability 0"))
    for _ in range(5):  # a click that comes while the chart is drawn again, or the page settles, is lost
        chart.evaluate("element => element.scrollIntoView({block: 'center'})")
        page.wait_for_timeout(500)
        box = point.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_timeout(200)
        page.mouse.down()
        page.mouse.up()
        idle(page)
        if chosen.count():
            break
    expect(chosen).to_be_visible()
    expect(pictures(page)).to_have_count(12)


@pytest.mark.parametrize("width", [390])
def test_a_telephone_shows_everything(evaluated: Page, width: int) -> None:
    no_overflow(evaluated)
    expect(evaluated.get_by_role("link", name="Explain", exact=True).last).to_be_visible()


def test_corrected_labels_are_measured_again_without_the_network(evaluated: Page) -> None:
    page = evaluated
    address = page.url
    page.get_by_text("Correct labels and groups").click()
    idle(page)
    grid = page.get_by_test_id("stDataFrame").last
    choice = page.get_by_text("Leave out", exact=True).last
    for _ in range(3):  # a click that comes while the page settles is lost
        grid.scroll_into_view_if_needed()
        box = grid.bounding_box()
        assert box is not None
        page.mouse.dblclick(box["x"] + box["width"] * 0.45, box["y"] + 52)
        page.wait_for_timeout(1000)
        if choice.is_visible():
            break
    choice.click()
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile("1 correction"))).to_be_visible()
    page.get_by_role("button", name="Measure again with these labels").click()
    expect(page).not_to_have_url(address)
    expect(page.get_by_text(re.compile("relabelled")).first).to_be_visible(timeout=120_000)
    expect(page.get_by_role("heading", name="At one threshold")).to_be_visible(timeout=120_000)
