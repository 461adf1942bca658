import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model.faces import LANDMARKS, SMALLEST, USABLE, Face, FaceFinder, Framing, _levels_to_skip
from tests.support import BACKDROP, crowd, draw_face

LEFT_EYE, RIGHT_EYE, NOSE, MOUTH_LEFT, MOUTH_RIGHT = range(5)


@pytest.fixture(scope="module")
def finder():
    return FaceFinder()


def face(box, score=1.0):
    return Face(box, score, ((0.0, 0.0),) * 5)


def test_the_drawn_face_is_found_where_it_was_drawn(finder):
    (found,) = finder.find(draw_face(256))
    assert found.score > 0.95
    assert found.box[0] < 103 < 156 < found.box[2]
    for index, (x, y) in {LEFT_EYE: (100, 118), RIGHT_EYE: (156, 118), NOSE: (128, 153)}.items():
        assert np.hypot(found.landmarks[index][0] - x, found.landmarks[index][1] - y) < 10, LANDMARKS[index]
    assert found.landmarks[MOUTH_LEFT][0] < found.landmarks[MOUTH_RIGHT][0]
    assert found.landmarks[MOUTH_LEFT][1] > found.landmarks[NOSE][1]


def test_coordinates_are_those_of_the_full_picture_however_large(finder):
    (small,) = finder.find(draw_face(256))
    (large,) = finder.find(draw_face(256).resize((1600, 1600), Image.Resampling.BICUBIC))
    assert large.box == pytest.approx([value * 6.25 for value in small.box], abs=1600 * 0.03)
    assert large.size > 640


def test_twelve_faces_are_found_largest_first(finder):
    found = finder.find(crowd())
    assert len(found) == 12
    sizes = [one.size for one in found]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("side", [256, 400, 640, 700, 900])
def test_without_the_finest_levels_the_usable_faces_are_the_same(finder, side):
    picture = Image.new("RGB", (side, side), BACKDROP)
    for place, drawn in ((0, side // 2), (side // 2, side // 3), (side * 5 // 6, side // 8)):
        picture.paste(draw_face(256).resize((drawn, drawn), Image.Resampling.LANCZOS), (place, place))
    scale = min(1, 640 / side)
    small = picture.resize((round(side * scale),) * 2, Image.Resampling.BILINEAR, reducing_gap=2.0)
    everything = finder._search(np.asarray(small), (side / small.width,) * 2, 0)
    usable = [one for one in finder.find(picture) if one.size >= USABLE]
    assert usable
    assert usable == [one for one in everything if one.size >= USABLE]


def test_a_small_face_is_found_where_there_is_no_other(finder):
    picture = Image.new("RGB", (400, 400), BACKDROP)
    picture.paste(draw_face(256).resize((36, 36), Image.Resampling.LANCZOS), (160, 150))
    assert finder._search(np.asarray(picture), (1, 1), 2) == []
    (found,) = finder.find(picture)
    assert found.size < USABLE / 2


@given(st.floats(0.01, 1))
def test_levels_are_left_out_only_where_a_usable_face_is_far_larger_than_their_windows(scale):
    skipped = _levels_to_skip(scale)
    smallest = SMALLEST / 0.709**skipped  # the finest window that is left
    assert skipped == 0 or smallest * 1.59 <= USABLE * scale
    assert SMALLEST / 0.709 ** (skipped + 1) * 1.61 > USABLE * scale


@pytest.mark.parametrize("size", [(256, 256), (32, 32), (4000, 32), (32, 4000)])
def test_a_picture_without_a_face_has_none(finder, size):
    assert finder.find(Image.new("RGB", size, BACKDROP)) == []


def test_faces_below_the_confidence_asked_for_are_dropped():
    assert FaceFinder(min_score=1.1).find(draw_face(256)) == []


def test_one_finder_in_eight_threads_finds_what_it_finds_in_one(finder):
    pictures = [draw_face(side) for side in (80, 120, 200, 256)] * 4
    expected = [finder.find(picture) for picture in pictures]
    found: list = [None] * len(pictures)

    def work(first: int) -> None:
        for index in range(first, len(pictures), 8):
            found[index] = finder.find(pictures[index])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


@given(
    st.integers(32, 5000),
    st.integers(32, 5000),
    st.floats(-0.2, 1),
    st.floats(-0.2, 1),
    st.floats(0.01, 1.3),
    st.floats(0.5, 2),
    st.floats(0.2, 1),
    st.floats(-0.5, 0.5),
)
def test_a_crop_is_a_square_inside_the_picture(width, height, x, y, tall, aspect, share, offset):
    x0, y0, face_height = x * width, y * height, tall * height
    found = face((x0, y0, x0 + face_height * aspect, y0 + face_height))
    box = Framing(face_share=share, vertical_offset=offset).crop_box(found, width, height)
    assert box[2] - box[0] == pytest.approx(box[3] - box[1])
    assert box[2] - box[0] == pytest.approx(min(face_height / share, width, height))
    # Pillow reads a box as 32-bit floats and refuses one that leaves the picture.
    left, top, right, bottom = np.array(box, dtype=np.float32)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_with_room_around_it_the_face_takes_its_share_of_the_crop():
    box = Framing(face_share=0.5, vertical_offset=0.1).crop_box(face((400, 400, 480, 500)), 1000, 1000)
    assert box == pytest.approx((340, 340, 540, 540))  # centre 440, 450 - 0.1 * 100; side 100 / 0.5


def test_a_cut_has_the_framings_side_and_passed_jpeg_once():
    picture, box = draw_face(256), (20.5, 10.25, 220.5, 210.25)
    plain = Framing(side=96, jpeg_quality=None).cut(picture, box)
    stored = Framing(side=96, jpeg_quality=40, stored_side=None).cut(picture, box)
    assert plain.size == stored.size == (96, 96)
    gap = np.abs(np.asarray(plain, dtype=int) - np.asarray(stored, dtype=int)).mean()
    assert 0 < gap < 10
    whole = Framing(side=256, jpeg_quality=None).cut(picture, (0, 0, 256, 256))
    assert whole.tobytes() == picture.tobytes()


def test_only_a_crop_that_is_scaled_down_to_the_stored_side_passes_jpeg():
    picture = draw_face(256)
    framing = Framing(side=96, jpeg_quality=40, stored_side=128)
    plain = Framing(side=96, jpeg_quality=None)
    small, large = (40, 40, 168, 168), (40, 40, 169, 169)
    assert framing.cut(picture, small).tobytes() == plain.cut(picture, small).tobytes()
    assert framing.cut(picture, large).tobytes() != plain.cut(picture, large).tobytes()


def test_the_size_of_a_face_is_the_geometric_mean_and_never_imaginary():
    assert face((0, 0, 40, 90)).size == pytest.approx(60)
    assert face((10, 10, 5, 90)).size == 0
