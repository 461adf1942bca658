"""A training run from configuration to checkpoint: `train` is what `reality-check train` calls.

Everything that takes long is kept in the run's folder and not done twice: an interrupted run continues where it was.
"""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from model import checkpoint
from model.backbones import LinearHeadNet, build
from model.calibration import Calibration, Thresholds
from model.checkpoint import CheckpointInfo
from model.faces import Framing
from model.tiers import TIERS
from model.training import calibrate, card, data, linear
from model.training.config import LinearConfig, TrainConfig
from model.training.donors import DONORS, obtain
from model.training.features import BATCH, CropLoader, mean_cells
from model.training.finetune import fit_network, predict
from model.training.leave_one_out import leave_one_out
from model.training.progress import Log
from model.training.resnet import load_folded, load_imagenet, widen

_BASELINE_FACES = 512


def train(config: TrainConfig, out: Path, *, quiet: bool = False) -> CheckpointInfo:
    """Train, calibrate and write `<out>/<name>.safetensors` with its model card.

    Parameters
    ----------
    config : TrainConfig
    out : Path
        The run's folder; also holds what makes the run resumable (`cache/`, `state.pt`) and `log.csv`.

    Returns
    -------
    CheckpointInfo
        Of the written checkpoint.

    Raises
    ------
    model.training.config.ConfigError
        If the data cannot be used.
    """
    torch.manual_seed(config.seed)
    cache = out / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    log = Log(out, quiet=quiet)
    framing = Framing(**config.framing)
    frame = data.load(config.data, config.seed)
    log.line(f"{len(frame)} pictures: {frame.groupby(['split', 'label']).size().to_dict()}")
    boxes = data.crop_boxes(frame, framing, cache / "faces.json", log)
    loader = CropLoader(frame, boxes, framing, config.mean, config.std, config.seed)
    network, origin = initial_network(config, cache)

    metrics: dict[str, object] = {}
    if isinstance(config.method, LinearConfig):
        logits = _fit_linear(config, config.method, network, frame, loader, cache, log, metrics)
    else:
        network = fit_network(config, config.method, network, frame, loader, out, log)
        logits = {view: predict(network, loader, _rows(frame, "val"), view, log) for view in TIERS}
    set_baseline(network, loader, frame, log)
    calibration, thresholds = _decide(frame, logits, config.max_false_positive_rate)
    header = {
        "name": config.name,
        "architecture": config.architecture,
        "options": config.options,
        "framing": asdict(framing),
        "mean": config.mean,
        "std": config.std,
        "classes": ["real", "fake"],
        "temperature": calibration.temperature,
        "calibration_bias": calibration.bias,
        "thresholds": {"real": thresholds.real, "fake": thresholds.fake, "fpr": thresholds.fpr},
        "training": summary(config, frame),
        "metrics": metrics,
        "licence": config.licence,
        "origin": origin,
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }
    path = out / f"{config.name}.safetensors"
    checkpoint.save(path, network, header, storage=config.storage)
    info = checkpoint.read_info(path)
    info.card.write_text(card.render(info), "utf-8")
    log.line(f"wrote {path} ({path.stat().st_size / 1e6:.0f} MB) and its card")
    return info


def initial_network(config: TrainConfig, cache: Path) -> tuple[LinearHeadNet, str]:
    """The network to start from, and a sentence on where its weights come from."""
    network = build(config.architecture, config.options)
    kind, _, name = config.init.partition(":")
    if kind == "scratch":
        return network, "random initial weights"
    if kind == "imagenet":
        load_imagenet(network)
        return network, "initialised from torchvision's ImageNet weights (BSD-3-Clause)"
    if kind == "donor":
        state = load_file(obtain(name, cache / "donors"))
        if name == "half_resnet50":
            load_folded(network, state)
        else:
            wanted = network.extractor.state_dict()
            network.extractor.load_state_dict({key: value for key, value in state.items() if key in wanted})
        return network, f"initialised from {DONORS[name].licence}"
    info = checkpoint.read_info(Path(config.init))
    start = checkpoint.load_network(info)
    start.set_baseline(torch.zeros(start.head.in_features, 1, 1))
    if info.header["options"] == config.options:
        network.load_state_dict(start.state_dict())
    else:
        widen(start, network, seed=config.seed)
    return network, info.header["origin"]


def set_baseline(network: LinearHeadNet, loader: CropLoader, frame: pd.DataFrame, log: Log) -> None:
    """Measure cells from the mean cell, place by place, of training faces drawn evenly from labels and sources.

    Logits do not change; the evidence map then shows what sets a face apart from the usual one.
    """
    rows = _rows(frame, "train")
    weights = data.balanced_weights(frame.iloc[rows])
    chosen = np.random.default_rng(loader.seed).choice(rows, min(_BASELINE_FACES, 4 * len(rows)), p=weights)
    total: torch.Tensor | None = None
    network.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for first in log.track(range(0, len(chosen), BATCH), "baseline"):
            images = loader.batch([(int(row), "clean") for row in chosen[first : first + BATCH]])
            cells = network.forward_features(images).float().sum(dim=0)  # (C, H, W)
            total = cells if total is None else total + cells
    assert total is not None
    network.set_baseline(network.baseline + total.clone() / len(chosen))


def summary(config: TrainConfig, frame: pd.DataFrame) -> dict[str, object]:
    """What a checkpoint's header says of its training."""
    fitted = frame[frame["split"].isin(("train", "val"))]
    counts = (
        fitted.assign(label=fitted["label"].map({0: "real", 1: "fake"}))
        .groupby(["label", "source", "generator", "split"])
        .size()
        .unstack("split", fill_value=0)
        .reset_index()
    )
    return {
        "digest": data.digest(fitted),
        "train": int((frame["split"] == "train").sum()),
        "val": int((frame["split"] == "val").sum()),
        "counts": counts.to_dict("records"),
        "config": config.model_dump(mode="json", exclude={"data"}),
    }


def _rows(frame: pd.DataFrame, split: str) -> np.ndarray:
    return np.flatnonzero(frame["split"].to_numpy() == split)


def _fit_linear(
    config: TrainConfig,
    method: LinearConfig,
    network: LinearHeadNet,
    frame: pd.DataFrame,
    loader: CropLoader,
    cache: Path,
    log: Log,
    metrics: dict[str, object],
) -> dict[str, np.ndarray]:
    """Fit the head on cached features, in place; return logits of val per tier."""
    network.eval().requires_grad_(False)
    key = hashlib.sha256(
        repr((config.architecture, config.options, config.init, config.storage, loader.framing, config.mean)).encode()
    ).hexdigest()

    def cells(rows: np.ndarray, view: str | int) -> np.ndarray:
        return mean_cells(network, loader, rows, view, cache / "features", log, key=key)

    train_rows, val_rows = _rows(frame, "train"), _rows(frame, "val")
    views: list[str | int] = ["clean", *range(1, method.views + 1)]
    fitted = {view: cells(train_rows, view) for view in views}
    rows = np.tile(train_rows, len(views))
    inputs = np.concatenate(list(fitted.values()))
    weights = np.tile(data.balanced_weights(frame.iloc[train_rows]), len(views))
    labels = frame["label"].to_numpy()
    head = linear.fit(inputs, labels[rows], weights, method.penalty)
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(head.weight).float()[None])
        network.head.bias.fill_(head.bias)
    val = {view: cells(val_rows, view) for view in TIERS}
    if config.data.folds is not None:
        test_rows = _rows(frame, "test")
        clean = np.zeros((len(frame), inputs.shape[1]), np.float32)
        for some, values in ((train_rows, fitted["clean"]), (val_rows, val["clean"])):
            clean[some] = values
        clean[test_rows] = cells(test_rows, "clean")

        def refit(keep: np.ndarray) -> np.ndarray:
            mine = keep[rows]
            kept = np.flatnonzero(keep & (frame["split"].to_numpy() == "train"))
            share = pd.Series(data.balanced_weights(frame.iloc[kept]), index=kept)
            fold_head = linear.fit(inputs[mine], labels[rows[mine]], share.loc[rows[mine]].to_numpy(), method.penalty)
            return fold_head.logits(clean)

        metrics["leave_one_out"] = leave_one_out(frame, data.folds(config.data.folds, frame), refit, log)
    return {view: head.logits(values) for view, values in val.items()}


def _decide(
    frame: pd.DataFrame, logits: dict[str, np.ndarray], max_false_positive_rate: float
) -> tuple[Calibration, Thresholds]:
    """Calibrate on the mixture of tiers of val; thresholds for the worst tier."""
    labels = frame["label"].to_numpy()[_rows(frame, "val")]
    calibration = calibrate.fit_calibration(np.concatenate(list(logits.values())), np.tile(labels, len(logits)))
    scores = {view: (calibrate.probabilities(values, calibration), labels) for view, values in logits.items()}
    return calibration, calibrate.fit_thresholds(scores, max_false_positive_rate)
