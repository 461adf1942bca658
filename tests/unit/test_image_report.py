"""The report on one picture: complete, one page, safe against hostile names, and careful in what it says."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
import subprocess

import pytest
from PIL import Image

from dashboard import words
from dashboard.charts import LIGHT
from dashboard.report import _image_pdf, image_report
from dashboard.report.image_report import LedgerLine, Stability, shown
from dashboard.words import signed
from model.calibration import FAKE, INCONCLUSIVE, NOT_APPLICABLE, REAL, Thresholds
from model.detector import Detector
from model.redelivery import Redelivered
from model.regions import REGIONS
from model.typical import Band, Typical
from tests.support import encode
from tests.unit.test_report import tags

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}\u202egpj.exe"
DIGEST = "0123456789abcdef" * 4
PATHS = {  # thresholds that give this verdict on any face
    FAKE: Thresholds(0.0, 0.0),
    REAL: Thresholds(1.0, 1.0),
    INCONCLUSIVE: Thresholds(0.0, 1.0),
}

REDELIVERED = (
    Redelivered("jpeg90", "fake", None, 3.0, 0.97, True),
    Redelivered("screenshot", "not_applicable", "no_face", None, None, False),
)


@pytest.fixture
def detector(tiny_checkpoint, one_face):
    return Detector.load(tiny_checkpoint)


def page_of(detector, data, name="a.png", **options):
    return image_report.image_report(detector, data, detector.classify(data, name=name), **options)


@pytest.fixture
def report(detector, picture):
    return page_of(
        detector,
        picture(1),
        digest=DIGEST,
        created="2026-01-02 03:04 UTC",
        redelivered=REDELIVERED,
        remarks=["The map is faithful."],
    )


@pytest.fixture
def usual(detector):
    band = Band(-1.0, -0.5, 0.0, 0.5, 1.0)
    bands = dict.fromkeys(REGIONS, band)
    return Typical(detector.checkpoint.name, detector.checkpoint.sha256, bands, bands, 0.4, 0.9, 50, 60)


def test_what_is_usual_stands_beside_the_ledger_where_it_was_measured(detector, picture, usual, report):
    text = image_report.html(page_of(detector, picture(1), usual=usual))
    assert text.count("−1.00 to +1.00") == len(REGIONS)
    assert "9 in 10 real faces" in text
    assert "9 in 10 real faces" not in image_report.html(report)
    assert pages(image_report.pdf(page_of(detector, picture(1), usual=usual))) == 1


def pages(pdf):
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


def test_the_page_needs_nothing_from_outside(report):
    text = image_report.html(report)
    found = tags(text)
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in found}
    sources = [attributes["src"] for _, attributes in found if "src" in attributes]
    assert len(sources) == 4
    assert all(re.match(r"data:image/(jpeg|png);base64,", source) for source in sources)
    assert not re.search(r"url\(|@import|https?:", text)
    assert "default-src 'none'" in text


def test_all_that_a_reviewer_needs_is_on_the_page(report, detector, picture):
    text = image_report.html(report)
    result = detector.classify(picture(1))
    expected = [
        words.VERDICTS[result.verdict].title,
        words.percent(result.p_fake),
        words.HONEST_USE,
        report.error_rate,
        report.thresholds,
        result.sha256,
        detector.checkpoint.sha256,
        DIGEST,
        "2026-01-02 03:04 UTC",
        "The verdict holds in 1 of 2 deliveries; after 1 no face could be judged.",
        "Screenshot",
        "The map is faithful.",
        "torch-fp32",
        f"make {signed(result.logit, 3)} log-odds",
        *report.cannot_say,
    ]
    for part in expected:
        assert part in text, part
    assert report.error_rate == words.stated_error_rates(detector.checkpoint, result.verdict, result.thresholds)
    rows = re.findall(
        r'<th scope="row">([^<]+)</th><td class="n">([^<]+)</td><td class="n">([^<]*)</td><td class', text
    )
    assert [row[0] for row in rows][-1] == "Usual face (bias)"
    values = [float(row[1].replace("\N{MINUS SIGN}", "-")) for row in rows]
    assert sum(values) == pytest.approx(result.logit, abs=0.005 * len(values))


@pytest.mark.parametrize("verdict", PATHS)
def test_the_verdict_is_headed_as_the_detectors_own(detector, picture, verdict):
    report = page_of(detector.with_thresholds(PATHS[verdict]), picture(2))
    assert report.statement == words.RESEMBLES[verdict].format(face="the face")
    assert report.colour == LIGHT.of(verdict)
    text, title = image_report.html(report), words.VERDICTS[verdict].title
    assert f"<strong>The detector's verdict: {title}</strong>" in text
    assert f"<title>a.png: the detector's verdict is {title} - Reality Check</title>" in text
    assert f"<b>{words.error_heading(verdict)}.</b> {report.error_rate}" in text
    assert f"the detector's verdict is {title}".encode() in image_report.pdf(report)
    assert not re.search(r"\b(proves?|proven|certainly|definitely|authentic|genuine)\b", text, re.IGNORECASE)


@pytest.mark.parametrize("kind", ["no face", "no image"])
def test_a_picture_that_cannot_be_judged_gives_a_page_that_says_why(detector, kind):
    data = b"not an image" if kind == "no image" else encode(Image.new("RGB", (64, 64), (128, 128, 128)))
    report = page_of(detector, data)
    assert report.verdict == words.VERDICTS[NOT_APPLICABLE].title
    text = image_report.html(report)
    assert tags(text)
    assert "log-odds" not in text.split("</style>")[1]
    assert pages(image_report.pdf(report)) == 1
    assert (report.picture is None) == (kind == "no image")
    assert (report.error_heading in text) == (kind == "no face")
    assert hashlib.sha256(data).hexdigest() in text
    assert f"{len(data)} B" in text


def test_the_heading_over_the_rates_is_in_the_pdf_where_there_are_any(report, monkeypatch):
    said = []
    text = _image_pdf._text
    monkeypatch.setattr(_image_pdf, "_text", lambda *given: said.append(" ".join(map(str, given))) or text(*given))
    image_report.pdf(report)
    assert any(f"{report.error_heading}." in line and report.error_rate in line for line in said)
    assert any(line.endswith(f"The detector's verdict: {report.verdict}") for line in said)
    said.clear()
    image_report.pdf(dataclasses.replace(report, error_rate=""))
    assert not any(report.error_heading in line for line in said)


@pytest.mark.parametrize("folder", ["/home/lovelace/", "C:\\Users\\lovelace\\"])
@pytest.mark.parametrize("readable", [True, False])
def test_a_hostile_name_is_text_and_nothing_else(detector, picture, readable, folder):
    name = folder + HOSTILE.replace("/", "")
    report = page_of(detector, picture(1) if readable else b"not an image", name=name)
    text = image_report.html(report)
    assert "<script" not in text
    assert "{{7*7}}" in text and "\u202e" not in text and "\\u202e" in text
    assert "lovelace" not in text
    assert pages(image_report.pdf(report)) == 1


@pytest.mark.parametrize(
    "name", ["<img src='file:///etc/passwd'/>.png", "</para><para>.png", "日本語\u0000.png", "&lt"]
)
def test_the_pdf_takes_no_markup_from_names(report, name):
    assert pages(image_report.pdf(dataclasses.replace(report, name=shown(name)))) == 1


def test_the_same_report_gives_the_same_bytes(report):
    assert image_report.pdf(report) == image_report.pdf(report)
    assert image_report.html(report) == image_report.html(report)


def crowded(report):
    """More on the page than any run puts there."""
    line = LedgerLine("Hair and face boundary", -12.345, 1.0, 0.38, "−12.34 to +12.34")
    rows = [("Social network, sharpened", 0.5, "inconclusive")] * 8
    return dataclasses.replace(
        report,
        name=shown("n" * 300),
        ledger=[line] * 15,
        stability=Stability("The verdict holds in 7 of 8 ways of passing the picture on.", rows),
        remarks=["A sentence on how faithful the map is, which goes on for about two lines of the column."] * 4,
        faces="12 faces were found. Face 7 has the highest score and decides; it is the one shown here.",
    )


def test_the_pdf_is_one_page_whatever_is_on_it(report):
    assert pages(image_report.pdf(crowded(report))) == 1
    assert pages(image_report.pdf(dataclasses.replace(report, remarks=["A long remark. " * 20] * 30))) == 1


@pytest.mark.browser
def test_the_html_prints_on_one_page(report, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("Chromium is not installed")
    page, printed = tmp_path / "page.html", tmp_path / "page.pdf"
    page.write_text(image_report.html(crowded(report)), "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer", f"--user-data-dir={tmp_path}"]
    subprocess.run(
        [browser, *options, f"--print-to-pdf={printed}", page.as_uri()], check=True, capture_output=True, timeout=120
    )
    assert pages(printed.read_bytes()) == 1


def test_the_other_faces_are_counted(detector, picture):
    result = detector.classify(picture(1))
    twice = dataclasses.replace(result, faces=result.faces * 2, deciding_face=1)
    report = image_report.image_report(detector, picture(1), twice)
    title = words.VERDICTS[result.verdict].title
    assert report.faces.startswith("2 faces were found. Face 2 has the highest score")
    assert report.faces.endswith(f"The others: {title} (1).")
