import json

import pytest

from model import typical
from model.checkpoint import CheckpointError, read_info
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
    stated = {"format": 1, "checkpoint_sha256": read_info(checkpoint).sha256, "real": {}}
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
    usual = Typical("tiny", "0" * 64, dict.fromkeys(REGIONS, band), dict.fromkeys(REGIONS, band), 50, 50)
    ledger = dict.fromkeys(REGIONS, 0.9) | {"bias": 7.0}
    assert usual.unusual(ledger) == []
    nose, mouth = usual.unusual(ledger | {"mouth": -1.5, "nose": 2.5})
    assert (nose.region, nose.toward_fake, mouth.region, mouth.toward_fake) == ("nose", True, "mouth", False)
    assert nose.sentence == (
        "Nose: +2.50 log-odds is unusual for a real face; nine in ten lie between -1.00 and +1.00."
    )
