"""Decoding in helper processes: a file that hangs, exhausts or crashes a decoder costs one helper and not the server.

Image decoders are C code that reads what adversaries wrote. A helper has an address space of its own with a ceiling,
may write no file, gets a deadline for every picture, and is replaced when it misses it. It imports the imaging module
alone: no torch, no settings, no runs.

    with Sandbox() as sandbox, imaging.decoding_by(sandbox):
        imaging.decode(data)   # in a helper
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from PIL import Image

from model.imaging import DecodedImage, Glance, ImageError, Limits

_IMAGING = Path(__file__).with_name("imaging.py")
# Runs in the helper. Its own standard output carries answers alone, so that nothing a library prints gets among them.
_HELPER = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("imaging", sys.argv[1])
imaging = sys.modules["imaging"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(imaging)
answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
imaging.serve(sys.stdin.buffer, answers, memory_bytes=int(sys.argv[2]))
"""
_CHUNK = 1 << 20
_MAX_HEAD = 1 << 16


class Sandbox:
    """A few helper processes, begun when first needed. May be used from several threads.

    Parameters
    ----------
    helpers : int
        Files that are decoded at one time; others wait their turn, and their deadline begins with it.
    seconds : float
        Deadline for one file.
    memory_mb : int
        Address space of one helper. A picture of 50 million pixels needs up to about 2,000 MB.
    """

    def __init__(self, *, helpers: int | None = None, seconds: float = 20.0, memory_mb: int = 3000) -> None:
        self.seconds = seconds
        self.memory_mb = memory_mb
        self._idle: list[_Helper] = []
        self._lock = threading.Lock()
        self._room = threading.Semaphore(helpers or min(4, os.cpu_count() or 1))
        self._closed = False

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decode(self, data: bytes, limits: Limits) -> DecodedImage:
        """Like `model.imaging.decode_here`.

        Raises
        ------
        ImageError
            As `decode_here`, and with the codes `too_slow` past the deadline, `too_much_memory`, and `undecodable`
            when the decoder crashed.
        """
        answer, pixels = self._ask({"task": "decode", "limits": asdict(limits)}, data)
        image = Image.frombuffer("RGB", answer["size"], pixels, "raw", "RGB", 0, 1)
        return DecodedImage(image, answer["sha256"], len(data), answer["format"], tuple(answer["notes"]))

    def miniature(self, data: bytes, side: int, *, crop: bool) -> Image.Image:
        """Like `model.imaging.miniature_here`; raises `ImageError` as `decode` does."""
        answer, pixels = self._ask({"task": "miniature", "side": side, "crop": crop}, data)
        return Image.frombytes("RGB", answer["size"], bytes(pixels))

    def glance(self, data: bytes, side: int) -> Glance:
        """Like `model.imaging.glance_here`; raises `ImageError` as `decode` does."""
        answer, pixels = self._ask({"task": "glance", "side": side}, data)
        told = answer["told"] | {"metadata": tuple(answer["told"]["metadata"])}
        return Glance(**told, grey=Image.frombytes("L", answer["size"], bytes(pixels)))

    def close(self) -> None:
        """End the helpers; those at work end with their file."""
        with self._lock:
            self._closed = True
            helpers, self._idle = self._idle, []
        for helper in helpers:
            helper.end()

    def _ask(self, question: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytearray]:
        with self._room:
            with self._lock:
                helper = self._idle.pop() if self._idle else None
            if helper is not None and not helper.alive:
                helper.kill()
                helper = None
            helper = helper or _Helper(self.memory_mb)
            try:
                answer, pixels = helper.ask(question, data, self.seconds)
            except TimeoutError:
                helper.kill()
                raise ImageError(
                    "too_slow",
                    f"The picture was not decoded within {self.seconds:g} seconds. Save it again as a plain JPEG.",
                ) from None
            except (OSError, ValueError):
                helper.kill()
                raise ImageError(
                    "undecodable", "The decoder broke down on this file. Obtain another copy of the picture."
                ) from None
            except BaseException:
                helper.kill()
                raise
            with self._lock:
                keep = not self._closed
                if keep:
                    self._idle.append(helper)
            if not keep:
                helper.end()
        if "code" in answer:
            raise ImageError(answer["code"], answer["message"])
        return answer, pixels


class _Helper:
    """One process that decodes file after file."""

    def __init__(self, memory_mb: int) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
        command = [sys.executable, "-I", "-c", _HELPER, str(_IMAGING), str(memory_mb * 2**20)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            bufsize=0,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._questions: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = self._process.stdout
        if os.name == "posix":
            os.set_blocking(self._questions.fileno(), False)
            os.set_blocking(self._answers.fileno(), False)
        self._fresh = True

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, question: dict[str, Any], data: bytes, seconds: float) -> tuple[dict[str, Any], bytearray]:
        """Answer and pixels; `TimeoutError` past the deadline, `OSError` or `ValueError` when the helper is gone."""
        end = time.monotonic() + seconds + (10.0 if self._fresh else 0.0)  # a new one has to import its libraries
        self._fresh = False
        line = json.dumps(question | {"length": len(data)}).encode() + b"\n"
        self._send(line, end)
        self._send(data, end)
        head = int.from_bytes(self._receive(4, end), "little")
        if head > _MAX_HEAD:
            raise ValueError("not an answer")
        answer = json.loads(bytes(self._receive(head, end)))
        if not isinstance(answer, dict):
            raise ValueError("not an answer")
        return answer, self._receive(int(answer.get("length", 0)), end)

    def end(self) -> None:
        """Let the helper go by itself; it reads the end of its input."""
        self._close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the helper at once."""
        self._process.kill()
        self._close()
        self._process.wait()

    def _close(self) -> None:
        for stream in (self._questions, self._answers):
            try:
                stream.close()
            except OSError:
                continue

    def _send(self, data: bytes, end: float) -> None:
        view = memoryview(data)
        while view:
            _wait(self._questions, selectors.EVENT_WRITE, end)
            sent = self._questions.write(view[:_CHUNK])
            view = view[sent or 0 :]

    def _receive(self, count: int, end: float) -> bytearray:
        out = bytearray(count)
        view, got = memoryview(out), 0
        while got < count:
            _wait(self._answers, selectors.EVENT_READ, end)
            more = os.read(self._answers.fileno(), min(_CHUNK, count - got))
            if not more:
                raise OSError("the helper has ended")
            view[got : got + len(more)] = more
            got += len(more)
        return out


def _wait(stream: IO[bytes], event: int, end: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, event)
        if not selector.select(max(0.0, end - time.monotonic())):
            raise TimeoutError
