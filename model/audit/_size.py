"""RC001 and RC004: how many images there are of what."""

from __future__ import annotations

import pandas as pd

from model.audit._finding import Finding, named
from model.metrics import wilson


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
        if len(sizes) >= 30 and sizes.mean() < 5:
            findings.append(
                Finding(
                    "RC004",
                    "Groups of single images",
                    "info",
                    f"The {len(sizes):,} groups hold {sizes.mean():.1f} images on average: they say who or what is in "
                    "a picture rather than what kind it is.",
                    "Group by another column, and name this one to cluster by where several images share a value.",
                )
            )
        elif len(small):
            findings.append(
                Finding(
                    "RC004",
                    "Small groups",
                    "info",
                    f"{len(small)} of {len(sizes)} groups have fewer than 30 images: "
                    f"{named([f'{name} ({count})' for name, count in small.items()])}.",
                    "Figures of these groups are anecdotes; the lowest of many small groups is low by chance.",
                )
            )
    return findings
