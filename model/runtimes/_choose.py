"""Runtimes by name, and the choice of the quickest by a short measurement."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.checkpoint import CheckpointError, CheckpointInfo, head_bias
from model.runtimes import _quantise
from model.runtimes._base import INT8, PRECISIONS, Runtime, RuntimeRefusedError
from model.runtimes._exported import OnnxRuntime, OpenVinoRuntime
from model.runtimes._graph import exported, graph_path
from model.runtimes._ranges import ranges_path
from model.runtimes._records import keep, kept
from model.runtimes.parity import admit, processor, signature

if TYPE_CHECKING:  # a second to import, which exported graphs do without
    from model.backbones import LinearHeadNet

AUTO = "auto"
_EXPORTED: dict[str, type[OpenVinoRuntime] | type[OnnxRuntime]] = {
    "openvino": OpenVinoRuntime,
    "onnxruntime": OnnxRuntime,
}
CUDA = "cuda"
NAMES = ("torch", CUDA, *_EXPORTED)
_PROBE_BATCH, _PROBE_ROUNDS = 4, 3
_GAIN = 1.1  # what another runtime must be quicker by to take the reference's place


def available() -> tuple[str, ...]:
    """Names of the runtimes that can be used here; `torch` always can."""
    return ("torch", *([CUDA] if _sees_gpu() else []), *filter(_installed, _EXPORTED))


def _installed(name: str) -> bool:
    return all(importlib.util.find_spec(package) is not None for package in ("onnx", name))


@cache
def _sees_gpu() -> bool:
    if version("torch").endswith("+cpu"):
        return False
    import torch

    return torch.cuda.is_available()


def load(
    info: CheckpointInfo,
    network: Callable[[], LinearHeadNet],
    name: str = "torch",
    precision: str = "fp32",
    threads: int = 0,
) -> Runtime:
    """A runtime by name, through the gate of `model.runtimes.parity` unless it is torch in fp32, the reference.

    Parameters
    ----------
    network : callable
        Gives the checkpoint's network in evaluation mode. An exported graph that has passed the gate here before runs
        without it, and without PyTorch.
    threads : int
        Processor threads; 0 for as many as the runtime sees cores. PyTorch has one number for the whole process.

    Raises
    ------
    ValueError
        If there is no such runtime or precision.
    RuntimeRefusedError
        If it is not installed, does not offer the precision, or does not agree with the reference.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
    if name not in NAMES:
        raise ValueError(f"runtime must be one of {NAMES}, got {name!r}")
    if name in ("torch", CUDA):
        return _with_torch(info, network, name, precision, threads)
    if not _installed(name):
        raise RuntimeRefusedError(
            f"the runtime {name} is not installed. Install it with: pip install -e '.[{name}]' -c constraints.txt"
        )
    if name == "onnxruntime" and precision == "bf16":
        raise RuntimeRefusedError("onnxruntime computes fp32 and int8 on processors. For bf16 use torch or openvino.")
    with _refusing(f"the graph of {info.name} for {name} in {precision} cannot be made"):
        try:
            graph = exported(info, network)
            if precision == INT8:
                graph = _quantise.quantised(info, graph)
        except OSError as error:
            raise RuntimeRefusedError(
                f"the graph of {info.name} for {name} cannot be kept ({error.strerror or error}). Make room, or name a "
                "folder that can be written in REALITY_CHECK_CACHE_DIR."
            ) from error
    with _refusing(f"{name} cannot read {graph}", advice="Delete it: it is made anew."):
        runtime = _EXPORTED[name](graph, head_bias(info), precision, threads)
    with _refusing(f"{name} in {precision} broke down on {info.name}"):
        admit(info, network, runtime, runtime.version, made_of=signature(graph), graph=graph)
    return runtime


@contextmanager
def _refusing(what: str, advice: str = "Choose another runtime or precision.") -> Iterator[None]:
    """What breaks down while it is tried is refused, so that another runtime can take its place."""
    try:
        yield
    except (CheckpointError, RuntimeRefusedError):
        raise
    except Exception as error:  # each library has errors of its own
        said = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise RuntimeRefusedError(f"{what} ({said}). {advice}") from error


def _with_torch(
    info: CheckpointInfo, network: Callable[[], LinearHeadNet], name: str, precision: str, threads: int
) -> Runtime:
    if (name, precision) == (CUDA, INT8):
        raise RuntimeRefusedError("cuda computes fp32 and bf16. For int8 choose another runtime.")
    if name == CUDA and not _sees_gpu():
        raise RuntimeRefusedError("PyTorch sees no GPU here. Install its CUDA build, or choose another runtime.")
    import torch

    from model.backbones import vit_int8
    from model.runtimes._torch import TorchRuntime, quantised

    if (name, precision) == ("torch", "fp32"):
        return TorchRuntime(network(), precision, threads)
    with _refusing(f"{name} in {precision} broke down on {info.name}"):
        made_of, computed = info.sha256, network()
        if precision == INT8:
            computed = quantised(info, computed)
            made_of += f" with {signature(ranges_path(info))} by {signature(Path(vit_int8.__file__))}"
        computing = TorchRuntime(computed, precision, threads, "cpu" if name == "torch" else CUDA)
        of = version("torch") if name == "torch" else f"{version('torch')} on {torch.cuda.get_device_name()}"
        admit(info, network, computing, of, made_of=made_of, graph=graph_path(info, precision))
    return computing


@dataclass(frozen=True)
class Choice:
    """The outcome of a measurement.

    Attributes
    ----------
    runtime : Runtime
        The chosen one.
    rates : dict of str to float
        Faces per second of every runtime that was tried.
    refused : dict of str to str
        Why others could not be tried.
    kept : Path, optional
        The record that it was read from, if it was measured before.
    """

    runtime: Runtime
    rates: dict[str, float]
    refused: dict[str, str]
    kept: Path | None = None

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {rate:.1f}" for name, rate in self.rates.items())
        refused = "".join(f"; {reason}" for reason in self.refused.values())
        again = f"; measured before, delete {self.kept} to measure anew" if self.kept else ""
        name = f"{self.runtime.name}-{self.runtime.precision}"
        return f"runtime {name} chosen (faces per second: {rates}){refused}{again}"


@dataclass(frozen=True)
class _Chosen:
    """What is kept of a choice."""

    name: str
    rates: dict[str, float]
    refused: dict[str, str]


def choose(
    info: CheckpointInfo, network: Callable[[], LinearHeadNet], precision: str = "fp32", threads: int = 0
) -> Choice:
    """Measure the installed runtimes for a moment and take the quickest; torch where none is clearly quicker.

    The precision is never changed for speed. The choice is kept in the cache folder and holds as long as there are the
    same runtimes, threads and processor: otherwise runs would change runtimes wherever two are about as quick.

    Raises
    ------
    RuntimeRefusedError
        If no installed runtime offers the precision.
    """
    key: dict[str, object] = {
        "runtimes": {name: version("torch" if name == CUDA else name) for name in available()},
        "threads": threads,
        "processor": processor(),
    }
    record = graph_path(info, precision).with_suffix(".choice.json")
    if (before := kept(record, key, _Chosen)) is not None:
        with suppress(RuntimeRefusedError):  # it may have lost its graph, or its ranges
            return Choice(load(info, network, before.name, precision, threads), before.rates, before.refused, record)
    choice = _measured(info, network, precision, threads)
    keep(record, key, asdict(_Chosen(choice.runtime.name, choice.rates, choice.refused)))
    return choice


def _measured(info: CheckpointInfo, network: Callable[[], LinearHeadNet], precision: str, threads: int) -> Choice:
    runtimes: dict[str, Runtime] = {}
    refused: dict[str, str] = {}
    for name in available():
        try:
            runtimes[name] = load(info, network, name, precision, threads)
        except RuntimeRefusedError as error:
            refused[name] = str(error)
    if not runtimes:
        raise RuntimeRefusedError(f"no installed runtime computes {precision}: " + " ".join(refused.values()))
    rates = _rates(runtimes, info.framing.side)
    best = max(rates, key=lambda name: rates[name])
    if "torch" in rates and rates[best] < _GAIN * rates["torch"]:
        best = "torch"
    return Choice(runtimes[best], rates, refused)


def _rates(runtimes: dict[str, Runtime], side: int) -> dict[str, float]:
    """Faces per second by the best of a few rounds, in which the runtimes take turns."""
    batch = np.zeros((_PROBE_BATCH, 3, side, side), dtype=np.float32)
    seconds = dict.fromkeys(runtimes, float("inf"))
    for turn in range(_PROBE_ROUNDS + 1):
        for name, runtime in runtimes.items():
            start = time.perf_counter()
            runtime.forward(batch)
            if turn:  # the first call allocates
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    return {name: _PROBE_BATCH / max(value, 1e-9) for name, value in seconds.items()}
