import json

import pytest

from dashboard import charts, words
from model import typical
from model.checkpoint import CheckpointError, read_info
from model.detector import Detector
from model.regions import REGIONS
from model.typical import Band, Typical, load
from tests.support import draw_face, encode, save_tiny


@pytest.fixture
def labelled(tmp_path):
    for label, step in (("real", 3), ("fake", 5)):
        for group in ("one", "two"):
            folder = tmp_path / "faces" / label / group
            folder.mkdir(parents=True)
            for index in range(11):
                shade = (225 - step * index, 175, 150 - (group == "two") * 20)
                (folder / f"{index}.png").write_bytes(encode(draw_face(128, skin=shade)))
    return tmp_path / "faces"


def test_quantiles_are_written_beside_the_weights_and_found_again(tmp_path, labelled, capsys):
    checkpoint = save_tiny(tmp_path / "tiny.safetensors")
    before = checkpoint.read_bytes()
    assert load(checkpoint) is None
    assert typical.main(["--data", str(labelled), "--images", "44", "--checkpoint", str(checkpoint)]) == 0
    assert "22 real and 22 generated" in capsys.readouterr().out
    assert checkpoint.read_bytes() == before
    found = load(checkpoint)
    assert (found.n_real, found.n_fake, found.checkpoint) == (22, 22, "tiny")
    assert tuple(found.real) == tuple(found.fake) == REGIONS
    for band in (*found.real.values(), *found.fake.values()):
        assert band.p5 <= band.p25 <= band.p50 <= band.p75 <= band.p95
    assert found.real["nose"].p5 < found.real["nose"].p95


def test_quantiles_of_other_weights_are_not_used(tmp_path, labelled):
    checkpoint = save_tiny(tmp_path / "tiny.safetensors")
    typical.main(["--data", str(labelled), "--images", "40", "--checkpoint", str(checkpoint)])
    save_tiny(checkpoint, seed=1)
    assert load(checkpoint) is None


def test_a_damaged_file_is_named(tmp_path):
    checkpoint = save_tiny(tmp_path / "tiny.safetensors")
    path = typical.path_of(read_info(checkpoint))
    stated = {"format": typical.FORMAT, "checkpoint_sha256": read_info(checkpoint).sha256, "real": {}}
    for content in ("{", json.dumps(stated), "[]"):
        path.write_text(content)
        with pytest.raises(CheckpointError, match=r"tiny\.typical\.json: is damaged"):
            load(checkpoint)


def test_too_few_faces_are_refused(tmp_path, capsys):
    checkpoint = save_tiny(tmp_path / "tiny.safetensors")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "one.png").write_bytes(encode(draw_face(128)))
    assert typical.main(["--data", str(tmp_path), "--checkpoint", str(checkpoint)]) == 2
    assert "1 faces were examined; it takes 20" in capsys.readouterr().err


def test_what_lies_outside_the_band_of_real_faces_is_unusual():
    band = Band(-1.0, -0.5, 0.0, 0.5, 1.0)
    bands = dict.fromkeys(REGIONS, band)
    usual = Typical("tiny", "0" * 64, bands, bands, 0.4, 1.0, 50, 60)
    counts = (
        "A part that is more like a generated face than in 95 of 100 real ones is found in 40 % of real faces and over "
        "99 % of AI-generated ones (measured on 50 and 60)."
    )
    ledger = dict.fromkeys(REGIONS, 0.9) | {"bias": 7.0}
    assert usual.unusual(ledger) == []
    none = "No part is unusual for a real face: each lies where it does in nine of ten."
    assert words.unusual(usual, ledger) == f"{none} {counts}"
    ledger |= {"mouth": -1.5, "nose": 2.5}
    assert [(one.region, one.above) for one in usual.unusual(ledger)] == [("nose", True), ("mouth", False)]
    assert words.unusual(usual, ledger) == (
        "More like a generated face than in 95 of 100 real faces: nose +2.50 (nine in ten: −1.00 to +1.00). "
        "More like a photograph than in 95 of 100 real faces: mouth −1.50 (nine in ten: −1.00 to +1.00). "
        f"{counts}"
    )
    below = words.unusual(usual, ledger | {"nose": 0.0})
    assert below.startswith("More like a photograph than")
    assert "nose" not in below
    crowded = words.unusual(usual, ledger | {"jaw": 1.2, "brows": 1.1}, 1)
    assert "nose +2.50 (nine in ten: −1.00 to +1.00), and 2 more parts. More like a photograph" in crowded


def test_how_often_a_part_lies_above_the_band_is_counted(tmp_path, labelled):
    checkpoint = save_tiny(tmp_path / "tiny.safetensors")
    assert typical.main(["--data", str(labelled), "--images", "44", "--checkpoint", str(checkpoint)]) == 0
    found, detector = load(checkpoint), Detector.load(checkpoint)
    both = []
    for label, share in (("real", found.above_real), ("fake", found.above_fake)):
        paths = typical.pictures(labelled / label, 22)
        unusual = [found.unusual(detector.classify(path.read_bytes()).deciding.ledger) for path in paths]
        above = sum(any(one.above for one in ones) for ones in unusual)
        assert share == pytest.approx(above / 22, abs=1 / 22)
        both.append(sum(map(bool, unusual)) - above)
    assert 0 < found.above_real < 1
    assert max(both) > 2  # faces that a count of both sides would have


def test_a_file_of_another_format_is_not_used_and_one_without_its_counts_is_damaged(tmp_path, labelled):
    checkpoint = save_tiny(tmp_path / "tiny.safetensors")
    typical.main(["--data", str(labelled), "--images", "44", "--checkpoint", str(checkpoint)])
    path = typical.path_of(read_info(checkpoint))
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"format": content["format"] - 1}))
    assert load(checkpoint) is None
    path.write_text(json.dumps({key: value for key, value in content.items() if key != "above"}))
    with pytest.raises(CheckpointError, match="is damaged"):
        load(checkpoint)


def test_the_bars_stand_in_the_order_of_the_ledger_over_what_is_usual():
    band = Band(-1.0, -0.5, 0.0, 0.5, 3.0)
    usual = Typical("tiny", "0" * 64, dict.fromkeys(REGIONS, band), dict.fromkeys(REGIONS, band), 0.4, 0.9, 50, 60)
    frame = charts.ledger_frame(dict.fromkeys(REGIONS, 0.9) | {"bias": 0.1}, {}, usual)
    figure = charts.ledger_bars(frame, charts.LIGHT, usual)
    assert list(figure.layout.yaxis.categoryarray) == list(frame["region"])[::-1]
    bands, bars = figure.data
    assert (set(bands.base), set(bands.x), len(bars.x)) == ({-1.0}, {4.0}, len(REGIONS) + 1)
    assert figure.layout.xaxis.range[1] >= 3.0
    assert len(charts.ledger_bars(frame, charts.LIGHT).data) == 1
