"""The network of a checkpoint: stored in its file, built from it.

Weights are stored as float32, float16, or int8 with one scale per output channel (name `x` becomes `x` int8 and
`x.scale` float32); a network is always computed from float32 copies of what is stored. Apart from `model.checkpoint`,
which tells what a checkpoint is without PyTorch: importing that takes more than a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.backbones import LinearHeadNet, build
from model.backbones.quantise import quantise
from model.checkpoint import FORMAT, HASHES, CheckpointError, CheckpointInfo, Hashes, checked_hashes, opened, write

_SCALE = ".scale"


def save(
    path: Path,
    network: LinearHeadNet,
    header: dict[str, Any],
    *,
    storage: str = "float32",
    hashes: tuple[Hashes, Hashes] | None = None,
) -> None:
    """Write a checkpoint.

    Parameters
    ----------
    storage : {"float32", "float16", "int8"}
        How weights are stored: float16 for all with two or more dimensions, or int8 for those of linear layers; the
        head, axes of products and all else stay float32. Unless all is float32, the baseline is stored as float16
        where that loses nothing.
    hashes : pair of ndarray of shape (N, 8), uint8, optional
        Of the pictures it was trained on; see `model.checkpoint.training_hashes`.
    """
    if storage not in ("float32", "float16", "int8"):
        raise ValueError(f"storage must be float32, float16 or int8, got {storage!r}")
    linear = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    buffers = {name for name, _ in network.named_buffers()}
    tensors: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        value = value.detach().contiguous()
        if name == "baseline" and storage != "float32" and torch.equal(value.half().float(), value):
            tensors[name] = value.half()
        elif name.startswith("head.") or name in buffers or value.ndim < 2 or storage == "float32":
            tensors[name] = value
        elif storage == "float16":
            tensors[name] = value.half()
        elif name in linear:
            tensors[name], tensors[name + _SCALE] = quantise(value)
        else:
            tensors[name] = value
    stored = {name: value.cpu().numpy() for name, value in tensors.items()}
    if hashes is not None:
        stored |= dict(zip(HASHES, checked_hashes(*hashes), strict=True))
    write(stored, {"format": FORMAT, **header}, path)


def load_network(info: CheckpointInfo) -> LinearHeadNet:
    """Build the network and fill in its float32 weights, in evaluation mode.

    Raises
    ------
    CheckpointError
        If the architecture is unknown or does not take the framing's crop, if weights are missing, unknown, of a wrong
        shape or type, or not finite, if what they compute is not finite, or if the file is no longer the one whose
        SHA-256 `info` holds.
    """
    side = info.framing.side
    unfit = (
        f"{info.path.name}: architecture {info.header['architecture']!r} with options {info.header['options']!r} "
        f"does not work on crops of {side} px"
    )
    try:
        with torch.device("meta"), torch.inference_mode(False):  # shapes only
            network = build(info.header["architecture"], info.header["options"]).eval()
    except Exception as error:  # noqa: BLE001 - options are anybody's
        raise CheckpointError(f"{unfit}: {error}") from error
    expected = network.state_dict()
    state: dict[str, Tensor] = {}
    with opened(info, "pt") as file:
        names = set(file.keys())
        for name in names:
            if name in HASHES or (name.endswith(_SCALE) and name.removesuffix(_SCALE) in names):
                continue
            value = file.get_tensor(name)
            if value.dtype == torch.int8:
                if name + _SCALE not in names:
                    raise CheckpointError(f"{info.path.name}: {name} is int8 but has no scale")
                scale = file.get_tensor(name + _SCALE)
                if value.ndim < 1 or scale.shape != value.shape[:1] or not scale.is_floating_point():
                    raise CheckpointError(f"{info.path.name}: the scale of {name} does not fit it")
                value = value.float() * scale.float().view(-1, *[1] * (value.ndim - 1))
            if name in expected and value.is_floating_point() != expected[name].is_floating_point():
                raise CheckpointError(f"{info.path.name}: {name} has the wrong type {value.dtype}")
            state[name] = value.float() if value.is_floating_point() else value
    for name, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{info.path.name}: {name} holds values that are not finite")
    if (baseline := state.get("baseline")) is not None and baseline.shape[:1] == network.baseline.shape[:1]:
        if baseline.ndim != 3:
            raise CheckpointError(f"{info.path.name}: baseline has {baseline.ndim} dimensions, not 3")
        network.baseline = torch.empty_like(baseline, device="meta")  # its grid is that of the framing
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{info.path.name}: weights do not fit {info.header['architecture']}: {error}") from error
    network.eval().requires_grad_(False)
    try:
        # Quicker than on the meta device, whose rules take a second to import.
        with torch.inference_mode():
            logits = network(torch.linspace(-2, 2, 3 * side * side).view(1, 3, side, side))
    except Exception as error:  # noqa: BLE001 - whatever a crafted file makes of itself
        raise CheckpointError(f"{unfit}: {error}") from error
    if logits.shape != (1,) or not bool(torch.isfinite(logits).all()):
        raise CheckpointError(f"{unfit}: it does not answer with one finite number")
    return network
