import random
import threading
import time

import numpy as np
import pytest
import torch

from model import detector as detector_module
from model.calibration import Thresholds
from model.checkpoint import CheckpointError
from model.detector import READ_AHEAD, Detector
from model.imaging import decode
from model.regions import REGIONS
from model.sources import MemorySource
from model.tiers import tier
from tests.conftest import OneFace
from tests.support import crowd, detector_of, draw_face, encode, png, save_tiny, tiny_network


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return Detector.load(save_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors"))


def faces(count):
    """PNG files of faces that differ in colour."""
    return [encode(draw_face(160, skin=(225 - 9 * index, 175, 150))) for index in range(count)]


def alike(one, other, tolerance=1e-4):
    """Whether two results say the same, apart from time."""
    left, right = one.to_dict(), other.to_dict()
    left.pop("elapsed_ms")
    right.pop("elapsed_ms")
    for account in (left, right):
        for entry in (account, *account["face_results"]):
            for name in [name for name in entry if name.startswith("ledger_") or name in ("logit", "p_fake")]:
                entry[name] = pytest.approx(entry[name], abs=tolerance) if account is right else entry[name]
    return left == right


def test_a_face_is_judged_and_accounted_for(detector):
    data = encode(draw_face(), "JPEG")
    result = detector.classify(data, name="drawn.jpg")
    (face,) = result.faces
    assert (result.name, result.format, result.width, result.height) == ("drawn.jpg", "JPEG", 256, 256)
    assert result.size_bytes == len(data)
    assert result.sha256 == decode(data).sha256
    assert result.error is result.reason is None
    assert result.verdict == face.verdict
    assert result.verdict in ("real", "fake", "inconclusive")
    assert result.checkpoint == "tiny"
    assert result.checkpoint_sha256 == detector.checkpoint.sha256
    assert result.runtime == "torch-fp32"
    assert result.elapsed_ms > 0
    assert face.evidence.shape == (7, 7)
    assert face.evidence.sum() + face.bias == pytest.approx(face.logit, abs=1e-4)
    assert tuple(face.ledger) == (*REGIONS, "bias")
    assert sum(face.ledger.values()) == pytest.approx(face.logit, abs=1e-4)
    assert sum(face.regions_share.values()) == pytest.approx(1)
    assert face.regions_from == "mesh"
    assert result.to_dict()["face_results"][0]["regions_from"] == "mesh"
    assert face.p_fake == pytest.approx(detector.checkpoint.calibration.probability(face.logit))


def test_the_logit_is_the_networks_on_the_crop(detector):
    data = encode(draw_face())
    face = detector.classify(data).deciding
    crop = detector.crop(decode(data).pixels, face.face)
    assert crop.size == (224, 224)
    pixels = torch.from_numpy(np.asarray(crop, dtype=np.float32) / 255).permute(2, 0, 1)
    with torch.no_grad():
        expected = detector.network((pixels[None] - 0.5) / 0.25)
    assert face.logit == pytest.approx(float(expected), abs=1e-4)


def test_results_do_not_depend_on_batch_size_or_order(detector):
    files = [encode(crowd(2, 2)), *faces(5), encode(draw_face(60)), b"no image"]
    sources = [MemorySource(str(index), data) for index, data in enumerate(files)]
    expected = {source.name: detector.classify(source.read(), name=source.name) for source in sources}
    shuffled = random.Random(0).sample(sources, len(sources))
    for batch_size, order in ((1, sources), (3, shuffled), (16, sources), (100, shuffled)):
        found = list(detector.classify_many(order, batch_size=batch_size))
        assert [result.name for result in found] == [source.name for source in order]
        assert all(alike(result, expected[result.name]) for result in found), batch_size


def test_running_again_gives_the_same_to_the_bit(detector):
    sources = [MemorySource(str(index), data) for index, data in enumerate(faces(4))]
    one, two = (list(detector.classify_many(sources)) for _ in range(2))
    assert all(alike(left, right, tolerance=0) for left, right in zip(one, two, strict=True))


def test_the_most_fake_face_decides_and_every_face_is_kept(detector):
    result = detector.classify(encode(crowd()))
    logits = [face.logit for face in result.faces]
    assert len(logits) == 12
    assert len(set(logits)) > 6
    assert result.deciding_face == int(np.argmax(logits))
    assert result.logit == max(logits)
    assert result.verdict == result.deciding.verdict


def test_a_small_face_beside_a_large_one_is_kept_but_not_judged(detector):
    picture = draw_face(400)
    picture.paste(draw_face(60), (0, 0))
    result = detector.classify(encode(picture))
    assert [face.reason for face in result.faces] == [None, "face_too_small"]
    assert result.faces[1].logit is None
    assert result.deciding_face == 0
    assert result.reason is None


def test_thresholds_turn_probabilities_into_verdicts_and_share_the_network(detector):
    data = encode(draw_face())
    p_fake = detector.classify(data).p_fake
    for thresholds, verdict in (
        (Thresholds(0, p_fake, custom=True), "fake"),
        (Thresholds(p_fake, 1, custom=True), "real"),
        (Thresholds(0, 1, custom=True), "inconclusive"),
    ):
        other = detector.with_thresholds(thresholds)
        assert other.network is detector.network
        result = other.classify(data)
        assert (result.verdict, result.p_fake, result.thresholds) == (verdict, p_fake, thresholds)
    assert detector.thresholds == detector.checkpoint.thresholds


def test_many_is_lazy_and_stopping_early_stops_reading(detector):
    read = []

    class Counted:
        def __init__(self, index):
            self.name = str(index)

        def read(self):
            read.append(self.name)
            return b"no image"

    results = detector.classify_many((Counted(index) for index in range(1000)), batch_size=1)
    assert read == []
    assert next(results).name == "0"
    results.close()
    count = len(read)
    assert count <= 2 * READ_AHEAD
    assert [result.name for result in detector.classify_many([])] == []
    assert len(read) == count


def test_images_on_their_way_do_not_hold_their_pixels(detector):
    prepared = detector._prepare("large", lambda: encode(draw_face(800), "JPEG"))
    (crop,) = prepared.crops
    assert (crop.shape, crop.dtype) == ((224, 224, 3), np.uint8)
    held = [value for value in vars(prepared).values() if hasattr(value, "tobytes") or hasattr(value, "pixels")]
    assert held == []


def test_crowds_are_cut_out_no_further_ahead_than_there_is_room_for(detector, monkeypatch):
    class Crowd:
        def find(self, image):
            return OneFace().find(image) * 20

    class Counted(MemorySource):
        def read(self):
            read.append(self.name)
            return self.data

    monkeypatch.setattr(detector_module, "_finder", Crowd)
    read: list[str] = []
    files = (faces(4) * 3)[:10]
    found = []
    for batches in (2, 10**6):  # the first has room for 8 faces, less than one picture shows
        read.clear()
        monkeypatch.setattr(detector_module, "CROPS_AHEAD", batches)
        results = detector.classify_many([Counted(str(at), data) for at, data in enumerate(files)], batch_size=4)
        found.append([next(results)])
        end = time.monotonic() + (0.5 if batches == 2 else 60)
        while len(read) < len(files) and time.monotonic() < end:
            time.sleep(0.02)
        assert (len(read) <= 2) == (batches == 2)
        found[-1] += results
    assert all(alike(left, right, tolerance=0) for left, right in zip(*found, strict=True))
    monkeypatch.setattr(detector_module, "CROPS_AHEAD", 2)
    waiting = detector.classify_many([Counted(str(at), data) for at, data in enumerate(files)], batch_size=4)
    next(waiting)
    waiting.close()  # does not wait for room that nobody makes


def test_a_transform_is_applied_before_faces_are_looked_for(detector):
    data = encode(draw_face(1200), "JPEG", quality=95)
    (plain,) = detector.classify_many([MemorySource("a", data)])
    (web,) = detector.classify_many([MemorySource("a", data)], transform=lambda image: tier(image, "web"))
    assert (plain.width, web.width) == (1200, 768)
    assert plain.sha256 == web.sha256
    assert web.faces[0].face.size < plain.faces[0].face.size
    assert web.logit != plain.logit


@pytest.mark.parametrize("batch_size", [0, -1])
def test_an_impossible_batch_size_is_refused(detector, batch_size):
    with pytest.raises(ValueError, match=f"got {batch_size}"):
        list(detector.classify_many([], batch_size=batch_size))


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="'fp8'"):
        detector_of(tiny_network(), precision="fp8")


def test_bfloat16_is_close_named_and_still_accounts_for_its_logit():
    network = tiny_network()
    data = encode(draw_face())
    whole = detector_of(network).classify(data)
    half = detector_of(network, precision="bf16").classify(data)
    assert half.runtime == "torch-bf16"
    assert half.logit != whole.logit
    assert half.logit == pytest.approx(whole.logit, abs=0.1)
    (face,) = half.faces
    assert face.evidence is not None
    assert face.evidence.dtype == np.float32
    assert sum(face.ledger.values()) == pytest.approx(half.logit, abs=1e-4)


def test_a_failure_while_examining_is_named_and_the_rest_goes_on(detector, monkeypatch):
    class Finder:
        def find(self, image):
            if image.width == 160:
                raise RuntimeError("the finder broke")
            return []

    monkeypatch.setattr(detector_module, "_finder", Finder)
    sources = [MemorySource("a", encode(draw_face(160))), MemorySource("b", encode(draw_face(170)))]
    first, second = detector.classify_many(sources)
    assert (first.verdict, first.reason) == ("not_applicable", "failed")
    assert first.error == "a: could not be examined (RuntimeError: the finder broke)."
    assert (second.reason, second.error) == ("no_face", None)


def test_a_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors does not exist"):
        Detector.load(tmp_path / "nowhere.safetensors")


def test_eight_threads_sharing_a_detector_get_what_one_gets(detector):
    files = [*faces(6), encode(crowd(2, 1)), b"no image", png(64, 64, 8, 0, b"")] * 3
    expected = [detector.classify(data) for data in files[:9]] * 3
    found: list = [None] * len(files)
    start = threading.Barrier(8)

    def work(first):
        start.wait()
        for index in range(first, len(files), 8):
            found[index] = detector.classify(files[index])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(alike(left, right, tolerance=0) for left, right in zip(found, expected, strict=True))
