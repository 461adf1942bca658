"""Judging, part by part, and the figures of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from safetensors import safe_open

import model
from model import bulk, metrics
from model.accuracy._figures import UNSEEN_REAL, Figure, exact, leave_one_out, nothing, unseen_real
from model.calibration import FAKE, INCONCLUSIVE, NOT_APPLICABLE, REAL
from model.checkpoint import DEFAULT, CheckpointInfo
from model.dataset import LABELS, LabelledSet
from model.deliveries import DELIVERIES, Delivered
from model.detector import Detector
from model.files import write_whole
from model.packet import environment
from model.sources import ImageSource
from model.tiers import TIERS, tier

FORMAT = 1
SEED = 0
TINY = (24, 36, 48, 60)  # px, sides of faces that are too small to be judged
MIN_SOURCE = 40  # photographs that a source needs to be compared with another
TOLERANCE = 0.05  # how far from 0.5 the AUC between two sources of photographs may be
AT_HALF = ("accuracy", "precision", "recall", "f1")  # figures at p = 0.5
_JUDGED = (FAKE, REAL, INCONCLUSIVE)
_DESCRIPTIVE = ("metrics", "training", "licence", "origin", "created")  # header entries that move no score
_NOT_IN_THE_WAY = ("accuracy", "audit", "bulk.py", "cam.py", "dataset.py", "metrics", "training")

Watch = Callable[[str], AbstractContextManager[Callable[[int, int], None] | None]]


@dataclass(frozen=True)
class Material:
    """What is measured on.

    Attributes
    ----------
    test : LabelledSet
        Faces that were not trained on; its groups are the sources and generators.
    no_face : sequence of ImageSource
        Pictures without a face.
    manipulated : LabelledSet or None
        Face swaps and edits, their kinds as groups.
    """

    test: LabelledSet
    no_face: Sequence[ImageSource] = ()
    manipulated: LabelledSet | None = None


def measure(
    detector: Detector,
    material: Material,
    folder: Path,
    *,
    flips: int = 200,
    limit: int | None = None,
    batch_size: int = 16,
    watch: Watch = lambda _: nullcontext(),
) -> dict[str, Any]:
    """Measure a detector and write `NAME.json`, and the tables and figures behind it into `NAME/`.

    Parameters
    ----------
    detector : Detector
        With the thresholds of its checkpoint.
    folder : Path
        May hold what an earlier or interrupted measurement left.
    flips : int
        Pictures of `test` that are re-delivered and shrunk, half of them real.
    limit : int, optional
        At most so many pictures of each set, drawn at random but always the same; for trials.
    watch : callable
        Given the name of a part, returns a context manager whose value is called with (pictures done, all pictures).

    Returns
    -------
    dict
        As written: every figure is `{"value", "low", "high"}` with a 95 % interval; a part without material is None.

    Raises
    ------
    model.bulk.BulkError
        If the folder cannot be written.
    """
    info, test = detector.checkpoint, material.test
    judge = _Judge(detector, folder / info.name, batch_size, watch)
    chosen = [test.sources[place] for place in _sample(test.frame["label"], limit)]
    tables = {
        name: test.attach(judge.table(name, _delivered(chosen, name, partial(tier, name=name)))) for name in TIERS
    }
    tiers = {name: metrics.evaluate(table) for name, table in tables.items()}
    for name, figures in tiers.items():
        figures["protocol"]["tier"] = name
        _write(judge.folder / ("test.json" if name == "clean" else f"test_{name}.json"), figures)
    clean = metrics.image_level(tables["clean"])
    names = {clean["path"].iloc[place] for place in _sample(clean["label"], flips)}
    redelivered = [source for source in chosen if source.name in names]
    found: dict[str, Any] = {
        "format": FORMAT,
        "checkpoint": info.name,
        "checkpoint_sha256": info.sha256,
        "runtime": detector.runtime,
        "version": model.__version__,
        "thresholds": asdict(detector.thresholds),
        "limit": limit,
        "tiers": tiers,
        "at_half": {name: _at_half(table) for name, table in tables.items()},
        "lost": _difference(tiers["clean"]["balanced_accuracy"], tiers["hard"]["balanced_accuracy"]),
        "deliveries": _deliveries(judge, redelivered, clean),
        "not_applicable": {
            "no_face": None,
            "faces": _not_applicable(clean),
            "tiny": _tiny(judge, redelivered, tables["clean"]),
        },
        "manipulated": None,
        "real_vs_real": real_vs_real(clean),
        "leave_one_out": leave_one_out(info.header["metrics"]),
        "unseen_real": unseen_real(info.header["metrics"]),
        "unseen_real_sources": info.header["metrics"].get(UNSEEN_REAL),
        "weights": _weights(info),
    }
    if material.no_face:
        places = _sample(pd.Series(0, index=range(len(material.no_face))), limit)
        table = metrics.image_level(judge.table("no_face", [material.no_face[place] for place in places]))
        found["not_applicable"] |= {"no_face": _not_applicable(table), "no_face_verdicts": _counts(table["verdict"])}
    if material.manipulated is not None:
        edited = material.manipulated
        places = _sample(edited.frame["label"], limit)
        table = judge.table("manipulated", [edited.sources[place] for place in places])
        found["manipulated"] = _manipulated(metrics.image_level(edited.attach(table)), clean)
    _write(folder / f"{info.name}.json", found)
    return found


def load(folder: Path) -> list[dict[str, Any]]:
    """Every measurement in a folder, that of the default checkpoint first, then by name.

    Raises
    ------
    model.metrics.MetricsError
        If a file in it that ends in `.json` is none.
    """
    read = [_read(path) for path in sorted(folder.glob("*.json"))]
    found = [entry for entry in read if isinstance(entry, dict) and entry.get("format") == FORMAT]
    return sorted(found, key=lambda entry: (entry["checkpoint"] != DEFAULT, entry["checkpoint"]))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise metrics.MetricsError(f"{path}: is not JSON ({error}). Move it away, or measure anew.") from error


def real_vs_real(images: pd.DataFrame) -> dict[str, Any]:
    """How far the score alone tells one source of photographs from another; nothing in it should.

    Parameters
    ----------
    images : DataFrame
        One row per image: `label`, `group`, `p_fake`.

    Returns
    -------
    dict
        `pairs`, every pair of sources with at least `MIN_SOURCE` scored photographs, farthest from 0.5 first:
        `higher`, `lower` and the `roc_auc` of `higher` over `lower`; and `within`, how many are within `TOLERANCE`.
    """
    reals = images[(images["label"] == 0) & images["p_fake"].notna()]
    scores = {str(name): group.to_numpy(dtype=float) for name, group in reals.groupby("group")["p_fake"]}
    scores = {name: values for name, values in scores.items() if name and len(values) >= MIN_SOURCE}
    pairs: list[dict[str, Any]] = []
    for lower, higher in combinations(scores, 2):
        auc = _auc(scores[lower], scores[higher])
        if auc["value"] < 0.5:
            lower, higher = higher, lower
            auc = _auc(scores[lower], scores[higher])
        pairs.append({"higher": higher, "lower": lower, "roc_auc": auc})
    pairs.sort(key=lambda pair: -pair["roc_auc"]["value"])
    return {"pairs": pairs, "within": sum(pair["roc_auc"]["value"] <= 0.5 + TOLERANCE for pair in pairs)}


class _Judge:
    """One detector and the tables it has made."""

    def __init__(self, detector: Detector, folder: Path, batch_size: int, watch: Watch) -> None:
        self.detector, self.folder, self.batch_size, self.watch = detector, folder, batch_size, watch
        self._identity = _identity(detector)

    def table(self, part: str, sources: Sequence[ImageSource]) -> pd.DataFrame:
        """Results of the sources, one row per face in their order; judged only if that has not been done before."""
        digest = hashlib.sha256(self._identity)
        for source in sources:
            original = source.source if isinstance(source, Delivered) else source
            digest.update(f"{part} {source.name} {_content(original)}\n".encode())
        path = self.folder / f"{part}-{digest.hexdigest()[:16]}.parquet"
        if not path.exists():
            run = partial(bulk.run, self.detector, sources, path, batch_size=self.batch_size)
            with self.watch(f"{self.detector.checkpoint.name}, {part}") as progress:
                try:
                    run(resume=True, progress=progress)
                except bulk.OtherRunError:  # interrupted, and the header's description changed since: begin anew
                    run(resume=False, progress=progress)
        return pd.read_parquet(path)


def _identity(detector: Detector) -> bytes:
    """Digest of what turns a picture into a verdict: code, libraries, header, weights and arithmetic."""
    info = detector.checkpoint
    digest = hashlib.sha256(detector.runtime.encode())
    here = environment(detector)
    digest.update(json.dumps([here["packages"], here["jpeg_library"]], sort_keys=True).encode())
    root = Path(model.__file__).parent
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).parts[0] not in _NOT_IN_THE_WAY:
            digest.update(path.read_bytes())
    header = {key: value for key, value in info.header.items() if key not in _DESCRIPTIVE}
    digest.update(json.dumps([header, asdict(detector.thresholds)], sort_keys=True).encode())
    with safe_open(info.path, framework="np") as file:
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name)
            digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
            digest.update(tensor.tobytes())
    return digest.digest()


def _content(source: ImageSource) -> str:
    """Digest of a file; '' if it cannot be read, which its result will say."""
    try:
        return hashlib.sha256(source.read()).hexdigest()
    except (OSError, ValueError):
        return ""


def _sample(labels: pd.Series, count: int | None) -> list[int]:
    """Places of at most `count` rows, as many of each label as there are and may be; the same for the same labels."""
    values = labels.to_numpy()
    if count is None or len(values) <= count:
        return list(range(len(values)))
    rng = np.random.default_rng(SEED)
    kinds = np.unique(values)
    picked = [rng.permutation(np.flatnonzero(values == kind))[: count // len(kinds)] for kind in kinds]
    return sorted(np.concatenate(picked).tolist())


def _delivered(
    sources: Sequence[ImageSource], name: str, deliver: Callable[[Image.Image], Image.Image]
) -> list[ImageSource]:
    """The sources as a tier brings them; clean ones as they are."""
    return [source if name == "clean" else Delivered(source.name, source, deliver) for source in sources]


def _at_half(table: pd.DataFrame) -> dict[str, Figure]:
    figures = metrics.evaluate(table.drop(columns="group"), threshold=0.5)
    return {key: figures[key] for key in AT_HALF}


def _difference(first: Figure, second: Figure) -> Figure:
    """`first` - `second`, its interval recovered from theirs as if they were independent (MOVER).

    Figures of the same pictures rise and fall together, so the true interval is narrower.
    """
    turned = {
        key: None if second[of] is None else -second[of]
        for key, of in (("value", "value"), ("low", "high"), ("high", "low"))
    }
    if first["value"] is None or turned["value"] is None:
        return nothing(first.get("reason") or second.get("reason", ""))
    half = metrics.mean_of([first, turned])
    low, high = (None if end is None else 2 * end for end in (half.low, half.high))
    return {"value": first["value"] + turned["value"], "low": low, "high": high}


def _deliveries(judge: _Judge, sources: Sequence[ImageSource], clean: pd.DataFrame) -> dict[str, Any]:
    """How verdicts hold when the same picture is passed on."""
    copies = [
        Delivered(f"{name}/{source.name}", source, deliver)
        for name, deliver in DELIVERIES.items()
        for source in sources
    ]
    frame = metrics.image_level(judge.table("deliveries", copies))
    verdicts = frame["verdict"].to_numpy(dtype=object).reshape(len(DELIVERIES), len(sources))  # (8, N)
    first = clean.set_index("path").loc[[source.name for source in sources]]
    original = first["verdict"].to_numpy(dtype=object)
    every = np.vstack([original, verdicts])  # (9, N)
    judged = np.isin(every, _JUDGED).any(axis=0)
    flipped = (every == REAL).any(axis=0) & (every == FAKE).any(axis=0)
    made = frame["error"].isna().to_numpy().reshape(verdicts.shape).all(axis=0)
    begun = np.isin(original, _JUDGED) & made
    kept = verdicts[:, begun] == original[begun]  # (8, M)
    labels = first["label"].to_numpy(dtype=int)
    return {
        "pictures": int(judged.sum()),
        "flipped": _share(flipped[judged]),
        "flipped_by_label": {name: _share(flipped[judged & (labels == at)]) for at, name in enumerate(LABELS)},
        "kept": {name: _share(kept[at]) for at, name in enumerate(DELIVERIES)},
        "kept_mean": float(kept.sum(axis=0).mean()) if begun.any() else None,
    }


def _not_applicable(images: pd.DataFrame) -> Figure:
    """Share of the readable images that got no verdict."""
    return _share((images.loc[images["error"].isna(), "verdict"] == NOT_APPLICABLE).to_numpy())


def _tiny(judge: _Judge, sources: Sequence[ImageSource], clean: pd.DataFrame) -> dict[str, Any]:
    """Share not applicable when pictures are shrunk until their largest face has a given size, by that size in px."""
    largest = clean[clean["face"] == 0].set_index("path")
    side = np.sqrt((largest["x1"] - largest["x0"]) * (largest["y1"] - largest["y0"]))
    shrunk = [
        Delivered(f"{size}/{source.name}", source, partial(_shrink, factor=size / side[source.name]))
        for size in TINY
        for source in sources
        if source.name in side and side[source.name] > size
    ]
    frame = metrics.image_level(judge.table("tiny", shrunk))
    refused = frame["verdict"] == NOT_APPLICABLE
    sizes = frame["path"].str.partition("/")[0]
    return {f"{size}": _share(refused[sizes == f"{size}"].to_numpy()) for size in TINY}


def _shrink(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))


def _manipulated(images: pd.DataFrame, clean: pd.DataFrame) -> dict[str, Any]:
    """Figures of each kind of manipulation, ranked against the photographs of the test set."""
    images = images[images["label"] == 1]
    needed = ["path", "p_fake", "verdict", "error", "label", "group", "threshold_fake"]
    reals = clean.loc[clean["label"] == 0, needed].assign(group="(photographs)", path="test/" + clean["path"])
    kinds = images[needed].assign(group=images["group"].replace("", "(no kind)"), path="manipulated/" + images["path"])
    groups = metrics.evaluate(pd.concat([reals, kinds], ignore_index=True))["groups"]
    medians = kinds.groupby("group")["p_fake"].median()
    return {
        str(name): groups[name] | {"median_p_fake": None if pd.isna(median) else float(median)}
        for name, median in medians.items()
    }


def _weights(info: CheckpointInfo) -> dict[str, Figure]:
    """Size in MB of the checkpoints in the folder of this one."""
    sizes = [path.stat().st_size / 1e6 for path in info.path.parent.glob("*.safetensors")]
    return {"together": exact(sum(sizes)), "largest": exact(max(sizes))}


def _share(hits: np.ndarray) -> Figure:
    return metrics.wilson(int(hits.sum()), len(hits)).to_dict()


def _counts(column: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in column.value_counts().items()}


def _auc(lower: np.ndarray, higher: np.ndarray) -> Figure:
    labels = np.repeat([0, 1], [len(lower), len(higher)])
    return metrics.roc_auc(labels, np.concatenate([lower, higher])).to_dict()


def _write(path: Path, figures: Mapping[str, Any]) -> None:
    text = json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, lambda partial: partial.write_text(text, "utf-8"))
