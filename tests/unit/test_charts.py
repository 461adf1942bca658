"""What the charts of verdicts say can be read, and what they count adds up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dashboard import charts
from dashboard.contrast import contrast, of_hex
from model.calibration import FAKE, INCONCLUSIVE, NOT_APPLICABLE, REAL, Thresholds
from model.regions import REGIONS

AA = 4.5
APPEARANCES = pytest.mark.parametrize("colours", [charts.LIGHT, charts.DARK], ids=["light", "dark"])


def readable(text: str, fill: str) -> bool:
    return contrast(of_hex(text), of_hex(fill)) >= AA


@APPEARANCES
def test_names_on_the_verdict_scale_can_be_read(colours):
    figure = charts.verdict_scale(0.5, Thresholds(0.35, 0.65), INCONCLUSIVE, colours)
    fills = {shape.fillcolor: shape for shape in figure.layout.shapes if shape.type == "rect"}
    assert set(fills) == {colours.real, colours.inconclusive, colours.fake}
    assert all(shape.opacity in (None, 1) for shape in fills.values())  # or the fill is another colour
    names = figure.layout.annotations
    assert len(names) == 3
    for name in names:
        (fill,) = (colour for colour, shape in fills.items() if shape.x0 <= name.x <= shape.x1)
        assert readable(name.font.color, fill), name.text


@APPEARANCES
def test_counts_on_the_bar_of_verdicts_can_be_read(colours):
    verdicts = (FAKE, REAL, INCONCLUSIVE, NOT_APPLICABLE)
    figure = charts.verdict_bar(dict.fromkeys(verdicts, 1), dict(zip(verdicts, verdicts, strict=True)), colours)
    assert len(figure.data) == 4
    for bar in figure.data:
        assert readable(bar.textfont.color, bar.marker.color), bar.hovertemplate


@APPEARANCES
@pytest.mark.parametrize("hits", range(0, 101, 4))
def test_counts_in_the_confusion_matrix_can_be_read_on_every_shade(colours, hits):
    figure = charts.confusion(np.array([[100 - hits, hits], [hits, 100 - hits]]), colours)
    scale = dict(figure.data[0].colorscale)
    for cell in figure.layout.annotations:
        value = figure.data[0].z[cell.y][cell.x]
        low, high = of_hex(scale[0.5]), of_hex(scale[1 if value > 0 else 0])
        fill = tuple(round(a + abs(value) * (b - a)) for a, b in zip(low, high, strict=True))
        assert contrast(of_hex(cell.font.color), fill) >= AA, cell.text


def test_the_bias_has_no_share_and_those_of_the_regions_are_the_whole():
    frame = charts.ledger_frame(dict.fromkeys(REGIONS, -0.5) | {"bias": 3.0}, {})
    shares = frame.set_index("name")["share"]
    assert np.isnan(shares.pop("bias"))
    assert shares.tolist() == pytest.approx([1 / len(REGIONS)] * len(REGIONS))


@APPEARANCES
def test_numbers_of_the_region_table_can_be_read_on_their_fields(colours):
    values = {"eyes": -2.5, "nose": -0.4, "mouth": 0.0, "jaw": 0.7, "hair": 3.0}
    rows = [
        {"group": "gan", "images": 3, "region": name, "label": name, "log_odds": value, "share": 0.2, "decides": 0.1}
        for name, value in values.items()
    ]
    figure = charts.region_heatmap(pd.DataFrame(rows), 2.0, colours)
    assert [note.text for note in figure.layout.annotations] == ["-2.5", "-0.4", "+0.0", "+0.7", "+3.0"]
    low, middle, high = (of_hex(colour) for _, colour in figure.data[0].colorscale)
    for note, value in zip(figure.layout.annotations, values.values(), strict=True):
        share = min(abs(value) / 2.0, 1)
        end = high if value > 0 else low
        fill = tuple(round(start + share * (stop - start)) for start, stop in zip(middle, end, strict=True))
        assert contrast(of_hex(note.font.color), fill) >= AA
