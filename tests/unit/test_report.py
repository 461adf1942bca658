"""The report: complete, self-contained, safe against hostile names, and honest about gaps."""

from __future__ import annotations

import html.parser
import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from dashboard.report import render
from dashboard.report._render import limits, rate
from dashboard.report._svg import Chart, _round_up
from dashboard.words import ONE_CLASS
from model import metrics
from model.audit import Finding

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}.jpg"
FINDING = Finding("RC002", "The file gives the label away", "severe", "Because <b>so</b>.", "Do this.")


def predictions(n=200):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    p = np.clip(rng.normal(0.35 + 0.3 * y, 0.2), 0, 1)
    return pd.DataFrame(
        {
            "path": [
                HOSTILE if index == int(np.argmax(np.where(y == 0, p, -1))) else f"{index}.jpg" for index in range(n)
            ],
            "p_fake": p,
            "verdict": np.where(p >= 0.6, "fake", np.where(p <= 0.3, "real", "inconclusive")),
            "threshold_real": 0.3,
            "threshold_fake": 0.6,
            "checkpoint": "model-a",
            "label": y,
            "group": np.where(y == 1, "<i>gan</i>", "phone"),
        }
    )


@pytest.fixture(scope="module")
def frame():
    return predictions()


@pytest.fixture(scope="module")
def figures(frame):
    return metrics.evaluate(frame, resamples=50)


@pytest.fixture(scope="module")
def page(frame, figures):
    return render(figures | {"audit": [FINDING.to_dict()]}, frame)


class Tags(html.parser.HTMLParser):
    """Start tags with attributes, and whether tags are balanced."""

    VOID = frozenset({"meta", "br", "img"})  # the one-page report, which is read with this too, has pictures

    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def tags(text):
    parser = Tags()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser.found


def test_the_page_is_balanced_and_needs_nothing_from_outside(page):
    found = tags(page)
    assert not {"script", "link", "iframe", "object", "base", "form", "img"} & {tag for tag, _ in found}
    for tag, attributes in found:
        for name, text in attributes.items():
            assert not name.startswith("on"), tag
            assert name not in ("src", "href", "xlink:href", "data", "action"), text
    assert not re.search(r"url\(|@import", page)
    assert "default-src 'none'" in page


def test_every_figure_is_on_the_page(page, figures):
    for title in ("Accuracy", "ROC AUC", "Equal error rate", "Brier score", "AURC", "Recall at 0.5 % false positives"):
        assert title in page
    for key in ("accuracy", "recall", "fpr"):
        assert rate(figures[key]) in page
    assert rate(figures["roc_auc"], share=False) in page
    for text in ("100 real photographs", "model-a", "RC002", "Do this.", "not proof"):
        assert text in page


def test_what_spoils_the_figures_is_said_before_them(page, frame, figures):
    assert "audit of the set below: 1 severe" in page[: page.index("What was measured")]
    clean = render(figures, frame)
    assert "audit of the set below" not in clean
    assert "Nothing was found" in clean


def test_the_protocol_is_in_words(page):
    for heading, value in (("EER", "FPR = FNR on"), ("Columns", "group"), ("Clusters", "none")):
        assert re.search(rf'<th scope="row">{heading}</th><td class="name">{value}', page)


def test_pictures_without_a_score_are_never_decided_in_the_risk_curve(frame):
    part = frame.copy()
    part.loc[part.index[:100], ["verdict", "p_fake"]] = ["not_applicable", np.nan]
    chart = re.findall(r"<svg.*?</svg>", render(metrics.evaluate(part, resamples=20), part), flags=re.DOTALL)[-1]
    ends = [float(point.split(",")[0]) for point in re.findall(r'points="([^"]+)"', chart)[-1].split()]
    assert max(ends) == pytest.approx((58 + 368) / 2)  # half of all pictures


def test_counts_on_the_page_are_those_of_the_metrics(page, figures):
    rows = re.findall(r'<tr><th scope="row">(?:Real photograph|AI-generated)</th>(.*?)</tr>', page)
    cells = [[int(cell) for cell in re.findall(r">(\d+)<", row)] for row in rows]
    kinds = ("fake", "real", "inconclusive", "not_applicable", "error")
    assert cells[:2] == [[figures["outcomes"][label][kind] for kind in kinds] for label in ("real", "fake")]
    assert cells[2:] == figures["confusion_matrix"]


def test_five_charts_are_valid_and_described(page):
    charts = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(charts) == 5
    for chart in charts:
        root = ElementTree.fromstring(chart)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        numbers = re.findall(r"[\d.]+|nan|inf", " ".join(filter(None, (node.get("points") for node in root.iter()))))
        assert all(0 <= float(number) <= 400 for number in numbers)


def test_hostile_names_are_text(page):
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "{{7*7}}" in page
    assert "<i>gan" not in page
    assert "<b>so" not in page
    assert "Because &lt;b&gt;so" in page


def test_worst_errors_come_first_with_their_scores(page, frame):
    start = page.index("Real photographs that were flagged")
    part = page[start : page.index("<h3>AI-generated images that were not flagged")]
    shown = [float(text) for text in re.findall(r'<td class="n">([\d.]+)</td>', part)]
    wrong = frame[(frame["label"] == 0) & (frame["p_fake"] >= 0.6)]["p_fake"].sort_values(ascending=False)
    assert shown == [pytest.approx(score, abs=6e-5) for score in wrong.head(12)]
    assert f"flagged: {len(wrong)}<" in part


def test_the_same_results_give_the_same_page_also_from_json(frame, figures):
    assert render(json.loads(json.dumps(figures)), frame) == render(figures, frame)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_gives_a_page_without_invented_figures(frame, label):
    part = frame[frame["label"] == label]
    found = metrics.evaluate(part, resamples=20)
    text = render(found, part)
    tags(text)
    assert "not defined: no " in text
    assert "Only one class could be scored" in text
    assert ONE_CLASS in text[: text.index("What was measured")]
    assert "<h3>ROC curve<" not in text


def test_a_set_without_scores_gives_a_page(frame):
    part = frame.assign(verdict="not_applicable", p_fake=np.nan)
    text = render(metrics.evaluate(part), part)
    tags(text)
    assert "No image could be scored" in text
    assert "200 of 200 images (100.0 %) have no score" in text


def test_a_set_without_groups_says_so(frame):
    part = frame.drop(columns="group")
    found = metrics.evaluate(part, resamples=20)
    assert "<h2>Groups<" not in render(found, part)
    assert any("names no groups" in sentence for sentence in limits(found))


def test_limits_name_the_false_positive_rate_that_cannot_be_excluded(figures):
    assert any("up to 3.7 %" in sentence for sentence in limits(figures))  # Wilson, 0 of 100


@pytest.mark.parametrize(
    ("value", "end"), [(0.0, 0.01), (0.04, 0.05), (0.33, 0.5), (0.5, 0.5), (0.51, 1.0), (0.9, 1.0)]
)
def test_axes_end_at_round_numbers(value, end):
    assert _round_up(value) == pytest.approx(end)


def test_points_outside_the_axes_stay_inside_the_picture():
    chart = Chart("t", "x", "y")
    chart.line([(-1, 2), (3, -4)], "red")
    assert 'points="58.0,12.0 368.0,274.0"' in chart.svg()
