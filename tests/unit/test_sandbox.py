"""Decoding in helper processes gives the same pictures, and survives what would take this process with it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms

from model import imaging
from model import sandbox as sandbox_module
from model.imaging import (
    DecodedImage,
    ImageError,
    Limits,
    decode,
    decode_here,
    decoding_by,
    glance,
    glance_here,
    miniature,
)
from model.sandbox import Sandbox, SandboxError
from tests.support import draw_face, encode, png16, png_bomb

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits of processes are POSIX's")
LIMITS = Limits()
FILES = {name: encode(draw_face(64), name) for name in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")}
FILES |= {"16 bit": png16(draw_face(64)), "CMYK": encode(draw_face(64).convert("CMYK"), "JPEG")}
BROKEN = {
    "empty": b"",
    "text": b"hello",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "cut": encode(draw_face(64), "JPEG")[:900],
    "bomb": png_bomb(),
    "dot": encode(Image.new("RGB", (1, 1))),
}


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(helpers=2) as made:
        yield made


@pytest.mark.parametrize("name", FILES)
def test_a_helper_decodes_as_this_process_does(sandbox: Sandbox, name: str) -> None:
    here, there = decode_here(FILES[name], LIMITS), sandbox.decode(FILES[name], LIMITS)
    assert here.pixels.tobytes() == there.pixels.tobytes()
    assert [getattr(here, field) for field in ("size_bytes", "sha256", "format", "notes", "width", "height")] == [
        getattr(there, field) for field in ("size_bytes", "sha256", "format", "notes", "width", "height")
    ]
    for crop in (True, False):
        small = sandbox.miniature(FILES[name], 24, crop=crop)
        assert small.size == (24, 24)
        assert small.tobytes() == miniature(FILES[name], 24, crop=crop).tobytes()
    one, other = vars(glance_here(FILES[name], 16)), vars(sandbox.glance(FILES[name], 16))
    assert one.pop("grey").tobytes() == other.pop("grey").tobytes()
    assert one == other


@pytest.mark.parametrize("name", BROKEN)
def test_a_helper_refuses_as_this_process_does(sandbox: Sandbox, name: str) -> None:
    told = []
    for attempt in (decode_here, sandbox.decode):
        with pytest.raises(ImageError) as caught:
            attempt(BROKEN[name], LIMITS)
        told.append((caught.value.code, str(caught.value)))
    assert told[0] == told[1]


def test_limits_are_the_callers(sandbox: Sandbox) -> None:
    with pytest.raises(ImageError) as caught:
        sandbox.decode(FILES["PNG"], Limits(max_pixels=10))
    assert caught.value.code == "too_many_pixels"


def test_the_whole_process_can_be_told_to_decode_in_helpers(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    def never(data: bytes, limits: Limits) -> DecodedImage:
        raise AssertionError("decoded in this process")

    monkeypatch.setattr(imaging, "decode_here", never)
    monkeypatch.setattr(imaging, "glance_here", never)
    with decoding_by(sandbox):
        assert decode(FILES["PNG"]).width == 64
        assert miniature(FILES["PNG"], 8).size == (8, 8)
        assert glance(FILES["PNG"], 8).width == 64
    with pytest.raises(AssertionError):
        decode(FILES["PNG"])


def test_past_its_deadline_a_helper_is_replaced() -> None:
    with Sandbox(helpers=1) as sandbox:
        sandbox.decode(FILES["PNG"], LIMITS)
        (helper,) = sandbox._idle
        helper._process.send_signal(signal.SIGSTOP)  # hangs, as a decoder may
        sandbox.seconds = 0.3
        start = time.monotonic()
        with pytest.raises(ImageError) as caught:
            sandbox.decode(FILES["PNG"], LIMITS)
        assert (caught.value.code, time.monotonic() - start < 5) == ("too_slow", True)
        assert not helper.alive
        assert sandbox.decode(FILES["PNG"], LIMITS).width == 64


def test_a_helper_that_dies_at_work_costs_its_file_alone() -> None:
    with Sandbox(helpers=1) as sandbox:
        sandbox.decode(FILES["PNG"], LIMITS)
        (helper,) = sandbox._idle
        helper._process.send_signal(signal.SIGSTOP)

        def crash() -> None:
            time.sleep(0.3)
            helper._process.send_signal(signal.SIGSEGV)
            helper._process.send_signal(signal.SIGCONT)

        threading.Thread(target=crash).start()
        with pytest.raises(ImageError) as caught:
            sandbox.decode(FILES["PNG"], LIMITS)
        assert caught.value.code == "undecodable"
        assert sandbox.decode(FILES["PNG"], LIMITS).width == 64


def test_a_helper_that_died_while_idle_is_replaced_unnoticed() -> None:
    with Sandbox(helpers=1) as sandbox:
        sandbox.decode(FILES["PNG"], LIMITS)
        sandbox._idle[0]._process.kill()
        sandbox._idle[0]._process.wait()
        assert sandbox.decode(FILES["PNG"], LIMITS).width == 64


def test_memory_has_a_ceiling() -> None:
    large = encode(Image.new("I;16", (6000, 6000)), "PNG")  # 36 million pixels of 16 bits, in 70 KB
    with Sandbox(helpers=1, memory_mb=500) as sandbox:
        with pytest.raises(ImageError) as caught:
            sandbox.decode(large, LIMITS)
        assert caught.value.code == "too_much_memory"
        assert sandbox.decode(FILES["PNG"], LIMITS).width == 64


def test_the_largest_accepted_picture_fits() -> None:
    wide = Image.new("I;16", (7000, 7000))
    with Sandbox(helpers=1) as sandbox:
        assert sandbox.decode(encode(wide, "PNG"), LIMITS).width == 7000


def test_a_helper_writes_nothing_and_knows_nothing(tmp_path) -> None:
    with Sandbox(helpers=1) as sandbox:
        sandbox.decode(FILES["PNG"], LIMITS)
        pid = sandbox._idle[0]._process.pid
        if not os.path.isdir(f"/proc/{pid}"):
            pytest.skip("no /proc")
        with open(f"/proc/{pid}/limits") as file:
            limits = file.read()
        with open(f"/proc/{pid}/environ") as file:
            assert "REALITY_CHECK" not in file.read()
        with open(f"/proc/{pid}/maps") as file:
            assert "torch" not in file.read()
    assert [line.split()[3] for line in limits.splitlines() if line.startswith("Max file size")] == ["0"]


def test_many_threads_share_few_helpers() -> None:
    names = list(FILES) * 6
    seen: dict[int, bytes] = {}

    def work(place: int) -> None:
        seen[place] = sandbox.decode(FILES[names[place]], LIMITS).pixels.tobytes()

    with Sandbox(helpers=2) as sandbox:
        threads = [threading.Thread(target=work, args=(place,)) for place in range(len(names))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(sandbox._idle) <= 2
    expected = {name: decode_here(data, LIMITS).pixels.tobytes() for name, data in FILES.items()}
    assert all(seen[place] == expected[name] for place, name in enumerate(names))


def test_helpers_end_with_the_sandbox_and_with_their_parent() -> None:
    script = (
        "import os, sys; from model.sandbox import Sandbox; from model.imaging import Limits\n"
        "sandbox = Sandbox(helpers=1); sandbox.decode(open(sys.argv[1], 'rb').read(), Limits())\n"
        "print(sandbox._idle[0]._process.pid, flush=True); os._exit(1)"
    )
    sample = os.path.join(os.path.dirname(imaging.__file__), "..", "sample_images", "real", "barack_obama_portrait.jpg")
    done = subprocess.run([sys.executable, "-c", script, sample], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    end = time.monotonic() + 10
    while _lives(pid):
        assert time.monotonic() < end, "the helper outlived its parent"
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# A helper in an adversary's hands: it sends what stands in its second argument, after reading all it is asked.
FORGED = """
import json, sys
out = sys.stdout.buffer
out.write(b"R"); out.flush()
question = json.loads(sys.stdin.buffer.readline())
sys.stdin.buffer.read(question["length"])
head = sys.argv[2].encode()
out.write(len(head).to_bytes(4, "little") + head + bytes(100)); out.flush()
sys.stdin.buffer.read()
"""
TOLD = {"sha256": "0" * 64, "format": "PNG", "notes": []}


@pytest.mark.parametrize(
    "answer",
    [
        TOLD | {"size": [64, 64], "length": 10**9},
        TOLD | {"size": [20_000, 20_000], "length": 3 * 20_000**2},
        TOLD | {"size": [-8, -4], "length": 96},
        TOLD | {"size": [8, 4], "length": -1},
        TOLD | {"size": [8, 4], "length": 32},
        TOLD | {"size": [8.0, 4], "length": 96},
        TOLD | {"size": [8], "length": 96},
        TOLD | {"length": 96},
        {"size": [8, 4], "length": 96},
        {"code": "truncated", "length": 0},
        {"code": "truncated", "message": "Cut.", "length": 100},
        [],
    ],
    ids=str,
)
def test_an_answer_that_does_not_fit_is_refused_before_memory_is_taken(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_module, "_HELPER", FORGED)
    monkeypatch.setattr(sandbox_module, "_IMAGING", "unused")
    popen = subprocess.Popen

    def forged(command: list[str], **options: Any) -> Any:
        return popen([*command[:-1], json.dumps(answer)], **options)

    monkeypatch.setattr(subprocess, "Popen", forged)
    with Sandbox(helpers=1, seconds=30) as sandbox:
        tracemalloc.start()
        with pytest.raises(ImageError) as caught:
            sandbox.decode(FILES["PNG"], LIMITS)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sandbox._idle == []  # it is not asked again
    assert caught.value.code == "undecodable"
    assert peak < 10 * 2**20


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("raise SystemExit", "the helper has ended"),
        ("import os; os.write(1, b'hello')", "not a helper"),
        ("import time; time.sleep(60)", "no answer in time"),
    ],
)
def test_a_helper_that_does_not_start_is_no_fault_of_the_picture(
    source: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_module, "_HELPER", source)
    if "sleep" in source:
        monkeypatch.setattr(sandbox_module, "_START_SECONDS", 0.5)
    with Sandbox(helpers=1) as sandbox:
        for _ in range(2):  # its place is free again
            with pytest.raises(SandboxError, match="does not start") as caught:
                sandbox.decode(FILES["PNG"], LIMITS)
            assert str(caught.value).endswith(said)


def test_a_system_that_gives_no_process_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with Sandbox(helpers=1) as sandbox, pytest.raises(SandboxError, match="No process .*No such file"):
        sandbox.decode(FILES["PNG"], LIMITS)


def test_what_a_library_prints_as_it_is_imported_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chatty = tmp_path / "imaging.py"
    future = "from __future__ import annotations\n"
    chatty.write_text(Path(imaging.__file__).read_text("utf-8").replace(future, f"{future}print('welcome')\n"), "utf-8")
    monkeypatch.setattr(sandbox_module, "_IMAGING", chatty)
    with Sandbox(helpers=1) as sandbox:
        assert sandbox.decode(FILES["PNG"], LIMITS).width == 64


def test_a_helper_that_waits_holds_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[weakref.ref[Image.Image]] = []

    def done(question: dict[str, Any], data: bytes) -> tuple[dict[str, Any], Image.Image]:
        image = Image.new("RGB", (8, 4))
        seen.append(weakref.ref(image))
        return {"size": image.size}, image

    class Questions(io.BytesIO):
        def __next__(self) -> bytes:
            assert all(image() is None for image in seen)
            return super().__next__()

    monkeypatch.setattr(imaging, "_done", done)
    monkeypatch.setattr(imaging, "_confine", lambda memory_bytes: None)
    answers = io.BytesIO()
    imaging.serve(Questions(b'{"length": 2}\nab' * 2), answers, memory_bytes=0)
    assert len(seen) == 2 and answers.getvalue().startswith(imaging.READY)


def test_a_profile_beyond_all_reason_is_ignored() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    huge = srgb + bytes(5 * 2**20)
    found = decode(encode(draw_face(64), "TIFF", icc_profile=huge))
    assert found.notes == ("its colour profile is too large and was ignored",)
    assert found.pixels.tobytes() == draw_face(64).tobytes()
