"""Gradient training of a whole network on random deliveries, resumable, with averaged weights.

Batches are drawn with replacement by `model.training.data.balanced_weights`, so that labels are even and no source
dominates. The averaged weights (exponential moving average; Polyak and Juditsky 1992) are what is evaluated and kept.
An evaluation is the mean AUC over the `WATCHED` tiers of val: neither pristine nor degraded files decide alone.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

from model.backbones import LinearHeadNet
from model.training.config import FinetuneConfig, TrainConfig
from model.training.data import balanced_weights
from model.training.features import CropLoader
from model.training.gradient import average, groups, load_state, prefetch, save_state, schedule
from model.training.identity import digest, of_pictures, of_start
from model.training.precision import autocast
from model.training.progress import Log, draw_curves
from model.training.resnet import settle_batch_norms

WATCHED = ("clean", "hard")  # tiers of val that early stopping looks at
_BATCH = 32


def fit_network(
    config: TrainConfig,
    method: FinetuneConfig,
    network: LinearHeadNet,
    frame: pd.DataFrame,
    loader: CropLoader,
    out: Path,
    log: Log,
) -> LinearHeadNet:
    """Train; returns the averaged weights of the best validation AUC, in evaluation mode.

    Stops when `method.patience` evaluations brought nothing better. At each evaluation `<out>/log.csv` and the curves
    are written, and the state to `<out>/state.pt`, which is read back if it exists.

    Raises
    ------
    ConfigError
        If the saved state belongs to another recipe or other pictures.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = np.flatnonzero(frame["split"].to_numpy() == "train")
    val_rows = np.flatnonzero(frame["split"].to_numpy() == "val")
    labels = frame["label"].to_numpy()
    weights = balanced_weights(frame.iloc[rows])
    steps = math.ceil(method.epochs * len(rows) / method.batch_size)

    def draw(step: int) -> list[tuple[int, int]]:
        rng = np.random.default_rng([config.seed, step])
        chosen = rng.choice(len(rows), method.batch_size, p=weights / weights.sum())
        return [(int(rows[index]), 1 + step * method.batch_size + place) for place, index in enumerate(chosen)]

    saved, belongs = out / "state.pt", run_key(config, frame)
    if config.init.startswith("donor:half_resnet50") and not saved.is_file():
        settle_batch_norms(network, torch.cat([loader.batch(draw(step)) for step in range(4)]))
    network.requires_grad_(True)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(
        [
            *groups(network.extractor.parameters(), method.learning_rate, method.weight_decay),
            *groups(network.head.parameters(), method.head_learning_rate, method.weight_decay),
        ]
    )
    averaged = copy.deepcopy(network).eval().requires_grad_(False)
    first, best, stale, running = 0, -1.0, 0, 0.0
    best_weights = averaged.state_dict()
    if saved.is_file():
        state = load_state(saved, belongs, device)
        network.load_state_dict(state["network"])
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        first, best, stale, best_weights = state["step"], state["best"], state["stale"], state["best_weights"]
        running, log.rows = state["loss"], state["log"]
        log.line(f"continuing at step {first} of {steps}")

    stopped = stale >= method.patience
    for step, images in prefetch(lambda step: loader.batch(draw(step)), first, first if stopped else steps):
        torch.manual_seed(config.seed * steps + step)  # chance inside the network is that of the step, not of the run
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * schedule(step, steps, method.warmup_share)
        targets = torch.tensor([labels[row] for row, _ in draw(step)], dtype=torch.float32, device=device)
        targets = targets * (1 - method.label_smoothing) + method.label_smoothing / 2
        network.train()
        with autocast(device):
            cells = network.forward_features(images.to(device, memory_format=torch.channels_last))
        logits = network.forward_head(cells.float())
        loss = functional.binary_cross_entropy_with_logits(logits, targets)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        average(averaged, network, method.average_decay, step)
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        if (step + 1) % 10 == 0:
            log.line(f"step {step + 1}/{steps}: loss {running:.4f}")
        if (step + 1) % method.evaluate_every == 0 or step + 1 == steps:
            aucs = _evaluate(averaged, loader, val_rows, labels[val_rows], log)
            rate = optimiser.param_groups[0]["lr"]
            log.record(step=step + 1, loss=running, learning_rate=rate, **aucs)
            draw_curves(log.rows, out)
            log.line(f"step {step + 1}/{steps}: " + ", ".join(f"{name} {value:.4f}" for name, value in aucs.items()))
            stale += 1
            if aucs["val_auc"] > best:
                best, stale = aucs["val_auc"], 0
                best_weights = {name: value.clone() for name, value in averaged.state_dict().items()}
            save_state(
                saved,
                {
                    "key": belongs,
                    "log": log.rows,
                    "step": step + 1,
                    "loss": running,
                    "best": best,
                    "stale": stale,
                    "best_weights": best_weights,
                    "network": network.state_dict(),
                    "averaged": averaged.state_dict(),
                    "optimiser": optimiser.state_dict(),
                },
            )
            if stale >= method.patience:
                log.line(f"no better for {method.patience} evaluations: stopping")
                break
    averaged.load_state_dict(best_weights)
    return averaged.cpu()


def run_key(config: TrainConfig, frame: pd.DataFrame) -> str:
    """SHA-256 over what decides the weights: where training starts, how it goes on, and the pictures."""
    return digest(of_start(config), sorted(config.method.model_dump().items()), of_pictures(frame))


def _evaluate(
    network: LinearHeadNet, loader: CropLoader, rows: np.ndarray, labels: np.ndarray, log: Log
) -> dict[str, float]:
    """AUC per watched tier as `val_TIER_auc`, and their mean as `val_auc`."""
    aucs = {
        f"val_{tier}_auc": float(roc_auc_score(labels, predict(network, loader, rows, tier, log))) for tier in WATCHED
    }
    return aucs | {"val_auc": sum(aucs.values()) / len(aucs)}


@torch.inference_mode()
def predict(network: LinearHeadNet, loader: CropLoader, rows: np.ndarray, view: str | int, log: Log) -> np.ndarray:
    """Logits (N,) of one view of some rows."""
    device = next(network.parameters()).device
    network.eval()
    batches = [[(int(row), view) for row in rows[start : start + _BATCH]] for start in range(0, len(rows), _BATCH)]
    ahead = prefetch(lambda number: loader.batch(batches[number]), 0, len(batches))
    parts = []
    for _, images in log.track(ahead, f"scoring view {view}"):
        with autocast(device):
            cells = network.forward_features(images.to(device, memory_format=torch.channels_last))
        parts.append(network.forward_head(cells.float()).cpu())
    return torch.cat(parts).numpy()
