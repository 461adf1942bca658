"""What `python -m benchmarks` measures with: processor time in turns, the peak of the machine, the usual loop."""

from __future__ import annotations

import copy
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model.backbones import LinearHeadNet

_COLD = """
import sys
from pathlib import Path
from model.detector import Detector
runtime, precision = sys.argv[2].split("-")
result = Detector.load(sys.argv[1], runtime=runtime, precision=precision).classify(Path(sys.argv[3]).read_bytes())
assert result.error is None, result.error
"""


def take_turns(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median processor seconds of each piece of work, all threads together.

    Every second round runs backwards, so that what else goes on meets all alike; a first round warms up.
    """
    for run in work.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds):
        for name in list(work)[:: 1 if turn % 2 == 0 else -1]:
            start = time.process_time()
            work[name]()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def gigaflops(network: LinearHeadNet, side: int) -> float:
    """Of one forward pass over one crop; a multiplication and an addition count as two."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.zeros(1, 3, side, side))
    return float(counter.get_total_flops()) / 1e9


class Peak:
    """The quickest arithmetic of each precision that this machine sustains, by PyTorch's own routines."""

    def __init__(self) -> None:
        convolution = nn.Conv2d(256, 256, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = torch.randn(4, 256, 28, 28).contiguous(memory_format=torch.channels_last)
        matrix = torch.randn(1024, 1024)
        halved, half_images, half_matrix = copy.deepcopy(convolution).bfloat16(), images.bfloat16(), matrix.bfloat16()
        small = matrix.mul(40).clamp(-127, 127).to(torch.int8)
        self._tries: list[tuple[str, float, Callable[[], Tensor]]] = [
            ("fp32", _CONVOLUTION, lambda: convolution(images)),
            ("fp32", _PRODUCT, lambda: matrix @ matrix),
            ("bf16", _CONVOLUTION, lambda: halved(half_images)),
            ("bf16", _PRODUCT, lambda: half_matrix @ half_matrix),
            ("int8", _PRODUCT, lambda: torch._int_mm(small, small)),
        ]
        self._rates: list[list[float]] = [[] for _ in self._tries]  # of each round
        self.burst: dict[str, float] = {}  # of the best single call

    def __call__(self) -> None:
        """One round: each routine again and again for a while."""
        with torch.inference_mode():
            for (precision, operations, run), rates in zip(self._tries, self._rates, strict=True):
                calls, begun, left = 0, time.process_time(), time.perf_counter() + _SUSTAINED
                while time.perf_counter() < left:
                    start = time.process_time()
                    run()
                    calls += 1
                    rate = operations / 1e9 / max(time.process_time() - start, 1e-9)
                    self.burst[precision] = max(self.burst.get(precision, 0.0), rate)
                rates.append(operations * calls / 1e9 / (time.process_time() - begun))

    @property
    def sustained(self) -> dict[str, float]:
        """10^9 operations per processor-second by precision: median of the rounds, of the quicker routine."""
        best: dict[str, float] = {}
        for (precision, _, _), rates in zip(self._tries, self._rates, strict=True):
            rate = statistics.median(rates[1:] or rates)  # the first round warms up
            best[precision] = max(best.get(precision, 0.0), rate)
        return best


_SUSTAINED = 0.5  # seconds on the clock
_CONVOLUTION = 2.0 * 4 * 28 * 28 * 256 * 256 * 9  # operations
_PRODUCT = 2.0 * 1024**3


class UsualLoop:
    """One face at a time: a forward pass for the score, then pytorch-grad-cam for the map."""

    def __init__(self, network: LinearHeadNet) -> None:
        from model import _torchvision  # noqa: F401 - before pytorch_grad_cam, which imports torchvision

        from pytorch_grad_cam import GradCAM  # isort: skip

        self.network = network.eval().requires_grad_(True)
        self.cam = GradCAM(model=self.network, target_layers=[self.network.cells])

    def scores(self, crops: Iterable[np.ndarray]) -> None:
        """Without maps."""
        with torch.no_grad():
            for crop in crops:
                self.network(torch.from_numpy(crop[None]))

    def scores_and_maps(self, crops: Iterable[np.ndarray]) -> None:
        """With maps."""
        for crop in crops:
            self.scores([crop])
            self.cam(input_tensor=torch.from_numpy(crop[None]), targets=[lambda logit: logit])


def cold_start(checkpoint: str, runtime: str, picture: str) -> tuple[float, float]:
    """Processor and wall seconds of a fresh process from nothing to its first verdict."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", _COLD, checkpoint, runtime, picture], check=True, env=os.environ)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall
