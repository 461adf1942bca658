"""Which regions decide over a run."""

from __future__ import annotations

import pandas as pd
import pytest

from model.calibration import Calibration
from model.region_summary import COLUMNS, region_summary
from model.regions import REGIONS
from model.results import to_frame


def row(path, group, logit, **ledger):
    entries = dict.fromkeys((f"ledger_{name}" for name in REGIONS), 0.0)
    p_fake = None if logit is None else Calibration().probability(logit)
    parts = {f"ledger_{name}": value for name, value in ledger.items()}
    return {"path": path, "group": group, "logit": logit, "p_fake": p_fake} | entries | parts


TABLE = pd.DataFrame(
    [
        row("a", "gan", 2.0, mouth=3.0, nose=-1.0),
        row("b", "gan", 1.0, mouth=1.0, hair=2.0),
        row("c", "real", -2.0, mouth=1.0, nose=-2.0),
        row("c", "real", -5.0, nose=-9.0),  # the less suspicious face of the same image
        row("d", None, None),  # no face was examined
    ]
)


def of(frame, group, region):
    return frame[(frame["group"] == group) & (frame["region"] == region)].iloc[0]


def test_ledgers_are_averaged_per_group_over_the_deciding_faces():
    frame = region_summary(TABLE)
    assert list(frame.columns) == list(COLUMNS)
    assert list(dict.fromkeys(frame["group"])) == ["gan", "real"]
    assert len(frame) == 2 * len(REGIONS)
    assert (of(frame, "gan", "mouth")["images"], of(frame, "real", "nose")["images"]) == (2, 1)
    assert of(frame, "gan", "mouth")["log_odds"] == pytest.approx(2.0)
    assert of(frame, "gan", "mouth")["share"] == pytest.approx((3 / 4 + 1 / 3) / 2)
    assert of(frame, "gan", "mouth")["decides"] == 0.5
    assert of(frame, "gan", "hair")["decides"] == 0.5
    assert of(frame, "real", "nose")["log_odds"] == pytest.approx(-2.0)  # the face with the higher logit
    assert of(frame, "real", "nose")["decides"] == 1.0
    assert frame.groupby("group")["decides"].sum().tolist() == pytest.approx([1.0, 1.0])


def test_the_largest_groups_are_kept_and_a_missing_column_makes_one_group():
    assert set(region_summary(TABLE, most=1)["group"]) == {"gan"}
    whole = region_summary(TABLE, by="generator")
    assert set(whole["group"]) == {""}
    assert set(whole["images"]) == {3}


def test_a_table_without_examined_faces_gives_no_rows():
    assert region_summary(TABLE[TABLE["path"] == "d"]).empty
    assert region_summary(to_frame([])).empty


def test_a_table_without_ledgers_is_refused():
    with pytest.raises(ValueError, match="ledger_"):
        region_summary(pd.DataFrame({"path": ["a"], "logit": [1.0]}))
    with pytest.raises(ValueError, match="p_fake"):
        region_summary(TABLE.drop(columns="p_fake"))


def test_a_region_decides_for_the_side_of_the_probability_not_of_the_logit():
    biased = Calibration(bias=-1.0).probability(0.5)  # below one half
    table = pd.DataFrame([row("a", "one", 0.5, mouth=2.0, nose=-1.5) | {"p_fake": biased}])
    assert of(region_summary(table), "one", "nose")["decides"] == 1.0


@pytest.mark.parametrize(("logit", "nose"), [(0.5, -1.0), (-0.5, 1.0), (0.0, 1.0)])
def test_no_region_decides_where_none_speaks_for_the_outcome(logit, nose):
    table = pd.DataFrame([row("a", "one", logit, nose=nose)])  # the bias alone brings the other side
    assert region_summary(table)["decides"].sum() == 0
