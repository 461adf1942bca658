"""The ledgers of many images together: which regions decide, per group such as a generator.

Works on the table of results (`model.results.COLUMNS`); an image counts once, with the face that decided.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from model.regions import LABELS, REGIONS

COLUMNS = ("group", "images", "region", "label", "log_odds", "share", "decides")


def region_summary(predictions: pd.DataFrame, by: str = "group", *, most: int = 30) -> pd.DataFrame:
    """Mean ledger of the images of each group.

    Parameters
    ----------
    predictions : DataFrame
        A table of results; one row per face.
    by : str
        Column that names the group, such as `group`, `source`, `label` or one of a manifest. Rows without a value are a
        group of their own, named ''. Without such a column all images are one group.
    most : int
        Groups that are kept, the largest ones.

    Returns
    -------
    DataFrame
        One row per group and region, groups with the most images first, regions as in `model.regions.REGIONS`:

        `group`, `images` (examined ones), `region`, `label`;
        `log_odds`, mean log-odds of the region, positive toward fake;
        `share`, mean share in [0, 1] of all evidence on the image, its sign aside;
        `decides`, share of images in [0, 1] where no other region speaks louder for the side of one half that the
        probability fell on; an image where none speaks for that side counts for none.

    Raises
    ------
    ValueError
        If the table has no ledger, or no score.
    """
    names = [f"ledger_{name}" for name in REGIONS]
    if missing := [name for name in (*names, "path", "logit", "p_fake") if name not in predictions]:
        raise ValueError(f"the table has no column {missing[0]}: it is no table of results of this version")
    examined = predictions[predictions["logit"].notna() & predictions[names].notna().all(axis=1)]
    if examined.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    logits = examined["logit"].astype(float).reset_index(drop=True)
    paths = examined["path"].reset_index(drop=True)
    faces = examined.iloc[logits.groupby(paths, sort=False).idxmax().to_numpy()]
    groups = faces[by].astype("string").fillna("").to_numpy(dtype=object) if by in faces else np.full(len(faces), "")
    ledgers = faces[names].to_numpy(dtype=np.float64)  # (N, R)
    size = np.abs(ledgers)
    total = size.sum(axis=1, keepdims=True)
    shares = np.divide(size, total, out=np.zeros_like(size), where=total > 0)
    # by the probability: calibration has a bias, so that the sides need not meet where the logit is zero
    toward = ledgers * np.sign(faces["p_fake"].to_numpy(dtype=np.float64) - 0.5)[:, None]
    loudest = (toward.argmax(axis=1)[:, None] == np.arange(len(REGIONS))) & (toward > 0)
    kept = pd.Series(groups).value_counts().head(most)  # ties stay in the order of their first image
    parts = []
    for group, count in kept.items():
        rows = groups == group
        parts.append(
            pd.DataFrame(
                {
                    "group": group,
                    "images": int(count),
                    "region": REGIONS,
                    "label": [LABELS[name] for name in REGIONS],
                    "log_odds": ledgers[rows].mean(axis=0),
                    "share": shares[rows].mean(axis=0),
                    "decides": loudest[rows].mean(axis=0),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]
