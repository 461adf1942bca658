"""`python -m benchmarks.background TABLE ...`: how often the background holds more evidence than the face, or decides.

It decides where the verdict would be another one without its part of the score, and no other part on its side of the
ledger holds more (`model.faithfulness.margin`). Each TABLE is a Parquet file of results by one bundled checkpoint, as
`reality-check bulk` writes it. Nothing is judged again: a ledger's parts are sums, so that the score without one of
them follows exactly. With `--write` the figures go into docs/evidence.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks._page import machine, publish, table
from dashboard.settings import ROOT
from model.calibration import FAKE, REAL
from model.checkpoint import CheckpointError, CheckpointInfo, read_info, resolve
from model.faithfulness import margin
from model.regions import FACE_REGIONS, REGIONS

PAGE = ROOT / "docs" / "evidence.md"
HEAD = (
    "Network",
    "Examined faces",
    "More evidence on the background than on the face",
    "The background decides",
    "Of these, from real to AI-generated or back",
)


def counted(results: pd.DataFrame, info: CheckpointInfo) -> tuple[int, int, int, int]:
    """Examined faces; those whose background holds more evidence, whose verdict it decides, and turns round if it does.

    Parameters
    ----------
    results : DataFrame
        Rows as `model.results.ImageResult.rows` gives them, of this checkpoint.
    """
    examined = results[results["ledger_background"].notna()]
    on_face = examined[[f"ledger_{name}" for name in FACE_REGIONS]].abs().sum(axis=1)
    more = examined["ledger_background"].abs() > on_face
    decided = []  # verdicts with and without the background
    for row in examined.to_dict("records"):
        ledger = {name: row[f"ledger_{name}"] for name in REGIONS}
        found = margin(ledger, row["logit"], row["verdict"], info.calibration, info.thresholds)
        if found.background_decides:
            decided.append({row["verdict"], found.turning["background"]})
    return len(examined), int(more.sum()), len(decided), decided.count({REAL, FAKE})


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, print and, if asked, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.background", description=__doc__.split("\n")[0])
    parser.add_argument("tables", type=Path, nargs="+", metavar="TABLE", help="results as Parquet")
    parser.add_argument("--write", action="store_true", help="write the section of docs/evidence.md")
    options = parser.parse_args(arguments)
    rows = []
    try:
        for path in options.tables:
            results = pd.read_parquet(path)
            (name,), (digest,) = (results[key].dropna().unique() for key in ("checkpoint", "checkpoint_sha256"))
            info = read_info(resolve(name))
            if info.sha256 != digest:
                raise CheckpointError(f"{path}: is of other weights than the bundled {name}")
            faces, *counts = counted(results, info)
            rows.append([f"`{name}`", f"{faces:,}", *(f"{count:,} ({count / faces:.0%})" for count in counts)])
    except (CheckpointError, OSError, KeyError, ValueError, ZeroDivisionError) as error:
        print(f"benchmarks.background: {error}", file=sys.stderr)
        return 2
    text = "\n\n".join(
        (
            "## How often the background decides",
            f"{machine()} Written by `python -m benchmarks.background TABLE ... --write`, each table made by "
            "`reality-check bulk FOLDER --out TABLE --checkpoint NAME` from faces that were not trained on. The "
            "background decides where the verdict would be another one without its part of the score, and no other "
            "part on its side of the ledger holds more.",
            table(HEAD, rows),
        )
    )
    publish(text, PAGE, "background", write=options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
