"""What every training by gradients needs: rates over time, averaged weights, batches made ahead, a state to resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from model.files import write_whole
from model.training.config import ConfigError

_T = TypeVar("_T")


def schedule(step: int, steps: int, warmup_share: float) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then half a cosine to zero."""
    warmup = max(1, round(steps * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@torch.no_grad()
def average(averaged: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move an exponential moving average of the weights on by a step (Polyak and Juditsky 1992), in place.

    Early on, when there is little to average, less of what was before is kept than `decay`.
    """
    kept = min(decay, (1 + step) / (10 + step))
    for mine, theirs in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(theirs, 1 - kept)
        else:
            mine.copy_(theirs)


def groups(parameters: Iterable[nn.Parameter], peak: float, decay: float) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser: weights, which decay, then norms and biases, which do not; `peak` is kept."""
    known = list(parameters)
    out = []
    for decayed in (True, False):
        chosen = [parameter for parameter in known if (parameter.ndim >= 2) == decayed]
        out.append({"params": chosen, "peak": peak, "lr": peak, "weight_decay": decay if decayed else 0.0})
    return out


def prefetch(make: Callable[[int], _T], first: int, steps: int) -> Iterator[tuple[int, _T]]:
    """Each step from `first` with what `make` gives for it, made two steps ahead of the network."""
    with ThreadPoolExecutor(1) as pool:
        ahead = [pool.submit(make, step) for step in range(first, min(first + 2, steps))]
        for step in range(first, steps):
            made = ahead.pop(0).result()
            if step + 2 < steps:
                ahead.append(pool.submit(make, step + 2))
            yield step, made


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state that `load_state` reads; one that was there stays until the new one is whole."""
    write_whole(path, lambda partial: torch.save(state, partial))


def load_state(path: Path, key: str, device: torch.device) -> dict[str, Any]:
    """Read back the state of a training.

    Raises
    ------
    ConfigError
        If its entry `key` is another: it belongs to another recipe or other pictures.
    """
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    if state.get("key") != key:
        raise ConfigError(f"{path} is of another recipe or other pictures: remove it, or name another folder")
    return state
