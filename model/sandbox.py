"""Decoding in helper processes: a file that hangs, exhausts or crashes a decoder costs one helper and not the server.

Image decoders are C code that reads what adversaries wrote. A helper has an address space of its own with a ceiling,
may write no file, gets a deadline for every picture, and is replaced when it misses it. It imports the imaging module
alone: no torch, no settings, no runs. What it answers is believed no further than that it fits the question.

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
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, TypeVar

from PIL import Image

from model.imaging import READY, DecodedImage, Glance, ImageError, Limits

_IMAGING = Path(__file__).with_name("imaging.py")
# Runs in the helper. Its own standard output carries answers alone, so that nothing a library prints gets among them.
_HELPER = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("imaging", sys.argv[1])
imaging = sys.modules["imaging"] = importlib.util.module_from_spec(spec)
answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
spec.loader.exec_module(imaging)
imaging.serve(sys.stdin.buffer, answers, memory_bytes=int(sys.argv[2]))
"""
_CHUNK = 1 << 20
_MAX_HEAD = 1 << 16
_START_SECONDS = 30.0  # for its imports, on a machine that is busy
_Made = TypeVar("_Made")


class SandboxError(RuntimeError):
    """A helper that does not start: no picture's fault. The message says why."""


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
        SandboxError
            If there is no helper and none starts.
        """

        def made(answer: dict[str, Any], image: Image.Image) -> DecodedImage:
            return DecodedImage(image, answer["sha256"], len(data), answer["format"], tuple(answer["notes"]))

        return self._ask({"task": "decode", "limits": asdict(limits)}, data, "RGB", limits.max_pixels, made)

    def miniature(self, data: bytes, side: int, *, crop: bool) -> Image.Image:
        """Like `model.imaging.miniature_here`; raises as `decode` does."""
        question = {"task": "miniature", "side": side, "crop": crop}
        return self._ask(question, data, "RGB", side * side, lambda answer, image: image)

    def glance(self, data: bytes, side: int) -> Glance:
        """Like `model.imaging.glance_here`; raises as `decode` does."""

        def made(answer: dict[str, Any], image: Image.Image) -> Glance:
            return Glance(**answer["told"] | {"metadata": tuple(answer["told"]["metadata"])}, grey=image)

        return self._ask({"task": "glance", "side": side}, data, "L", Limits.max_pixels, made)

    def close(self) -> None:
        """End the helpers; those at work end with their file."""
        with self._lock:
            self._closed = True
            helpers, self._idle = self._idle, []
        for helper in helpers:
            helper.end()

    def _ask(
        self,
        question: dict[str, Any],
        data: bytes,
        mode: str,
        max_pixels: int,
        made: Callable[[dict[str, Any], Image.Image], _Made],
    ) -> _Made:
        """What `made` makes of the answer and its picture, which is of a Pillow mode and of `max_pixels` at most."""
        with self._room:
            with self._lock:
                helper = self._idle.pop() if self._idle else None
            if helper is not None and not helper.alive:
                helper.kill()
                helper = None
            helper = helper or _Helper(self.memory_mb)
            try:
                answer, image = helper.ask(question, data, self.seconds, mode, max_pixels)
                found = None if image is None else made(answer, image)
            except TimeoutError:
                helper.kill()
                raise ImageError(
                    "too_slow",
                    f"The picture was not decoded within {self.seconds:g} seconds. Save it again as a plain JPEG.",
                ) from None
            except (OSError, ValueError, TypeError, LookupError, RecursionError):
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
        if found is None:
            raise ImageError(str(answer["code"]), str(answer["message"]))
        return found


class _Helper:
    """One process that decodes file after file; `SandboxError` if it does not start."""

    def __init__(self, memory_mb: int) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
        command = [sys.executable, "-I", "-c", _HELPER, str(_IMAGING), str(memory_mb * 2**20)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=kept | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                bufsize=0,
            )
        except OSError as error:
            raise SandboxError(f"No process for decoding can be started ({error.strerror or error}).") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None and self._process.stderr is not None
        self._questions: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = self._process.stdout
        with self._process.stderr as complaints:  # until it is ready; later it speaks to nobody
            if os.name == "posix":
                for stream in (self._questions, self._answers, complaints):
                    os.set_blocking(stream.fileno(), False)
            try:
                if self._receive(len(READY), time.monotonic() + _START_SECONDS) != READY:
                    raise ValueError("not a helper")
            except (OSError, ValueError) as error:  # TimeoutError is an OSError
                self.kill()
                said = (complaints.read(_MAX_HEAD) or b"").decode("utf-8", "replace").strip() or str(error)
                raise SandboxError(f"The process for decoding does not start: {said.splitlines()[-1][:300]}") from error
            except BaseException:
                self.kill()
                raise

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(
        self, question: dict[str, Any], data: bytes, seconds: float, mode: str, max_pixels: int
    ) -> tuple[dict[str, Any], Image.Image | None]:
        """Answer and picture, which a refusal lacks.

        Raises
        ------
        TimeoutError
            Past the deadline.
        OSError, ValueError, TypeError, LookupError, RecursionError
            When the helper is gone, or what it sends is no answer to the question.
        """
        end = time.monotonic() + seconds
        line = json.dumps(question | {"length": len(data)}).encode() + b"\n"
        self._send(line, end)
        self._send(data, end)
        head = int.from_bytes(self._receive(4, end), "little")
        if head > _MAX_HEAD:
            raise ValueError("not an answer")
        answer = json.loads(bytes(self._receive(head, end)))
        if not isinstance(answer, dict):
            raise ValueError("not an answer")
        if "code" in answer:
            if answer["length"] != 0:
                raise ValueError("not a refusal")
            return {"code": answer["code"], "message": answer["message"]}, None
        width, height = answer["size"]
        if type(width) is not int or type(height) is not int or min(width, height) < 1 or width * height > max_pixels:
            raise ValueError("not a size")
        if answer["length"] != width * height * len(Image.getmodebandnames(mode)):
            raise ValueError("not a picture")
        pixels = self._receive(answer["length"], end)
        return answer, Image.frombuffer(mode, (width, height), pixels, "raw", mode, 0, 1)

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
            raise TimeoutError("no answer in time")
