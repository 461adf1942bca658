"""RC005: where the faces are, and in which images one was found."""

from __future__ import annotations

import numpy as np
import pandas as pd

from model.audit._finding import Finding
from model.audit._header import separation
from model.audit._sources import LEAK_WARNING, Told, enough, inside_sources, listed
from model.metrics import image_level, wilson


def framing_leak(predictions: pd.DataFrame) -> list[Finding]:
    """RC005: where and how large the faces are differs by label, over all or inside single sources.

    Or in which images one was found.
    """
    images = image_level(predictions).dropna(subset=["label"])
    labels = images["label"].to_numpy(dtype=int)
    if len(set(labels.tolist())) < 2:
        return []
    findings = []
    advice = (
        "Every face is cut out in one framing, which takes most of this away; what remains is resolution, and how much "
        "of the surroundings there is to show. Compare faces of similar size in similar pictures."
    )
    if told := _told(images):
        texts = "; ".join(each.text for each in told)
        detail = f"The classes differ in: {texts}."
        findings.append(Finding("RC005", "Face framing differs by label", "warning", detail, advice))
    if inside := inside_sources(images, _told):
        detail = f"Even within a single source the classes differ: {listed(inside)}."
        paths = tuple(images.loc[images["source"].isin(list(inside)), "path"])
        title = "Face framing differs by label inside a source"
        findings.append(Finding("RC005", title, "warning", detail, advice, paths))
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


def _told(images: pd.DataFrame, sets: int = 1) -> list[Told]:
    """The properties of the framing that tell the label, the strongest first; for so many `sets` at once."""
    labels, told = images["label"].to_numpy(dtype=int), []
    framing = _framing(images)
    for meaning, values in framing.items():
        known = ~np.isnan(values)
        if not enough(images[known]):
            continue
        auc, low, _ = separation(labels[known], values[known], both_ways=True, comparisons=len(framing) * sets)
        if low > LEAK_WARNING:
            real, fake = (float(np.median(values[known & (labels == label)])) for label in (0, 1))
            text = f"{meaning} (AUC {auc:.2f}: typically {real:.4g} for real, {fake:.4g} for fake)"
            told.append(Told(auc, low, text))
    return sorted(told, key=lambda each: -each.auc)


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
