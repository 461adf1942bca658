"""Model cards say what the header says, and nothing else."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from model.checkpoint import CheckpointInfo, read_info
from model.network import load_network
from model.training import card
from model.training.config import TrainConfig
from tests.support import header, save_tiny

RATE = {"value": 0.9, "low": 0.85, "high": 0.95}


def figures(**changes: Any) -> dict[str, Any]:
    """What `evaluate` writes, as far as a card uses it."""
    rates = dict.fromkeys(card.RATES, RATE) | {"coverage": RATE, "decided": {"accuracy": RATE}}
    counts = {"n": 10, "n_real": 5, "n_fake": 5, "abstained": 2, "threshold": 0.7}
    groups = {"lfw": {"label": "real", "n": 5, "fpr": RATE, "inconclusive": 1, "not_applicable": 0}}
    return {**rates, **counts, "tpr_at_fpr": {"0.01": RATE, "0.005": RATE}, "groups": groups} | changes


FOLD = {"roc_auc": RATE, "tpr_at_1_percent_fpr": {"value": 0.4, "low": 0.3, "high": 0.5}, "n_real": 7, "n_fake": 8}
RECIPE = TrainConfig.model_validate(
    {
        "name": "tiny",
        "architecture": "tiny",
        "options": {"channels": 8},
        "data": {"root": ".", "validation_share": 0.25, "extra": [{"root": "more", "manifest": "more.csv"}]},
        "method": {"kind": "finetune", "learning_rate": 1e-5},
    }
)
TRAINING = {
    "digest": "a" * 64,
    "train": 100,
    "val": 20,
    "counts": [
        {"label": "real", "source": "k140_train", "generator": "", "train": 30, "val": 5},
        {"label": "real", "source": "lfw", "generator": "", "train": 10, "val": 5},
        {"label": "fake", "source": "k140_train", "generator": "StyleGAN", "train": 45, "val": 10},
        {"label": "fake", "source": "pool", "generator": "SDXL", "train": 15, "val": 0},
    ],
    "config": RECIPE.model_dump(mode="json", exclude={"data": {"root", "manifest", "folds"}}),
    "command": "reality-check train --config tiny.toml --data FOLDER --folds FOLDS.csv --fold all",
}
UNSEEN = {
    "stock": {"clean": {"n": 100, "errors": 5, "value": 0.05, "low": 0.02, "high": 0.1}},
    "press": {"clean": {"n": 300, "errors": 3, "value": 0.01, "low": 0.0, "high": 0.02}},
}
BINS = [
    {"images": 6, "mean_score": 0.1, "fake_share": 0.0, "low": 0.0, "high": 0.4},
    {"images": 4, "mean_score": 0.8, "fake_share": 0.75, "low": 0.3, "high": 0.9},
]
EVERYTHING = {
    "thresholds": {"real": 0.3, "fake": 0.7, "fpr": 0.01, "unseen": True},
    "training": TRAINING,
    "metrics": {
        "test": figures(reliability=BINS),
        "test_hard": figures(),
        "manipulated": figures(n=300, n_real=0, n_fake=300, groups={}),
        "leave_one_out": {"sdxl": FOLD, "flux": FOLD | {"roc_auc": RATE | {"value": 0.8}}},
        "unseen_real": UNSEEN,
        "unseen_fake": {"flux": {"hard": {"n": 50, "errors": 1, "value": 0.02, "low": 0.0, "high": 0.1}}},
    },
}


def info_of(folder: Path, **changes: Any) -> CheckpointInfo:
    return read_info(save_tiny(folder / "tiny.safetensors", **changes))


def sections(text: str) -> dict[str, str]:
    parts = re.split(r"^(#+ .+)$", text, flags=re.MULTILINE)
    return {title.lstrip("# "): body for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def test_the_worst_failures_are_told_in_words_of_these_weights_alone(tmp_path: Path) -> None:
    info = info_of(tmp_path, **EVERYTHING)
    path = info.path.with_suffix(".failures.csv")
    assert "Worst failures" not in sections(card.render(info))
    path.write_text(
        "checkpoint_sha256,label,source,p_fake,description\n"
        f'{info.sha256},real,press,0.98,"flash, no shadow"\n{"0" * 64},fake,pool,0.01,of other weights\n'
    )
    found = sections(card.render(info))["Worst failures"]
    assert "| real | press | 0.98 | flash, no shadow |" in found
    assert "of other weights" not in found


def test_every_figure_of_the_header_is_in_its_section(tmp_path: Path) -> None:
    found = sections(card.render(info_of(tmp_path, **EVERYTHING)))
    assert list(found) == [
        *("tiny", "What it does", "Measured", "By source, on test"),
        "Leave-one-out: the same recipe on generators and photographs it never saw",
        *("The thresholds on sources it never saw", "Calibration", "Manipulated photographs"),
        *("Trained on", "How to reproduce it", "Not for", "Known biases"),
    ]
    assert "sources that were left out of training at or below 1 %" in found["What it does"]
    assert "| ROC AUC | 0.9000 [0.8500, 0.9500] | 0.9000 [0.8500, 0.9500] |" in found["Measured"]
    assert "manipulated" not in found["Measured"]
    (folds,) = (body for title, body in found.items() if title.startswith("Leave-one-out"))
    assert "| sdxl | 0.9000 [0.8500, 0.9500] | 0.4000 [0.3000, 0.5000] | 7 | 8 |" in folds
    assert "| **mean** | 0.8500 [0.8146, 0.9291] | 0.4000 [0.3293, 0.4707] |" in folds
    assert "| **minimum** | 0.8000 [0.8500, 0.9500] | 0.4000 [0.3000, 0.5000] |" in folds
    unseen = found["The thresholds on sources it never saw"]
    pooled, mean = "0.0200 [0.0102, 0.0390]", "0.0300 [0.0142, 0.0555]"  # Wilson's of 8 in 400; MOVER's of both
    worst = "stock: 0.0500 [0.0200, 0.1000]"
    assert f"| photograph called AI-generated | clean | 2 | 400 | {pooled} | {mean} | {worst} |" in unseen
    assert "| AI-generated called real | hard | 1 | 50 |" in unseen
    assert "| 0.8000 | 0.7500 [0.3000, 0.9000] | 4 |" in found["Calibration"]
    assert "expected calibration error 0.9000" in found["Calibration"]
    assert "| manipulated | 300 | 0.9000 [0.8500, 0.9500] | 2 |" in found["Manipulated photographs"]
    assert "| fake | pool | SDXL | 15 | - |" in found["Trained on"]
    assert TRAINING["command"] in found["How to reproduce it"]
    biases = found["Known biases"]
    assert "75% of the photographs in training are FFHQ" in biases
    assert "75% of the fakes in training are of one source, k140_train" in biases
    assert "2 of 3 sources occur under one label only" in biases


def test_what_is_not_in_the_header_is_not_in_the_card(tmp_path: Path) -> None:
    text = card.render(info_of(tmp_path))
    assert list(sections(text)) == ["tiny", "What it does", "Not for", "Known biases"]
    assert "FFHQ" not in text
    assert "leave-one-out" not in text
    assert "unseen" not in text


def test_a_set_may_have_a_name_that_begins_like_those_of_unseen_sources(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "tiny.safetensors")
    info = card.attach(path, {"unseen_cameras": written(tmp_path)})
    assert "unseen cameras" in info.card.read_text("utf-8")


def test_the_recipe_in_a_card_can_be_trained_again(tmp_path: Path) -> None:
    text = sections(card.render(info_of(tmp_path, **EVERYTHING)))["How to reproduce it"]
    (recipe,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    again = TrainConfig.model_validate(tomllib.loads(recipe))
    assert again.model_dump(exclude={"data": {"root"}}) == RECIPE.model_dump(exclude={"data": {"root"}})


@pytest.mark.parametrize("fpr", [None, 0.005])
def test_a_card_states_the_rate_the_thresholds_were_set_for(tmp_path: Path, fpr: float | None) -> None:
    text = card.render(info_of(tmp_path, thresholds={"real": 0.3, "fake": 0.7, "fpr": fpr}))
    assert ("at or below 0.5 %" in text) == (fpr is not None)


def written(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(figures(**changes)))
    return folder / "metrics.json"


def predictions(folder: Path, count: int = 10) -> None:
    scores = [0.05 + 0.1 * index for index in range(count)]
    rows = {"path": [f"{index}.png" for index in range(count)], "p_fake": scores, "verdict": "real"}
    pd.DataFrame(rows | {"label": [int(score > 0.5) for score in scores]}).to_parquet(folder / "predictions.parquet")


def test_a_card_says_what_half_of_the_set_and_a_verdict_given_mean(tmp_path: Path) -> None:
    found = sections(card.render(info_of(tmp_path, **EVERYTHING)))
    assert "p is the probability in a set of which half is generated" in found["What it does"]
    assert "| Verdict given (neither inconclusive nor not applicable) | 0.9000" in found["Measured"]


def test_what_the_test_pictures_are_is_told_of_our_own_alone(tmp_path: Path) -> None:
    own = figures(groups=dict.fromkeys(("ffpp", "k140_test", "lfw"), {"label": "real", "n": 5, "fpr": RATE}))
    told = [card.render(info_of(tmp_path, metrics={"test": test})) for test in (own, figures())]
    assert ["none was large enough to be made smaller" in text for text in told] == [True, False]


def test_a_card_says_what_computed_its_figures_where_they_tell(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "tiny.safetensors")
    info = card.attach(path, {"test": written(tmp_path, detector={"checkpoint": ["tiny"], "runtime": ["torch-bf16"]})})
    assert info.header["metrics"]["test"]["runtime"] == ["torch-bf16"]
    assert "Computed by torch-bf16; the application takes fp32" in info.card.read_text("utf-8")
    info = card.attach(path, {"test": written(tmp_path)})
    assert "Computed by" not in info.card.read_text("utf-8")


def test_attaching_figures_keeps_weights_and_rewrites_the_card(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "tiny.safetensors")
    before = load_network(read_info(path)).state_dict()
    undefined = {"value": None, "low": None, "high": None, "reason": "no fake images"}
    info = card.attach(path, {"test": written(tmp_path, roc_auc=undefined)})
    after = load_network(info).state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    text = info.card.read_text("utf-8")
    assert "0.9000 [0.8500, 0.9500]" in text
    assert "undefined (no fake images)" in text
    assert "Calibration" not in sections(text)
    assert info.header["thresholds"] == header()["thresholds"]


def test_the_calibration_table_is_made_from_the_predictions_beside_the_figures(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "tiny.safetensors")
    measured = written(tmp_path / "result")
    predictions(tmp_path / "result")
    info = card.attach(path, {"test": measured})
    rows = info.header["metrics"]["test"]["reliability"]
    assert [row["mean_score"] for row in rows] == pytest.approx([0.05 + 0.1 * index for index in range(10)])
    assert [row["fake_share"] for row in rows] == [0] * 5 + [1] * 5
    assert {row["images"] for row in rows} == {1}
    predictions(tmp_path / "result", count=9)
    with pytest.raises(card.CardError, match="has 9 scored images, but the figures beside it are of 10"):
        card.attach(path, {"test": measured})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"detector": {"checkpoint": ["other"]}}, "was measured with other, not with tiny"),
        ({"threshold": 0.5}, "at the threshold 0.5, but that of tiny is 0.7"),
    ],
)
def test_figures_of_another_checkpoint_or_threshold_are_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = save_tiny(tmp_path / "tiny.safetensors")
    sha256 = read_info(path).sha256
    with pytest.raises(card.CardError, match=reason):
        card.attach(path, {"test": written(tmp_path, **changes)})
    assert read_info(path).sha256 == sha256
