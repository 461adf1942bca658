import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from model.calibration import Thresholds
from model.faces import Face
from model.regions import REGIONS
from model.results import COLUMNS, LEDGER_COLUMNS, FaceResult, ImageResult, not_applicable, to_frame

FOUND = Face((10.126, 20.0, 110.0, 140.0), 0.99, ((1.0, 2.0),) * 5)
MISSED = not_applicable(Face((0.0, 0.0, 20.0, 20.0), 0.96, ((1.0, 2.0),) * 5), (0.0, 0.0, 24.0, 24.0), "face_too_small")


def examined(logit, verdict="fake"):
    book = dict.fromkeys((*REGIONS, "bias"), logit / (len(REGIONS) + 1))
    return FaceResult(FOUND, (0.0, 0.0, 9.0, 9.0), verdict, None, logit, 0.9, np.zeros((2, 2)), logit / 10, book)


def result(**changes):
    plain = ImageResult("a.jpg", "not_applicable", Thresholds(0.2, 0.8, 0.01), "tiny", "00", "torch-fp32", "0")
    return replace(plain, **changes)


SEVERAL = result(verdict="fake", faces=(MISSED, examined(1.0, "real"), examined(3.0)), deciding_face=2, width=300)
NONE = result(name="b.jpg", reason="no_face")
BROKEN = result(name="c.jpg", reason="truncated", error="c.jpg: The image file ends too early.")


def test_the_columns_are_those_of_the_design():
    head = "path, sha256, bytes, format, width, height, face, faces, x0, y0, x1, y1, face_score, logit, p_fake, verdict"
    middle = ["reason", "threshold_real", "threshold_fake", *(f"ledger_{name}" for name in REGIONS), "ledger_bias"]
    tail = "checkpoint, checkpoint_sha256, runtime, version, elapsed_ms, label, source, error"
    assert list(COLUMNS) == [*head.split(", "), *middle, *tail.split(", ")]


def test_one_row_per_face_and_one_for_an_image_without():
    frame = to_frame([SEVERAL, NONE, BROKEN])
    assert tuple(frame.columns) == COLUMNS
    assert frame["path"].tolist() == ["a.jpg"] * 3 + ["b.jpg", "c.jpg"]
    assert frame["face"].tolist()[:3] == [0, 1, 2]
    assert frame["face"].isna().tolist() == [False] * 3 + [True] * 2
    assert frame["faces"].tolist() == [3, 3, 3, 0, 0]
    assert frame["verdict"].tolist() == ["not_applicable", "real", "fake", "not_applicable", "not_applicable"]
    assert frame["reason"].fillna("").tolist() == ["face_too_small", "", "", "no_face", "truncated"]
    assert frame["logit"].isna().tolist() == [True, False, False, True, True]
    assert frame["error"].fillna("").tolist() == [""] * 4 + ["c.jpg: The image file ends too early."]
    assert frame.loc[0, "x0"] == 0
    assert frame.loc[1, "x0"] == 10.13
    ledger = frame.loc[1:2, list(LEDGER_COLUMNS)]
    assert ledger.sum(axis=1).tolist() == pytest.approx([1.0, 3.0])


def test_types_do_not_depend_on_what_the_results_hold():
    types = to_frame([]).dtypes
    for results in ([NONE], [BROKEN], [SEVERAL], [SEVERAL, NONE, BROKEN]):
        assert to_frame(results).dtypes.equals(types)
    assert {str(types[name]) for name in ("path", "verdict", "source", "error")} == {"string"}
    assert {str(types[name]) for name in ("bytes", "width", "height", "face", "faces", "label")} == {"Int64"}
    assert {str(types[name]) for name in ("logit", "p_fake", "x0", *LEDGER_COLUMNS)} == {"float64"}


def test_the_deciding_face_speaks_for_the_image():
    assert SEVERAL.logit == 3.0
    assert SEVERAL.p_fake == 0.9
    assert SEVERAL.deciding is SEVERAL.faces[2]
    assert (NONE.logit, NONE.p_fake, NONE.deciding) == (None, None, None)


@pytest.mark.parametrize("one", [SEVERAL, NONE, BROKEN, result(faces=(MISSED,), reason="face_too_small")])
def test_a_result_survives_json(one):
    account = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    assert account["verdict"] == one.verdict
    assert account["reason"] == one.reason
    assert account["error"] == one.error
    assert account["logit"] == one.logit
    assert account["threshold_fpr"] == 0.01
    assert account["threshold_custom"] is False
    assert [entry["verdict"] for entry in account["face_results"]] == [face.verdict for face in one.faces]
    assert set(COLUMNS) <= set(account)


def test_the_account_of_an_image_is_the_row_of_its_deciding_face():
    account, row = SEVERAL.to_dict(), SEVERAL.rows()[2]
    assert {name: account[name] for name in COLUMNS} == row


def test_the_parquet_file_brings_back_the_same_table(tmp_path):
    frame = to_frame([SEVERAL, NONE, BROKEN])
    frame.to_parquet(tmp_path / "results.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "results.parquet"), frame)
