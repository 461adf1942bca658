"""`make bench`: verdicts with their maps per processor-second, beside the usual loop; writes docs/performance.md.

The usual loop takes torchvision's ResNet-50 and one face at a time: a forward pass for the score, then pytorch-grad-cam
for the map. The same network, which is not bundled, also stands among ours, with weights drawn at random.
Both sides have the same faces, threads, decoder and face finder. Times are processor seconds of all threads, in rounds
that take turns, and each side counts with its median: only ratios travel to another machine.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._page import machine, table, write_section
from benchmarks._speed import Peak, UsualLoop, cold_start, gigaflops, take_turns
from dashboard.settings import sample_dir
from model import quality, runtimes
from model.backbones import build
from model.checkpoint import CheckpointError, CheckpointInfo, list_checkpoints, read_info, resolve
from model.detector import Detector
from model.evidence import ledger
from model.faces import FaceFinder
from model.imaging import ImageError, decode
from model.network import save
from model.regions import find_mesh, masks
from model.sources import MemorySource, SourceError, from_folder

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
REFERENCE = "resnet50"  # the bundled checkpoint whose crops the usual loop has
FULL = "resnet50_full_width"
_TEXT = """## {kind}

{machine}
PyTorch {torch}, {threads}. Figures are per processor-second (user and system time of all threads), medians of {rounds}
rounds that take turns; other work on the machine slows them alike, so trust the ratios.

### Verdicts and maps

The usual loop is torchvision's ResNet-50 with pytorch-grad-cam, one face at a time: {naive:.2f} faces per
processor-second with maps, {plain:.2f} without. Ours gives the exact map with every verdict, so that it has no row
without them. `{full}` is the network of the usual loop in our pipeline (weights drawn at random; it is not
bundled); `resnet50` is half as wide. `finished crops` is the network alone; `from files` adds decoding, face finding,
cutting, the facial mesh and the ledger, to both sides ({files:.2f} files per processor-second in the usual loop, which
finds faces but draws no mesh). The share of peak is of what a 3 x 3 convolution or a matrix product of PyTorch's,
whichever is quicker, sustains on this machine in the same precision, in the same rounds: {peaks} (10^9 operations per
processor-second, medians as everywhere here). Single calls of a few milliseconds reached {bursts}.

{speed}

What is missing in the table was refused:

{refused}

### Where the time goes

Milliseconds of processor time per face, of the bundled pictures.

{stages}

### Cold start

A new process, from its first import to the verdict on one picture, processor seconds and seconds on the clock; exported
graphs were made and admitted before.

{cold}
"""


def main() -> int:
    """Measure, print and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed beside the usual loop.")
    parser.add_argument("--images", type=int, default=16, help="faces per round (default 16)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each side (default 3)")
    parser.add_argument("--batch-size", type=int, default=8, help="faces per forward pass of ours (default 8)")
    parser.add_argument("--threads", type=int, default=0, help="one per core if not given")
    parser.add_argument(
        "--page", type=Path, default=PAGE, help="default docs/performance.md; other machines' sections stay"
    )
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            text = measure(options, [*list_checkpoints(), full_width(Path(folder))])
    except (CheckpointError, SourceError, runtimes.RuntimeRefusedError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    write_section(options.page, kind(), text)
    print(text)
    return 0


def full_width(folder: Path) -> CheckpointInfo:
    """torchvision's ResNet-50 with random weights, as a checkpoint that is otherwise the bundled one."""
    torch.manual_seed(0)
    header = read_info(resolve(REFERENCE)).header | {"name": FULL, "options": {}}
    path = folder / f"{FULL}.safetensors"
    save(path, build(REFERENCE), header, storage="float16")
    return read_info(path)


def measure(options: argparse.Namespace, checkpoints: Sequence[CheckpointInfo]) -> str:
    """The page."""
    sources = _samples(options.images)
    detectors: dict[str, list[Detector]] = {}
    refused = []
    names = [name for name in runtimes.available() if name != "cuda"]  # processor seconds say nothing of a GPU
    for info, name, precision in itertools.product(checkpoints, names, runtimes.PRECISIONS):
        try:
            detectors.setdefault(info.name, []).append(
                Detector.load(info.path, runtime=name, precision=precision, threads=options.threads)
            )
        except runtimes.RuntimeRefusedError as error:
            refused.append(f"- `{info.name}`, {name}-{precision}: {error}")
    reference = detectors[REFERENCE][0]
    finder, usual, peak = FaceFinder(), UsualLoop(build(REFERENCE)), Peak()
    crops = _crops(reference, finder, sources)

    def usual_from_files() -> None:
        usual.scores_and_maps(_crops(reference, finder, sources))

    work: dict[str, Callable[[], object]] = {
        "maps": partial(usual.scores_and_maps, crops),
        "plain": partial(usual.scores, crops),
        "files": usual_from_files,
        "peak": peak,
    }
    for name, several in detectors.items():
        own = _crops(several[0], finder, sources)
        for detector in several:
            work[f"{name} {detector.runtime} crops"] = partial(_forward, detector, own, options.batch_size)
            work[f"{name} {detector.runtime} files"] = partial(_files, detector, sources, options.batch_size)
    seconds, sustained = take_turns(work, options.rounds), peak.sustained
    rows = []
    for name, several in detectors.items():
        work_per_face = gigaflops(several[0].network, several[0].checkpoint.framing.side)
        for detector in several:
            alone, whole = (seconds[f"{name} {detector.runtime} {what}"] for what in ("crops", "files"))
            rate = len(crops) / alone
            rows.append(
                [
                    f"{name}{' (default)' if detector.checkpoint.default else ''}",
                    detector.runtime,
                    f"{rate:.2f}",
                    f"{seconds['maps'] / alone:.1f}x",
                    f"{seconds['plain'] / alone:.1f}x",
                    f"{rate * work_per_face / sustained[detector.precision]:.0%}",
                    f"{len(sources) / whole:.2f}",
                    f"{seconds['files'] / whole:.1f}x",
                ]
            )
    titles = ["network", "runtime", "faces/s", "usual, with maps", "usual, without", "of peak"]
    titles += ["files/s", "usual, from files"]
    picture = next(path for path in sorted(sample_dir().glob("real/*")) if path.is_file())
    cold = [
        [name, detector.runtime, *(f"{value:.1f}" for value in cold_start(name, detector.runtime, str(picture)))]
        for name, several in detectors.items()
        if name != FULL
        for detector in several
    ]
    return _TEXT.format(
        kind=kind(),
        full=FULL,
        machine=machine(),
        torch=torch.__version__,
        threads="1 thread" if torch.get_num_threads() == 1 else f"{torch.get_num_threads()} threads",
        rounds=options.rounds,
        naive=len(crops) / seconds["maps"],
        plain=len(crops) / seconds["plain"],
        files=len(sources) / seconds["files"],
        peaks=", ".join(f"{value:.0f} in {precision}" for precision, value in sustained.items()),
        bursts=", ".join(f"{value:.0f}" for value in peak.burst.values()),
        speed=table(titles, rows),
        refused="\n".join(refused) or "nothing.",
        stages=table(["stage", "ms"], _stages(detectors, finder, sources)),
        cold=table(["network", "runtime", "processor s", "clock s"], cold),
    )


def _forward(detector: Detector, crops: list[np.ndarray], batch_size: int) -> None:
    for first in range(0, len(crops), batch_size):
        detector.score(crops[first : first + batch_size])


def _files(detector: Detector, sources: list[MemorySource], batch_size: int) -> int:
    return sum(1 for _ in detector.classify_many(sources, batch_size=batch_size))


def _crops(detector: Detector, finder: FaceFinder, sources: list[MemorySource]) -> list[np.ndarray]:
    images = (decode(source.read()).pixels for source in sources)
    return [
        detector.normalised(detector.crop(image, face))
        for image in images
        for face in finder.find(image)
        if quality.reason_against(face) is None
    ]


def _stages(detectors: dict[str, list[Detector]], finder: FaceFinder, sources: list[MemorySource]) -> list[list[str]]:
    """Milliseconds per face by stage, once through."""
    detector = next(iter(detectors.values()))[0]
    framing = detector.checkpoint.framing
    spent: dict[str, float] = {}

    def timed(stage: str, run: Callable[[], Any]) -> Any:
        start = time.process_time()
        out = run()
        spent[stage] = spent.get(stage, 0.0) + time.process_time() - start
        return out

    count = 0
    for source in sources:
        image = timed("decode", lambda: decode(source.read()).pixels)  # noqa: B023 - run at once
        for face in timed("find faces", lambda: finder.find(image)):  # noqa: B023
            if quality.reason_against(face) is not None:
                continue
            box = framing.crop_box(face, image.width, image.height)
            inside = framing.inside(face, box)
            crop = timed("cut, store as JPEG, scale", lambda: framing.cut(image, box))  # noqa: B023
            mesh = timed("facial mesh", lambda: find_mesh(crop, inside))  # noqa: B023
            batch = timed("normalise", lambda: detector.normalised(crop))  # noqa: B023
            regions = timed("regions", lambda: masks(inside, framing.side, mesh))  # noqa: B023
            evidence, _ = detector.score([batch])
            timed("ledger", lambda: ledger(evidence[0], 0.0, regions))  # noqa: B023
            count += 1
    return [[stage, f"{1000 * seconds / count:.1f}"] for stage, seconds in spent.items()]


def kind() -> str:
    """The processor's own name, where the system tells it, its family, and its widest arithmetic.

    Virtual machines shorten names, so that generations of very different speed share one.
    """
    name, flags = platform.processor() or platform.machine(), ""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        name, flags = facts.get("model name", name), facts.get("flags", "")
        name += f" (family {facts['cpu family']})" if "cpu family" in facts else ""
    amx = " and AMX" if "amx_tile" in flags.split() else ""
    return f"{name} with {torch.backends.cpu.get_cpu_capability()}{amx}"


def _samples(wanted: int) -> list[MemorySource]:
    """Sample images in which exactly one face can be judged, repeated as often as needed."""
    usable = []
    finder = FaceFinder()
    for source in from_folder(sample_dir()):
        data = source.read()
        try:
            faces = finder.find(decode(data).pixels)
        except ImageError:
            continue
        if len(faces) == 1 and quality.reason_against(faces[0]) is None:
            usable.append(MemorySource(source.name, data))
    if not usable:
        raise SourceError(f"{sample_dir()}: there are no sample images with one face.")
    return list(itertools.islice(itertools.cycle(usable), wanted))


if __name__ == "__main__":
    sys.exit(main())
