"""What would make an evaluation a lie: checks of a labelled set, each with a stable code.

- RC001 class imbalance
- RC002 the file gives the label away
- RC003 duplicates, across labels above all
- RC004 too few images for the claim
- RC005 the framing of the faces gives the label away

The checks look at headers, sizes, small copies of the pictures and, if there are any, at the results. They find known
faults; that none is found proves nothing.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import dctn

from model.dataset import LabelledSet
from model.imaging import FORMATS, Limits
from model.metrics import image_level, roc_auc, wilson
from model.sources import ImageSource

SEVERITIES = ("info", "warning", "severe")
LEAK_WARNING, LEAK_SEVERE = 0.60, 0.80  # AUC of a single property that knows nothing of the picture
FOLDS = 5
HASH_SIDE = 16  # 256 bits: faces in one framing are too alike for the usual 64
NEAR_BITS = 26  # of 256: re-encoding and resizing stay below, different photographs of faces are around 128
NEAR_CORRELATION = 0.98
MAX_COMPARED = 20_000
MAX_PAIRS = 5_000
_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One fault of a labelled set.

    Attributes
    ----------
    code : str
        Stable identifier, e.g. `RC002`.
    title : str
        The fault in a few words.
    severity : str
        `info` (keep in mind), `warning` (figures may be off) or `severe` (figures do not mean what they say).
    detail : str
        What was found, with numbers.
    advice : str
        What to do about it.
    """

    code: str
    title: str
    severity: str
    detail: str
    advice: str

    def to_dict(self) -> dict[str, str]:
        """The finding ready for JSON."""
        return asdict(self)


def audit(labelled: LabelledSet, predictions: pd.DataFrame | None = None) -> list[Finding]:
    """Look for faults that would make figures measured on this set misleading.

    Parameters
    ----------
    labelled : LabelledSet
        Its files are read once each.
    predictions : DataFrame, optional
        Results of the same set (columns of `model.results.COLUMNS` with `label`); without them the checks of faces and
        of what could be scored are left out.

    Returns
    -------
    list of Finding
        Severe ones first, then by code. Empty if nothing was found.
    """
    facts = file_facts(labelled.sources, labelled.frame["label"].tolist())
    findings = [
        *class_imbalance(labelled.frame),
        *format_leak(facts),
        *duplicates(facts),
        *too_few(labelled.frame),
    ]
    if predictions is not None:
        findings += framing_leak(predictions)
    return sorted(findings, key=lambda finding: (-SEVERITIES.index(finding.severity), finding.code))


def file_facts(sources: Iterable[ImageSource], labels: Sequence[int]) -> pd.DataFrame:
    """Facts about files that say nothing of the faces in them.

    Returns
    -------
    DataFrame
        One row per file that could be opened: `name`, `label`, `sha256`, `format`, `suffix`, `size` (W x H as text),
        `width`, `height`, `bytes`, `bytes_per_pixel`, `quantisation` and `subsampling` (JPEG only), `metadata` (which
        kinds it carries), `mode`, `hash` (uint8 array of 32, perceptual) and `small` (float32 array of 256).
    """
    rows = []
    for source, label in zip(sources, labels, strict=True):
        try:
            data = source.read()
            rows.append({"name": source.name, "label": int(label)} | _facts_of(source.name, data))
        except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError):
            continue  # unreadable files are errors of the evaluation itself and are counted there
    columns = ["name", "label", "sha256", "format", "suffix", "size", "width", "height", "bytes", "bytes_per_pixel"]
    columns += ["quantisation", "subsampling", "metadata", "mode", "hash", "small"]
    return pd.DataFrame(rows, columns=columns)


def class_imbalance(frame: pd.DataFrame) -> list[Finding]:
    """RC001: one class outweighs the other, or is not there."""
    n_real, n_fake = int((frame["label"] == 0).sum()), int((frame["label"] == 1).sum())
    counts = f"{n_real:,} real and {n_fake:,} fake images"
    if not n_real or not n_fake:
        missing = "fake" if n_real else "real"
        return [
            Finding(
                "RC001",
                "Only one class",
                "severe",
                f"The set holds {counts}: how well the two are told apart cannot be measured.",
                f"Add {missing} images of the same kind, size and format.",
            )
        ]
    ratio = max(n_real, n_fake) / min(n_real, n_fake)
    if ratio < 3:
        return []
    return [
        Finding(
            "RC001",
            "Class imbalance",
            "warning" if ratio >= 10 else "info",
            f"The set holds {counts} (1 to {ratio:.0f}). Accuracy mostly reports the larger class.",
            "Read recall and false positive rate, or balanced accuracy, instead of accuracy.",
        )
    ]


def format_leak(facts: pd.DataFrame) -> list[Finding]:
    """RC002: a property of the file alone tells the label.

    Each property is scored by how often it goes with fakes among the other files (out of fold), or by its plain value
    if it is a number. An AUC of 0.5 means that it tells nothing.
    """
    if facts["label"].nunique() < 2:
        return []
    told = []
    for name, meaning in _PROPERTIES.items():
        column = facts[name]
        scores = column.to_numpy(dtype=float) if name in _NUMERIC else _out_of_fold(column, facts["label"])
        value, low = _separation(facts["label"].to_numpy(), scores, both_ways=name in _NUMERIC)
        if low > LEAK_WARNING:
            told.append((value, meaning, _contrast(facts, name)))
    if not told:
        return []
    told.sort(key=lambda entry: -entry[0])
    listed = "; ".join(f"{meaning} (AUC {value:.2f}: {contrast})" for value, meaning, contrast in told)
    return [
        Finding(
            "RC002",
            "The file gives the label away",
            "severe" if told[0][0] >= LEAK_SEVERE else "warning",
            f"Without looking at the picture, the label can be told from: {listed}.",
            "A detector can score well here by recognising files instead of faces. Store both classes at one size and "
            "in one format and quality, or collect both in the same way, and evaluate again.",
        )
    ]


def duplicates(facts: pd.DataFrame) -> list[Finding]:
    """RC003: the same picture under both labels, or several times under one."""
    findings = []
    exact = facts.groupby("sha256", sort=False).filter(lambda group: len(group) > 1)
    across = exact.groupby("sha256", sort=False).filter(lambda group: group["label"].nunique() > 1)
    if len(across):
        findings.append(
            Finding(
                "RC003",
                "The same file under both labels",
                "severe",
                f"{across['sha256'].nunique()} files are labelled both real and fake: {_names(across['name'])}.",
                "One of the labels is wrong. Remove or correct these files.",
            )
        )
    repeated = int(exact.duplicated("sha256").sum() - across.duplicated("sha256").sum())
    if repeated:
        within = exact[~exact["sha256"].isin(across["sha256"])]
        findings.append(
            Finding(
                "RC003",
                "Repeated files",
                "warning" if repeated > 0.02 * len(facts) else "info",
                f"{repeated} files repeat another one of their class byte for byte: {_names(within['name'])}.",
                "Keep one of each: repeated images make the intervals too narrow.",
            )
        )
    pairs = near_pairs(facts.drop_duplicates("sha256"))
    crossing = pairs[pairs["label_a"] != pairs["label_b"]]
    if len(crossing):
        shown = [f"{row.name_a} and {row.name_b}" for row in crossing.itertuples()]
        findings.append(
            Finding(
                "RC003",
                "Nearly the same picture under both labels",
                "warning",
                f"{len(crossing)} pairs of a real and a fake file look alike: {_names(shown)}.",
                "Look at them: either a label is wrong, or the fakes are edits of these very photographs.",
            )
        )
    alike = pairs[pairs["label_a"] == pairs["label_b"]]
    if len(alike):
        shown = [f"{row.name_a} and {row.name_b}" for row in alike.itertuples()]
        findings.append(
            Finding(
                "RC003",
                "Near-duplicates",
                "warning" if len(alike) > 0.02 * len(facts) else "info",
                f"{len(alike)} pairs within a class are nearly the same picture: {_names(shown)}.",
                "Keep one of each: they make the intervals too narrow.",
            )
        )
    if len(pairs) >= MAX_PAIRS:
        findings.append(
            Finding(
                "RC003",
                "The set is full of near-duplicates",
                "severe",
                f"The search ended after {len(pairs):,} pairs; there are more.",
                "Keep one image of each scene, for example one frame of each film, and evaluate again.",
            )
        )
    if len(facts) > MAX_COMPARED:
        findings.append(
            Finding(
                "RC003",
                "Near-duplicates were searched in a part of the set",
                "info",
                f"Only the first {MAX_COMPARED:,} of {len(facts):,} files were compared with each other.",
                "Audit the set in parts if duplicates are likely.",
            )
        )
    return findings


def too_few(frame: pd.DataFrame) -> list[Finding]:
    """RC004: too few images, over all or in a group, for the figures that are reported."""
    findings = []
    n_real, n_fake = int((frame["label"] == 0).sum()), int((frame["label"] == 1).sum())
    smallest = min(n_real, n_fake)
    if smallest and smallest < 300:
        name = "real" if n_real <= n_fake else "fake"
        width = wilson(smallest - smallest // 20, smallest)
        findings.append(
            Finding(
                "RC004",
                "Few images",
                "severe" if smallest < 30 else "warning",
                f"There are {smallest} {name} images. A rate near 95 % is then known only to lie between "
                f"{100 * (width.low or 0):.0f} % and {100 * (width.high or 0):.0f} %.",
                "Quote every figure with its interval, and do not rank detectors on this set.",
            )
        )
    if 0 < n_real < 1000:
        findings.append(
            Finding(
                "RC004",
                "Too few real images for a false positive rate below 1 %",
                "info",
                f"With {n_real} real images, a false positive rate of 0 is compatible with up to "
                f"{100 * (wilson(0, n_real).high or 0):.2g} %.",
                "Use at least 1,000 real images to speak of 1 %, and 10,000 to speak of 0.1 %.",
            )
        )
    if "group" in frame:
        sizes = frame[frame["group"] != ""].groupby("group").size()
        small = sizes[sizes < 30]
        if len(small):
            findings.append(
                Finding(
                    "RC004",
                    "Small groups",
                    "info",
                    f"{len(small)} of {len(sizes)} groups have fewer than 30 images: "
                    f"{_names([f'{name} ({count})' for name, count in small.items()])}.",
                    "Figures of these groups are anecdotes; the lowest of many small groups is low by chance.",
                )
            )
    return findings


def framing_leak(predictions: pd.DataFrame) -> list[Finding]:
    """RC005: where and how large the faces are differs by label, or in which images one was found."""
    images = image_level(predictions).dropna(subset=["label"])
    labels = images["label"].to_numpy(dtype=int)
    if len(set(labels.tolist())) < 2:
        return []
    findings = []
    told = []
    for meaning, values in _framing(images).items():
        known = ~np.isnan(values)
        if len(set(labels[known].tolist())) < 2:
            continue
        value, low = _separation(labels[known], values[known], both_ways=True)
        if low > LEAK_WARNING:
            real, fake = (float(np.median(values[known & (labels == label)])) for label in (0, 1))
            told.append((value, f"{meaning} (AUC {value:.2f}: typically {real:.3g} for real, {fake:.3g} for fake)"))
    if told:
        told.sort(reverse=True)
        findings.append(
            Finding(
                "RC005",
                "Face framing differs by label",
                "warning",
                f"The classes differ in: {'; '.join(text for _, text in told)}.",
                "Every face is cut out in one framing, which takes most of this away; what remains is resolution: a "
                "small face carries less detail. Compare faces of similar size.",
            )
        )
    found = images["p_fake"].notna().to_numpy()
    shares = [wilson(int((~found & (labels == label)).sum()), int((labels == label).sum())) for label in (0, 1)]
    of_real, of_fake = shares
    if (of_real.low or 0) > (of_fake.high or 0) + 0.02 or (of_fake.low or 0) > (of_real.high or 0) + 0.02:
        findings.append(
            Finding(
                "RC005",
                "One class is left out more often",
                "warning",
                f"{100 * (of_real.value or 0):.1f} % of the real and {100 * (of_fake.value or 0):.1f} % of the fake "
                "images have no score.",
                "The rates describe what was scored. Say how many were left out of each class.",
            )
        )
    return findings


def near_pairs(facts: pd.DataFrame) -> pd.DataFrame:
    """Pairs of files that look nearly the same.

    A perceptual hash proposes (at most `NEAR_BITS` of 256 bits differ), the correlation of small copies disposes.

    Returns
    -------
    DataFrame
        `name_a`, `label_a`, `name_b`, `label_b`, `bits`, `correlation`; each pair once. The search ends with the file
        that brings the count to `MAX_PAIRS`: the frames of a film would fill the memory.
    """
    facts = facts.iloc[:MAX_COMPARED].reset_index(drop=True)
    rows: list[tuple[Any, ...]] = []
    columns = ["name_a", "label_a", "name_b", "label_b", "bits", "correlation"]
    if len(facts) < 2:
        return pd.DataFrame(rows, columns=columns)
    hashes = np.stack(facts["hash"].to_list()).view(np.uint64)  # (N, 4)
    small = np.stack(facts["small"].to_list())  # (N, 256), zero mean, unit length
    names, labels = facts["name"].tolist(), facts["label"].tolist()
    for first in range(len(facts) - 1):
        bits = np.bitwise_count(hashes[first + 1 :] ^ hashes[first]).sum(axis=1, dtype=np.int64)
        close = np.flatnonzero(bits <= NEAR_BITS)
        correlation = small[first + 1 + close] @ small[first]
        for offset, alike in zip(close.tolist(), correlation.tolist(), strict=True):
            if alike >= NEAR_CORRELATION:
                second = first + 1 + offset
                rows.append((names[first], labels[first], names[second], labels[second], int(bits[offset]), alike))
        if len(rows) >= MAX_PAIRS:
            break
    return pd.DataFrame(rows, columns=columns)


_PROPERTIES = {
    "format": "file format",
    "suffix": "file suffix",
    "size": "picture size",
    "width": "picture width",
    "height": "picture height",
    "bytes_per_pixel": "bytes per pixel",
    "quantisation": "JPEG quantisation table",
    "subsampling": "JPEG chroma subsampling",
    "metadata": "kinds of metadata",
    "mode": "colour mode",
}
_NUMERIC = frozenset({"width", "height", "bytes_per_pixel"})


def _facts_of(name: str, data: bytes) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata is reported where images are decoded
        with Image.open(io.BytesIO(data), formats=_readable()) as image:
            width, height = image.size
            if width * height > Limits.max_pixels:
                raise ValueError("too many pixels")
            tables = getattr(image, "quantization", None) or {}
            kinds = [
                kind for kind in ("exif", "icc_profile", "xmp", "comment", "dpi", "parameters") if kind in image.info
            ]
            facts: dict[str, Any] = {
                "sha256": hashlib.sha256(data).hexdigest(),
                "format": image.format or "unknown",
                "suffix": name.rpartition(".")[2].lower(),
                "size": f"{width} x {height}",
                "width": width,
                "height": height,
                "bytes": len(data),
                "bytes_per_pixel": len(data) / (width * height),
                "quantisation": hashlib.sha256(repr(sorted(tables.items())).encode()).hexdigest()[:8] if tables else "",
                "subsampling": _subsampling(image),
                "metadata": ", ".join(kinds) or "none",
                "mode": image.mode,
            }
            image.draft("L", (HASH_SIDE * 8, HASH_SIDE * 8))  # JPEG: decode at a fraction of the size
            grey = image.convert("L")
    facts["hash"] = perceptual_hash(grey)
    small = np.asarray(grey.resize((16, 16), Image.Resampling.BOX), dtype=np.float32).ravel()
    small = small - small.mean()
    facts["small"] = small / max(float(np.linalg.norm(small)), 1e-6)
    return facts


def _readable() -> list[str]:
    """Formats of `model.imaging` that this installation can open (HEIC is optional)."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def perceptual_hash(grey: Image.Image) -> np.ndarray:
    """Signs of the low frequencies of a picture (pHash, Zauner 2010) as 32 bytes; shape (32,), uint8.

    The 256 lowest coefficients of a discrete cosine transform of 64 x 64 pixels, compared with their median.
    """
    levels = np.asarray(grey.resize((64, 64), Image.Resampling.LANCZOS), dtype=np.float64)
    low = dctn(levels, norm="ortho")[:HASH_SIDE, :HASH_SIDE].ravel()
    return np.packbits(low > np.median(low[1:]))


def _subsampling(image: Image.Image) -> str:
    layers = getattr(image, "layer", None)
    if image.format not in ("JPEG", "MPO") or not layers:
        return ""
    return " ".join(f"{layer[1]}x{layer[2]}" for layer in layers)


def _out_of_fold(column: pd.Series, labels: pd.Series) -> np.ndarray:
    """Share of fakes among the other files with the same value, smoothed towards the overall share; shape (N,)."""
    values, truth = column.astype(str).to_numpy(), labels.to_numpy(dtype=float)
    # Folds deal out each class evenly, so that leaving one out does not shift the overall share.
    fold = np.empty(len(truth), dtype=int)
    for label in (0, 1):
        own = np.flatnonzero(truth == label)
        fold[own] = np.random.default_rng(0).permutation(len(own)) % FOLDS
    scores = np.empty(len(truth))
    for number in range(FOLDS):
        rest = fold != number
        if not rest.any():
            scores[~rest] = 0.5
            continue
        overall = truth[rest].mean()
        known = (
            pd.DataFrame({"value": values[rest], "truth": truth[rest]}).groupby("value")["truth"].agg(["sum", "size"])
        )
        share = (known["sum"] + overall) / (known["size"] + 1)
        scores[~rest] = pd.Series(values[~rest]).map(share).fillna(overall).to_numpy()
    return scores


def _separation(labels: np.ndarray, scores: np.ndarray, *, both_ways: bool) -> tuple[float, float]:
    """AUC with the lower end of its interval; above 0.5 either way for a plain number."""
    spread = float(scores.max() - scores.min())
    if spread == 0:
        return 0.5, 0.5
    rate = roc_auc(labels, (scores - scores.min()) / spread, resamples=200)
    value = rate.value if rate.value is not None else 0.5
    if rate.low is None or rate.high is None:
        return value, 0.5
    if both_ways and value < 0.5:
        return 1 - value, 1 - rate.high
    return value, rate.low


def _contrast(facts: pd.DataFrame, name: str) -> str:
    """What is typical of either class, in words."""
    real, fake = (facts.loc[facts["label"] == label, name] for label in (0, 1))
    if name in _NUMERIC:
        return f"typically {real.median():.3g} for real, {fake.median():.3g} for fake"
    parts = []
    for label, values in (("real", real), ("fake", fake)):
        share = values.value_counts(normalize=True)
        parts.append(f"{share.index[0] or 'none'} in {100 * share.iloc[0]:.0f} % of {label}")
    return ", ".join(parts)


def _framing(images: pd.DataFrame) -> dict[str, np.ndarray]:
    """Geometry of the deciding face; arrays of shape (N,), NaN without a face."""
    if not {"x0", "y0", "x1", "y1", "width", "height"} <= set(images.columns):
        return {}
    x0, y0, x1, y1, width, height = (
        pd.to_numeric(images[name]).to_numpy(dtype=float, na_value=np.nan)
        for name in ("x0", "y0", "x1", "y1", "width", "height")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "height of the face in pixels": y1 - y0,
            "height of the face in the picture": (y1 - y0) / height,
            "vertical position of the face": (y0 + y1) / 2 / height,
            "horizontal position of the face": (x0 + x1) / 2 / width,
        }


def _names(names: Iterable[object]) -> str:
    listed = [str(name) for name in names]
    more = len(listed) - _SHOWN
    return ", ".join(listed[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
