"""A finished evaluation without a network: scores are drawn, everything that follows from them is real."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dashboard.evaluation import json_text
from dashboard.store import DONE, EVALUATION, Run, RunStore
from dashboard.tasks import data_digest, json_bytes, parquet_bytes
from model import metrics
from model.regions import REGIONS
from model.results import COLUMNS, TEXT_COLUMNS


@dataclass(frozen=True)
class Plan:
    """What is drawn: `real` and `fake` images, the fake ones from `generators`; a seed for the scores."""

    real: int = 60
    fake: int = 60
    generators: tuple[str, ...] = ("stylegan2", "sdxl", "flux")
    seed: int = 0
    resamples: int = 50
    name: str = "synthetic"
    tier: str = "clean"
    checkpoint: str = "tiny"
    checkpoint_sha256: str = "0" * 64
    unscored: int = 2
    shift: float = 0.0


def predictions_of(plan: Plan) -> pd.DataFrame:
    """Results as an evaluation has them, one row per image."""
    rng = np.random.default_rng(plan.seed)
    count = plan.real + plan.fake
    label = np.repeat([0, 1], [plan.real, plan.fake])
    logit = rng.normal(np.where(label == 1, 2.2, -2.2) + plan.shift, 1.6)
    group = np.where(label == 1, np.array(plan.generators)[np.arange(count) % len(plan.generators)], "camera")
    kinds = np.where(label == 1, "fake", "real")
    frame = pd.DataFrame({name: pd.Series(np.nan, index=range(count), dtype="float64") for name in COLUMNS})
    for name in TEXT_COLUMNS:
        frame[name] = pd.Series([None] * count, dtype=object)
    names = [f"{kind}/{part}/{number:06d}.png" for kind, part, number in zip(kinds, group, range(count), strict=True)]
    frame["path"] = names
    frame["sha256"] = [f"{number:064x}" for number in range(count)]
    frame["logit"], frame["p_fake"] = logit, 1 / (1 + np.exp(-logit))
    frame["verdict"] = np.where(
        frame["p_fake"] >= 0.6, "fake", np.where(frame["p_fake"] <= 0.4, "real", "inconclusive")
    )
    for name, value in {"bytes": 100, "width": 120, "height": 120, "face": 0, "faces": 1, "elapsed_ms": 1.0}.items():
        frame[name] = value
    frame["threshold_real"], frame["threshold_fake"] = 0.4, 0.6
    frame["checkpoint"], frame["checkpoint_sha256"] = plan.checkpoint, plan.checkpoint_sha256
    frame["runtime"], frame["version"], frame["format"] = "torch-fp32", "0", "PNG"
    frame["label"], frame["source"], frame["group"] = label, kinds, group
    frame["light"] = np.where(rng.random(count) < 0.5, "indoors", "outdoors")
    parts = [f"ledger_{name}" for name in REGIONS]
    frame[parts] = np.random.default_rng(plan.seed + 1).dirichlet(np.ones(len(parts)), count) * logit[:, None]
    frame["ledger_bias"] = 0.0
    for place in rng.choice(count, min(plan.unscored, count), replace=False):
        frame.loc[place, ["logit", "p_fake", "ledger_bias", *parts]] = np.nan
        frame.loc[place, ["verdict", "reason"]] = ["not_applicable", "no_face"]
        frame.loc[place, "faces"] = 0
    return frame


def keep(store: RunStore, plan: Plan, *, owner: str | None = None, picture: bytes = b"") -> Run:
    """A finished run in the store; its images exist where `picture` holds the bytes of one: each ends in its number."""
    run = store.create(
        EVALUATION,
        plan.name,
        checkpoint=plan.checkpoint,
        checkpoint_sha256=plan.checkpoint_sha256,
        settings={
            "thresholds": {"real": 0.4, "fake": 0.6, "fpr": 0.01, "custom": False},
            "precision": "fp32",
            "tier": plan.tier,
            "batch_size": 8,
        },
        owner=owner,
    )
    frame = predictions_of(plan)
    contents_of = {name: picture + str(number).encode() for number, name in enumerate(frame["path"])}
    if picture:
        frame["sha256"] = [hashlib.sha256(data).hexdigest() for data in contents_of.values()]
    labels = pd.DataFrame(
        {
            "name": frame["path"],
            "label": frame["label"],
            "label_name": np.where(frame["label"] == 1, "fake", "real"),
            "group": frame["group"],
            "source": frame["source"],
            "light": frame["light"],
        }
    )
    figures = metrics.evaluate(frame, resamples=plan.resamples, audit=[FINDING, NOTE])
    figures["protocol"] |= {"tier": plan.tier, "data_digest": data_digest(frame[["path", "sha256"]])}
    places = [f"uploads/{name}" for name in frame["path"]]
    if picture:
        for place, data in zip(places, contents_of.values(), strict=True):
            file = run.folder / place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    folders = [
        {"folder": name, "label": name, "images": int((frame["label"] == label).sum())}
        for label, name in enumerate(("real", "fake"))
        if (frame["label"] == label).any()
    ]
    contents = {
        "labels.parquet": parquet_bytes(labels),
        "inputs.json": json_bytes({"skipped": [], "folders": pd.DataFrame(folders).to_dict("list")}),
        "inputs.parquet": parquet_bytes(pd.DataFrame({"name": frame["path"], "location": places, "member": None})),
        "predictions.parquet": parquet_bytes(frame),
        "metrics.json": json_text(figures).encode(),
    }
    for name, data in contents.items():
        Path(run.folder / name).write_bytes(data)
    done = store.update(
        run.id,
        state=DONE,
        finished=run.created,
        done=len(frame),
        total=len(frame),
        digest=figures["protocol"]["data_digest"],
    )
    store.release(run.id)
    assert done is not None
    return done


FINDING = {
    "code": "RC002",
    "title": "The file gives the label away",
    "severity": "severe",
    "detail": "A classifier that sees only the header reaches AUC 0.98.",
    "advice": "Store all pictures the same way.",
    "images": ["real/camera/000000.png", "real/camera/000001.png"],
}
NOTE = {
    "code": "RC004",
    "title": "Too few images for the claim",
    "severity": "warning",
    "detail": "A false positive rate of 1 % needs about 1,000 real images.",
    "advice": "Add real images.",
    "images": [],
}
