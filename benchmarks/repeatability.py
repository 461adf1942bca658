"""`python -m benchmarks.repeatability`: how far the same picture's logit moves with instruction set and threads.

The bundled pictures are judged in processes of their own: as this machine does it, with one thread, and with vector
instructions held down to SSE4.1. Boxes of faces are compared too. With `--write` the table goes into docs/evidence.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from benchmarks._page import machine, publish, table
from benchmarks.background import PAGE
from dashboard.settings import sample_dir
from model.checkpoint import list_checkpoints
from model.detector import Detector
from model.sources import from_folder

_OLD = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
WAYS: dict[str, tuple[Mapping[str, str], int]] = {  # variables, and threads; 0 for as many as there are cores
    "as it is": ({}, 0),
    "one thread": ({}, 1),
    "SSE4.1": (_OLD, 0),
}
_Judged = dict[str, tuple[float, list[float]]]  # by picture and face: logit and box


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print and, if asked, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repeatability", description=__doc__.split("\n")[0])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--judge", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="write the section of docs/evidence.md")
    options = parser.parse_args(arguments)
    if options.judge:
        checkpoint, precision, threads = options.judge
        print(json.dumps(judged(checkpoint, precision, int(threads))))
        return 0
    rows = []
    for info in list_checkpoints():
        for precision in options.precisions:
            found = {name: _in_process(info.name, precision, *way) for name, way in WAYS.items()}
            reference = found.pop("as it is")
            apart = [compared(reference, other) for other in found.values()]
            moved = [f"{max(logit for logit, _ in apart):.1g}", f"{max(box for _, box in apart):.1g}"]
            rows.append([f"`{info.name}`", precision, str(len(reference)), *moved])
            print(*rows[-1], file=sys.stderr, flush=True)
    head = ("Network", "Precision", "Faces", "Logits apart, at most", "Boxes apart, at most (px)")
    asked = " ".join(options.precisions)
    text = "\n\n".join(
        (
            "## The same picture on other processors",
            f"{machine()} Written by `python -m benchmarks.repeatability --precisions {asked} --write`, all bundled "
            "pictures.",
            table(head, rows),
        )
    )
    publish(text, PAGE, "repeatability", write=options.write)
    return 0


def judged(checkpoint: str, precision: str, threads: int) -> _Judged:
    """What every face of the bundled pictures gets."""
    detector = Detector.load(checkpoint, precision=precision, threads=threads)
    results = detector.classify_many(from_folder(sample_dir()).sources)
    return {
        f"{result.name} {number}": (face.logit, list(face.face.box))
        for result in results
        for number, face in enumerate(result.faces)
        if face.logit is not None
    }


def compared(one: _Judged, other: _Judged) -> tuple[float, float]:
    """The largest difference of a logit, and of a side of a box in pixels; infinite where other faces were found."""
    if one.keys() != other.keys():
        return float("inf"), float("inf")
    logits = max(abs(one[face][0] - other[face][0]) for face in one)
    boxes = max(abs(a - b) for face in one for a, b in zip(one[face][1], other[face][1], strict=True))
    return logits, boxes


def _in_process(checkpoint: str, precision: str, variables: Mapping[str, str], threads: int) -> _Judged:
    command = [sys.executable, "-m", "benchmarks.repeatability", "--judge", checkpoint, precision, str(threads)]
    done = subprocess.run(command, env=os.environ | variables, check=True, capture_output=True, text=True)  # noqa: S603
    found: _Judged = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
