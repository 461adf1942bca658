"""Write what the bundled checkpoints say of the sample images: `python -m tests.contract.make_golden`.

Run it only after a change that is meant to change results, and say so in the commit: the golden file is what holds all
other changes to the same numbers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model.checkpoint import CheckpointInfo, list_checkpoints
from model.detector import Detector
from model.imaging import SUFFIXES
from model.results import ImageResult
from model.sources import Source

GOLDEN = Path(__file__).with_name("golden.json")
SAMPLES = Path(__file__).parents[2] / "sample_images"


def samples() -> list[Source]:
    """The sample images, by relative path in alphabetical order."""
    paths = sorted(path for path in SAMPLES.rglob("*") if path.suffix.lower() in SUFFIXES)
    return [Source(path.relative_to(SAMPLES).as_posix(), path) for path in paths]


def account(results: list[ImageResult]) -> dict[str, dict[str, Any]]:
    """Per image, the decision before calibration, or the reason why there is none."""
    return {
        one.name: {"sha256": one.sha256, "faces": len(one.faces), "logit": one.logit, "reason": one.reason}
        for one in results
    }


def golden(info: CheckpointInfo) -> dict[str, Any]:
    """A checkpoint's entry in the golden file."""
    return {
        "checkpoint_sha256": info.sha256,
        "images": account(list(Detector.load(info.path).classify_many(samples()))),
    }


def main() -> None:
    """Rewrite the golden file."""
    entries = {info.name: golden(info) for info in list_checkpoints()}
    GOLDEN.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{GOLDEN.name}: {len(entries)} checkpoints, {len(samples())} sample images")


if __name__ == "__main__":
    main()
