"""The face as HTML: numbers under the pointer add up, and nothing in it runs or is fetched."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dashboard.examination import Picture, examine
from dashboard.face_map import _STYLE, Zone, cell_zones, evidence_scale, face_map, region_zones, scale
from dashboard.overlay import CAM_STOPS, cell_limit, colourise
from model.detector import Detector
from model.regions import LABELS
from tests.unit.test_report import tags


@pytest.fixture
def found(tiny_checkpoint, one_face, picture):
    return examine(Detector.load(tiny_checkpoint), Picture("a.png", picture(1), ""))


def numbers(zones):
    texts = [re.search(r"[+\N{MINUS SIGN}]?\d+\.\d+(?= log-odds)", zone.text)[0] for zone in zones]
    signs = [-1 if "toward real" in zone.text else 1 for zone in zones]
    return [sign * float(text.replace("\N{MINUS SIGN}", "-")) for sign, text in zip(signs, texts, strict=True)]


def test_the_numbers_of_all_parts_and_of_all_cells_make_the_logit(found):
    face, masks = found.result.faces[0], found.regions(0)
    parts, cells = region_zones(face, masks), cell_zones(face, masks)
    assert {zone.text.split(":")[0] for zone in parts} <= set(LABELS.values())
    assert sum(numbers(parts)) + face.bias == pytest.approx(face.logit, abs=0.005 * len(parts))
    assert not any(re.search(r"[-+\N{MINUS SIGN}]\d", zone.text) for zone in parts)  # the direction is in words
    assert len(cells) == face.evidence.size
    assert sum(numbers(cells)) + face.bias == pytest.approx(face.logit, abs=0.0005 * len(cells))


def test_zones_lie_inside_the_picture(found):
    for zone in (
        *region_zones(found.result.faces[0], found.regions(0)),
        *cell_zones(found.result.faces[0], found.regions(0)),
    ):
        points = np.concatenate(zone.outlines)
        assert points.min() >= 0 and points.max() <= 1


def test_the_html_runs_nothing_and_fetches_nothing(found):
    face, masks = found.result.faces[0], found.regions(0)
    text = face_map(
        found.crops[0],
        'a "label" <script>',
        layer=colourise(face.evidence, 64),
        opacity=0.5,
        outlined=masks,
        zones=region_zones(face, masks),
        hint="Point <here>",
        legend=evidence_scale(face.evidence.shape),
    )
    found_tags = tags(text)
    assert {tag for tag, _ in found_tags} <= {"style", "div", "img", "span"}
    sources = [attributes["src"] for _, attributes in found_tags if "src" in attributes]
    assert len(sources) == 3
    assert all(source.startswith(("data:image/png;base64,", "data:image/svg+xml;base64,")) for source in sources)
    assert not re.search(r"url\(|@import|https?:|<script", text)
    assert "opacity:0.50" in text and "Point &lt;here&gt;" in text
    assert f"{cell_limit(face.evidence.shape):.2f} real" in text


def test_each_part_is_named_for_those_who_cannot_see_and_no_cell_stops_the_tab_key(found):
    face, masks = found.result.faces[0], found.regions(0)
    parts = region_zones(face, masks)
    said = [attributes for _, attributes in tags(face_map(found.crops[0], "the face", zones=parts))]
    assert [each["aria-label"] for each in said if each.get("role") == "img"] == [
        "the face",
        *(zone.text for zone in parts),
    ]
    reached = [each for each in said if each.get("tabindex") == "0"]
    assert [each["aria-label"] for each in reached] == [zone.text for zone in parts]
    assert "rc-face" not in [each.get("class") for each in said if "role" in each]  # nothing inside a picture is read
    text = face_map(found.crops[0], "the face", zones=cell_zones(face, masks))
    assert text.count('class="rc-zone') == face.evidence.size
    assert "tabindex" not in text


def test_focus_can_be_seen():
    assert "outline:none" not in _STYLE
    assert re.search(r"\.rc-zone:focus-visible\{outline:\dpx solid", _STYLE)


def test_a_zone_lies_in_its_own_box(found):
    square = Zone([np.array([[0.25, 0.5], [0.5, 0.5], [0.5, 0.75], [0.25, 0.75]])], "a square")
    text = face_map(found.crops[0], "the face", zones=[square])
    assert "left:25.00%;top:50.00%;width:25.00%;height:25.00%" in text
    assert "polygon(evenodd,0.0% 0.0%,100.0% 0.0%,100.0% 100.0%,0.0% 100.0%" in text


def test_the_scale_is_as_clear_as_the_layer(found):
    text = face_map(found.crops[0], "the face", opacity=0.75, legend=evidence_scale((7, 7)))
    assert '<div class="rc-map" style="--rc-opacity:0.75">' in text
    assert ".rc-scale{opacity:var(--rc-opacity,1)" in text


def test_the_scale_of_a_class_activation_map_has_colours_of_its_own():
    stops = set(CAM_STOPS)
    assert not any(stop in evidence_scale((7, 7)) for stop in stops)
    assert all(stop in scale(CAM_STOPS, ("none", "strongest")) for stop in stops)


def test_an_impossible_opacity_is_refused(found):
    with pytest.raises(ValueError, match="opacity"):
        face_map(found.crops[0], "face", opacity=2.0)
