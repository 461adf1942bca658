"""Measured accuracy: figures that can be counted by hand, parts that are never judged twice, and the page."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from dashboard import cli
from model import accuracy, bulk, detector, metrics
from model.accuracy import (
    TEST_PICTURES,
    Material,
    Target,
    _measure,
    introduction,
    leave_one_out,
    met,
    page,
    real_vs_real,
    said,
    targets,
    unseen_real,
)
from model.accuracy._measure import _difference, _sample
from model.checkpoint import read_info, rewrite
from model.dataset import LabelledSet, load_labelled
from model.deliveries import DELIVERIES
from model.detector import Detector
from model.sources import from_folder
from model.tiers import TIERS
from tests.conftest import OneFace
from tests.support import encode, save_tiny

runner = CliRunner()

HEADER = {
    "leave_one_out": {
        "easy": {
            "roc_auc": {"value": 0.98, "low": 0.97, "high": 0.99},
            "tpr_at_1_percent_fpr": {"value": 0.9, "low": 0.8, "high": 0.95},
        },
        "sd_2_1": {
            "roc_auc": {"value": 0.88, "low": 0.85, "high": 0.91},
            "tpr_at_1_percent_fpr": {"value": 0.3, "low": 0.2, "high": 0.4},
        },
    },
    "unseen_real": {
        "press": {tier: {"value": 0.01, "low": 0.0, "high": 0.05, "n": 100} for tier in TIERS},
        "lab": {
            "clean": {"value": 0.02, "low": 0.01, "high": 0.06, "n": 90},
            "hard": {"value": 0.09, "low": 0.05, "high": 0.15, "n": 90},
        },
    },
}


class Counting(Detector):
    """A detector that counts what it judges, and can be interrupted."""

    judged = 0
    left = 10**9

    def classify_many(self, sources, **options) -> Iterator:
        for result in super().classify_many(sources, **options):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            self.judged += 1
            yield result


def counting(path: Path, left: int = 10**9) -> Counting:
    found = Counting.load(path)
    assert isinstance(found, Counting)
    found.left = left
    return found


def picture(seed: int) -> bytes:
    """A PNG of smooth colours."""
    grid = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return encode(Image.fromarray(grid).resize((160, 160), Image.Resampling.BICUBIC))


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def material_in(folder: Path) -> Material:
    manipulated = load_labelled(folder / "manipulated")
    return Material(load_labelled(folder / "test"), list(from_folder(folder / "no_face")), manipulated)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve faces of two sources and two generators, three pictures without a face, three edits; all measured."""
    folder = tmp_path_factory.mktemp("home")
    for index in range(12):
        label, group = (("real", "phone"), ("real", "press"), ("fake", "gan"), ("fake", "diffusion"))[index % 4]
        write(folder / "test" / label / group / f"{index}.png", picture(index))
    for index, grey in enumerate((True, True, False)):
        data = encode(Image.new("RGB", (80, 80), (128,) * 3)) if grey else picture(50)
        write(folder / "no_face" / "landscapes" / f"{index}.png", data)
    for index in range(3):
        write(folder / "manipulated" / "fake" / ("swap" if index else "edit") / f"{index}.png", picture(60 + index))
    framing = {"side": 64, "face_share": 0.83, "vertical_offset": 0.05, "jpeg_quality": 90}
    path = save_tiny(folder / "weights" / "tiny.safetensors", framing=framing, metrics=HEADER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "_finder", OneFace)
        accuracy.measure(Detector.load(path), material_in(folder), folder / "out", flips=8)
    return folder


@pytest.fixture(scope="module")
def found(home: Path) -> dict:
    (measured,) = accuracy.load(home / "out")
    return measured


@pytest.fixture
def folder(home: Path, tmp_path: Path, one_face: None) -> Path:
    """A copy of `home` to be changed."""
    return shutil.copytree(home, tmp_path / "home")


@pytest.fixture
def checkpoint(folder: Path) -> Path:
    return folder / "weights" / "tiny.safetensors"


@pytest.fixture
def material(folder: Path) -> Material:
    return material_in(folder)


def table(folder: Path, part: str) -> pd.DataFrame:
    (path,) = (folder / "out" / "tiny").glob(f"{part}-*.parquet")
    return pd.read_parquet(path)


def test_the_file_holds_what_is_returned_and_the_tables_lie_beside_it(
    found: dict, folder: Path, checkpoint: Path, material: Material
) -> None:
    assert accuracy.measure(Detector.load(checkpoint), material, folder / "out", flips=8) == found
    assert json.loads((folder / "out" / "tiny.json").read_text("utf-8")) == found
    names = {path.name.partition("-")[0] for path in (folder / "out" / "tiny").glob("*.parquet")}
    assert names == {*TIERS, "deliveries", "tiny", "no_face", "manipulated"}
    assert not list(folder.rglob("*.journal")) + list(folder.rglob("*.unfinished"))


@pytest.mark.parametrize("tier", TIERS)
def test_figures_of_a_tier_are_those_of_its_scores(found: dict, folder: Path, tier: str) -> None:
    frame = table(folder, tier)
    labels = frame["path"].str.startswith("fake").astype(int)
    limits = found["thresholds"]
    for figures, threshold in ((found["tiers"][tier], limits["fake"]), (found["at_half"][tier], 0.5)):
        rates = metrics.rates_at(labels, frame["p_fake"], threshold)
        assert figures["accuracy"] == rates["accuracy"].to_dict()
        assert figures["recall"] == rates["recall"].to_dict()
    assert found["tiers"][tier]["protocol"]["tier"] == tier
    decided = ((frame["p_fake"] >= limits["fake"]) | (frame["p_fake"] <= limits["real"])).sum()
    assert found["tiers"][tier]["coverage"] == metrics.wilson(int(decided), 12).to_dict()


def test_an_inconclusive_fake_counts_as_missed(found: dict, folder: Path) -> None:
    frame = table(folder, "clean")
    fakes = frame[frame["path"].str.startswith("fake")]
    assert (fakes["verdict"] == "inconclusive").any()
    assert found["tiers"]["clean"]["recall"]["value"] == (fakes["verdict"] == "fake").mean()


def test_the_figures_of_a_tier_go_into_a_card(found: dict, folder: Path, checkpoint: Path) -> None:
    own, info = folder / "out" / "tiny", read_info(checkpoint)
    rewrite(info, info.header | {"metrics": {}}, checkpoint)
    measured = [f"{name}={own / name}.json" for name in ("test", "test_web", "test_hard")]
    done = runner.invoke(cli.app, ["card", str(checkpoint), *measured])
    assert done.exit_code == 0, done.output
    header = read_info(checkpoint).header
    assert header["metrics"]["test_hard"]["recall"] == found["tiers"]["hard"]["recall"]


def test_flips_and_kept_verdicts_can_be_counted_in_the_tables(found: dict, folder: Path) -> None:
    clean = table(folder, "clean").set_index("path")["verdict"]
    frame = table(folder, "deliveries")
    frame[["delivery", "name"]] = frame["path"].str.split("/", n=1, expand=True).to_numpy()
    verdicts = frame.pivot(index="name", columns="delivery", values="verdict")
    assert sorted(verdicts.columns) == sorted(DELIVERIES)
    assert verdicts.index.str.startswith("real").sum() == verdicts.index.str.startswith("fake").sum() == 4
    flipped = [
        {"real", "fake"} <= {clean[name], *row} for name, row in zip(verdicts.index, verdicts.to_numpy(), strict=True)
    ]
    kept = verdicts.eq(clean[verdicts.index], axis=0)
    own = found["deliveries"]
    assert own["pictures"] == 8
    assert own["flipped"] == metrics.wilson(sum(flipped), 8).to_dict()
    assert own["kept_mean"] == pytest.approx(kept.sum(axis=1).mean())
    assert 0 < own["kept_mean"] < 8
    assert {name: share["value"] for name, share in own["kept"].items()} == kept.mean().to_dict()


def test_a_picture_that_is_real_in_one_copy_and_fake_in_another_flips(
    checkpoint: Path, material: Material, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def table(_: object, part: str, sources: list) -> pd.DataFrame:
        rows = [(source.name, verdict_of(part, source.name)) for source in sources]
        frame = pd.DataFrame(rows, columns=["path", "verdict"]).assign(p_fake=0.5, error=None)
        broken = frame["path"].eq("jpeg50/fake/gan/6.png")  # a copy that could not be made
        return frame.assign(
            error=np.where(broken, "no room", None), verdict=frame["verdict"].mask(broken, "not_applicable")
        )

    def verdict_of(part: str, name: str) -> str:
        if "real/phone/0.png" in name and name.startswith("crop"):
            return "fake"  # flips
        if "fake/gan/2.png" in name and name.startswith("webp"):
            return "inconclusive"  # changes, but does not flip
        if "real/phone/4.png" in name:
            return "not_applicable" if part == "clean" else "real"  # no verdict that could be kept
        if "real/press/1.png" in name:
            return "not_applicable"
        return "real" if "real/" in name else "fake"

    monkeypatch.setattr(_measure._Judge, "table", table)
    judge = _measure._Judge(Detector.load(checkpoint), folder, 16, lambda _: None)
    sources = material.test.sources
    clean = material.test.attach(judge.table("clean", sources))
    own = _measure._deliveries(judge, sources, clean)
    assert own["pictures"] == 11
    assert own["flipped"] == metrics.wilson(1, 11).to_dict()
    assert own["flipped_by_label"]["real"] == metrics.wilson(1, 5).to_dict()
    assert own["kept"]["crop"] == metrics.wilson(8, 9).to_dict()
    assert own["kept"]["jpeg90"] == own["kept"]["jpeg50"] == metrics.wilson(9, 9).to_dict()
    assert own["kept_mean"] == pytest.approx((7 * 8 + 2 * 7) / 9)


def test_pictures_without_a_face_and_tiny_faces_are_counted_apart(found: dict, folder: Path) -> None:
    own = found["not_applicable"]
    assert own["no_face"] == metrics.wilson(2, 3).to_dict()
    assert own["no_face_verdicts"]["not_applicable"] == 2
    assert own["faces"] == metrics.wilson(0, 12).to_dict()
    assert {size: share["value"] for size, share in own["tiny"].items()} == dict.fromkeys(("24", "36", "48", "60"), 1.0)
    sizes = table(folder, "tiny")
    sides = np.sqrt((sizes["x1"] - sizes["x0"]) * (sizes["y1"] - sizes["y0"]))
    wanted = sizes["path"].str.partition("/")[0].astype(float)
    seen = sides.notna()  # a copy below 32 px is refused before a face is looked for
    assert seen.sum() > 20
    np.testing.assert_allclose(sides[seen], wanted[seen], atol=1)


def test_a_broken_file_is_not_a_face_that_was_refused(folder: Path, checkpoint: Path, material: Material) -> None:
    write(folder / "test" / "real" / "phone" / "broken.png", b"no image")
    broken = Material(load_labelled(folder / "test"))
    found = accuracy.measure(Detector.load(checkpoint), broken, folder / "out", flips=2)
    assert found["not_applicable"]["faces"] == metrics.wilson(0, 12).to_dict()
    assert found["tiers"]["clean"]["errors"] == 1


def test_manipulated_faces_have_figures_by_kind_and_enter_no_other(found: dict, folder: Path) -> None:
    frame = table(folder, "manipulated")
    limits = found["thresholds"]
    assert set(found["manipulated"]) == {"swap", "edit"}
    swaps = frame[frame["path"].str.contains("swap")]
    own = found["manipulated"]["swap"]
    assert own["recall"] == metrics.wilson(int((swaps["p_fake"] >= limits["fake"]).sum()), 2).to_dict()
    assert own["median_p_fake"] == pytest.approx(swaps["p_fake"].median())
    reals = table(folder, "clean")["p_fake"][lambda p: table(folder, "clean")["path"].str.startswith("real")]
    auc = metrics.roc_auc([0] * 6 + [1] * 2, [*reals, *swaps["p_fake"]]).value
    assert own["roc_auc"]["value"] == pytest.approx(auc)
    assert found["tiers"]["clean"]["images"] == 12


def test_what_was_judged_is_not_judged_again(checkpoint: Path, material: Material, folder: Path) -> None:
    first = counting(checkpoint)
    before = accuracy.measure(first, material, folder / "other", flips=2)
    assert first.judged == 3 * 12 + 8 * 2 + 4 * 2 + 3 + 3
    again = counting(checkpoint)
    assert accuracy.measure(again, material, folder / "other", flips=2) == before
    assert again.judged == 0


def test_an_interrupted_measurement_goes_on(checkpoint: Path, material: Material, folder: Path, found: dict) -> None:
    cut = counting(checkpoint, left=20)
    with pytest.raises(KeyboardInterrupt):
        accuracy.measure(cut, material, folder / "other", flips=2)
    rest = counting(checkpoint)
    assert accuracy.measure(rest, material, folder / "other", flips=2)["tiers"] == found["tiers"]
    assert rest.judged == 3 * 12 + 8 * 2 + 4 * 2 + 3 + 3 - 12  # 8 were of a batch that was not complete


def test_what_was_judged_before_a_disk_was_full_is_kept(
    checkpoint: Path, material: Material, folder: Path, found: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = bulk._Journal.append

    def full(journal: bulk._Journal, name: str, rows: list, **options: bool) -> None:
        if len(journal.places) == 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(journal, name, rows, **options)

    with monkeypatch.context() as patch:
        patch.setattr(bulk._Journal, "append", full)
        with pytest.raises(bulk.BulkError, match="No space left"):
            accuracy.measure(counting(checkpoint), material, folder / "other", flips=2, batch_size=4)
    rest = counting(checkpoint)
    assert accuracy.measure(rest, material, folder / "other", flips=2, batch_size=4)["tiers"] == found["tiers"]
    assert rest.judged == 3 * 12 + 8 * 2 + 4 * 2 + 3 + 3 - 8  # of ten, those of a complete batch


def test_a_header_that_describes_more_moves_no_score(
    checkpoint: Path, material: Material, folder: Path, found: dict
) -> None:
    info = read_info(checkpoint)
    rewrite(info, info.header | {"metrics": {}, "origin": "elsewhere"}, checkpoint)
    later = counting(checkpoint)
    again = accuracy.measure(later, material, folder / "out", flips=8)
    assert later.judged == 0
    assert again["checkpoint_sha256"] != found["checkpoint_sha256"]
    assert again["leave_one_out"] is None
    cut = counting(checkpoint, left=5)
    with pytest.raises(KeyboardInterrupt):
        accuracy.measure(cut, material, folder / "other", flips=2)
    rewrite(read_info(checkpoint), info.header, checkpoint)  # the journal names another file: begun anew
    assert accuracy.measure(counting(checkpoint), material, folder / "other", flips=2)["tiers"] == found["tiers"]


@pytest.mark.parametrize("change", ["picture", "thresholds", "weights"])
def test_what_decides_a_score_is_judged_again(
    checkpoint: Path, material: Material, folder: Path, found: dict, change: str
) -> None:
    info = read_info(checkpoint)
    if change == "picture":
        write(folder / "test" / "real" / "phone" / "0.png", picture(99))
    elif change == "thresholds":
        rewrite(info, info.header | {"thresholds": {"real": 0.2, "fake": 0.8, "fpr": 0.01}}, checkpoint)
    else:
        save_tiny(checkpoint, seed=1, **{key: info.header[key] for key in ("framing", "metrics")})
    later = counting(checkpoint)
    again = accuracy.measure(later, material, folder / "out", flips=2)
    assert later.judged >= 3 * 12
    assert again["tiers"] != found["tiers"]


def test_a_limit_takes_the_same_few_of_every_label(checkpoint: Path, material: Material, folder: Path) -> None:
    found = accuracy.measure(Detector.load(checkpoint), material, folder / "out", flips=2, limit=4)
    assert (found["tiers"]["clean"]["n_real"], found["tiers"]["clean"]["n_fake"]) == (2, 2)
    assert "at most 4 of each set" in page([found])
    labels = pd.Series([0, 1] * 10)
    assert _sample(labels, 6) == _sample(labels, 6)
    assert sorted(labels[_sample(labels, 6)]) == [0, 0, 0, 1, 1, 1]
    assert _sample(labels, None) == list(range(20))


def test_balanced_accuracy_lost_has_the_interval_of_a_difference() -> None:
    first = {"value": 0.95, "low": 0.94, "high": 0.96}
    second = {"value": 0.91, "low": 0.88, "high": 0.93}
    lost = _difference(first, second)
    assert lost["value"] == pytest.approx(0.04)
    assert lost["low"] == pytest.approx(0.04 - np.hypot(0.01, 0.02))
    assert lost["high"] == pytest.approx(0.04 + np.hypot(0.01, 0.03))
    assert (
        _difference(first, {"value": None, "low": None, "high": None, "reason": "no images"})["reason"] == "no images"
    )


def test_two_sources_of_photographs_are_told_apart_only_if_their_scores_differ() -> None:
    rng = np.random.default_rng(0)
    scores = {
        "a": rng.uniform(0, 1, 400),
        "b": rng.uniform(0, 1, 400),
        "c": rng.uniform(0.5, 1, 400),
        "few": [0.0] * 39,
    }
    frame = pd.concat(pd.DataFrame({"label": 0, "group": name, "p_fake": values}) for name, values in scores.items())
    frame = pd.concat([frame, pd.DataFrame({"label": 1, "group": "gan", "p_fake": [1.0] * 50})])
    found = real_vs_real(frame)
    assert [{pair["higher"], pair["lower"]} for pair in found["pairs"]][2] == {"a", "b"}
    assert {pair["higher"] for pair in found["pairs"][:2]} == {"c"}
    assert found["pairs"][0]["roc_auc"]["value"] == pytest.approx(0.75, abs=0.04)
    assert all(pair["roc_auc"]["value"] >= 0.5 for pair in found["pairs"])
    assert found["within"] == 1


def test_leave_one_out_is_summed_up_by_mean_and_worst_fold() -> None:
    found = leave_one_out(HEADER)
    assert found is not None
    assert found["folds"] == 2
    assert found["roc_auc"]["mean"]["value"] == pytest.approx(0.93)
    assert found["roc_auc"]["mean"]["low"] == pytest.approx(0.93 - np.hypot(0.01, 0.03) / 2)
    assert found["tpr_at_1_percent_fpr"]["worst"] == HEADER["leave_one_out"]["sd_2_1"]["tpr_at_1_percent_fpr"] | {
        "of": "sd_2_1"
    }
    assert not found["together"]
    one = {"value": 0.8, "low": 0.7, "high": 0.9}
    means = {"roc_auc": one, "tpr_at_1_percent_fpr": one | {"low": 0.6}}
    measured = leave_one_out(HEADER | {"leave_one_out_means": means})
    assert measured["together"] and measured["folds"] == found["folds"]
    assert [measured[key]["mean"]["low"] for key in means] == [0.7, 0.6]
    assert measured["roc_auc"]["worst"] == found["roc_auc"]["worst"]
    assert leave_one_out({}) is None
    undefined = leave_one_out({"leave_one_out": {"empty": {"roc_auc": {"value": None}}}})
    assert undefined is not None
    assert undefined["roc_auc"]["mean"]["value"] is None


def test_false_alarms_on_unseen_photographs_are_summed_up_by_tier() -> None:
    found = unseen_real(HEADER)
    assert found is not None
    assert {tier: entry["sources"] for tier, entry in found.items()} == {"clean": 2, "web": 1, "hard": 2}
    assert found["clean"]["mean"]["value"] == pytest.approx(0.015)
    assert (found["hard"]["worst"]["value"], found["hard"]["worst"]["of"]) == (0.09, "lab")
    assert unseen_real({}) is None


def test_targets_are_met_by_the_figure_itself() -> None:
    least, most = Target("a", "a", 0.9), Target("b", "b", 0.03, most=True)
    wide = {"low": 0.0, "high": 1.0}
    assert [met(least, {"value": value, **wide}) for value in (0.9, 0.89)] == ["yes", "no"]
    assert [met(most, {"value": value, **wide}) for value in (0.03, 0.031)] == ["yes", "no"]
    assert met(least, None) == met(least, {"value": None, "low": None, "high": None}) == "not measured"


def test_every_target_has_its_place_in_a_measurement(found: dict) -> None:
    measured = {
        target.title: figure
        for name in ("clip_vit_b16", "resnet50", "tiny")
        for target, figure in targets(found | {"checkpoint": name})
    }
    assert {target.title for target in accuracy.TARGETS} == set(measured)
    assert all(figure is not None for figure in measured.values())
    assert measured["False alarms, unseen photographs, hard: worst source"]["of"] == "lab"
    assert measured["Weights together"]["value"] < 1


def test_targets_of_one_checkpoint_are_not_asked_of_another(found: dict) -> None:
    titles = {name: {target.title for target, _ in targets(found | {"checkpoint": name})} for name in ("resnet50", "x")}
    assert "F1 at p = 0.5, test" in titles["resnet50"]
    assert "F1 at p = 0.5, test" not in titles["x"]
    assert "Accuracy, test" not in titles["resnet50"]


def test_the_page_says_every_figure_and_what_was_not_measured(found: dict) -> None:
    text = page([found])
    assert said(found["tiers"]["hard"]["ece"]) in text
    assert said(found["deliveries"]["flipped"]) in text
    assert "| Not applicable on pictures without a face | at least 95.00 % | 66.67 % [20.77, 93.85] | no |" in text
    assert "9.00 % [5.00, 15.00] (lab) | no |" in text
    assert "| lab | 90 | 2.00 % [1.00, 6.00] | not measured | 9.00 % [5.00, 15.00] |" in text
    assert "| swap | 2 |" in text
    assert "| jpeg90 | Saved once as JPEG of quality 90, 4:2:0 |" in text
    assert "two sources of at least 40 photographs" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(line.endswith(" |") for line in rows)
    bare = found | {"unseen_real": None, "leave_one_out": None, "manipulated": None, "unseen_real_sources": None}
    bare["not_applicable"] = found["not_applicable"] | {"no_face": None}
    text = page([bare])
    assert "| ROC AUC, leave-one-out: mean | at least 0.9500 | not measured | not measured |" in text
    assert "| Not applicable on pictures without a face | at least 95.00 % | not measured | not measured |" in text


def test_the_page_tells_what_the_test_pictures_are_if_they_are_our_own(found: dict) -> None:
    clean = found["tiers"]["clean"]
    own = found["tiers"] | {"clean": clean | {"groups": dict.fromkeys(("ffpp", "k140_test", "lfw"))}}
    told = [introduction([entry]) for entry in (found, found | {"tiers": own})]
    assert [TEST_PICTURES in text for text in told] == [False, True]
    assert page([found]).startswith(f"{told[0]}\n\n## `tiny`")


def test_names_cannot_break_a_table(found: dict) -> None:
    odd = found | {"manipulated": {"a|b": found["manipulated"]["swap"]}}
    assert "| a\\|b | 2 |" in page([odd])


def test_measurements_are_read_with_the_default_first(tmp_path: Path) -> None:
    for name in ("a", "clip_vit_b16"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"format": 1, "checkpoint": name}))
    (tmp_path / "other.json").write_text("[1]")
    assert [entry["checkpoint"] for entry in accuracy.load(tmp_path)] == ["clip_vit_b16", "a"]


def test_a_set_of_one_label_gives_reasons_instead_of_figures(checkpoint: Path, folder: Path) -> None:
    test = load_labelled(folder / "test")
    reals = test.frame["label"] == 0
    alone = LabelledSet(
        [source for source, real in zip(test.sources, reals, strict=True) if real],
        test.frame[reals].reset_index(drop=True), test.folders, [],
    )  # fmt: skip
    found = accuracy.measure(Detector.load(checkpoint), Material(alone), folder / "out", flips=2)
    assert found["lost"]["reason"] == "no fake images"
    assert "not defined: no fake images" in page([found])
    assert "not measured" in page([found])


def test_the_command_measures_and_writes_the_page(
    folder: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    command = ["measure", "test", "--checkpoint", str(checkpoint), "--flips", "2", "--no-face", "no_face"]
    done = runner.invoke(cli.app, [*command, "--manipulated", "manipulated", "--out", "out", "--page", "page.md"])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == "page.md"
    (found,) = accuracy.load(Path("out"))
    assert Path("page.md").read_text("utf-8") == page([found])
    printed = runner.invoke(cli.app, [*command, "--out", "trial", "--limit", "4"])
    assert printed.exit_code == 0, printed.output
    assert printed.stdout.startswith("<!-- Written by")


def test_the_command_refuses_a_set_that_is_not_there(tiny_setup: Path) -> None:
    done = runner.invoke(cli.app, ["measure", "gone"])
    assert done.exit_code == 2
    assert "gone" in done.stderr
