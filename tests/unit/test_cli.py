"""The command line: what it prints, writes and returns."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from dashboard import cli, server
from dashboard.settings import ROOT, Settings, get_settings
from model import accuracy, metrics
from model.audit import file_facts
from model.checkpoint import HASH_BYTES, read_info, short_hash
from model.dataset import LabelledSet
from model.network import save
from model.results import COLUMNS
from model.sources import Source
from tests.support import header, save_tiny, tiny_network

Picture = Callable[..., bytes]
runner = CliRunner()


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


@pytest.fixture
def folder(tiny_setup: Path, picture: Picture) -> Path:
    """Six pictures in two classes, and one damaged file."""
    root = tiny_setup / "set"
    for index in range(6):
        path = root / ("real" if index % 2 else "fake") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(index))
    return root


def test_classify_prints_one_json_object_per_image(folder: Path, tiny_checkpoint: Path) -> None:
    images = sorted(str(path) for path in folder.rglob("*.png"))
    done = runner.invoke(cli.app, ["classify", "--json", *images])
    assert done.exit_code == 0, done.output
    found = [json.loads(line) for line in lines(done.stdout)]
    assert [entry["path"] for entry in found] == images
    for entry in found:
        assert set(COLUMNS) <= set(entry)
        assert entry["verdict"] in ("fake", "real", "inconclusive")
        ledger = sum(value for name, value in entry.items() if name.startswith("ledger_"))
        assert ledger == pytest.approx(entry["logit"], abs=1e-4)
        assert entry["checkpoint_sha256"] == read_info(tiny_checkpoint).sha256


def test_classify_says_the_verdict_in_words(folder: Path) -> None:
    done = runner.invoke(cli.app, ["classify", str(folder / "fake" / "0.png")])
    assert done.exit_code == 0
    assert any(word in done.stdout for word in ("AI-generated", "Real photograph", "Inconclusive"))
    assert "%" in done.stdout


def test_a_picture_without_a_face_is_not_a_failure(tiny_setup: Path) -> None:
    Image.new("RGB", (100, 100), (128, 128, 128)).save("wall.png")
    done = runner.invoke(cli.app, ["classify", "--json", "wall.png"])
    assert done.exit_code == 0
    entry = json.loads(done.stdout)
    assert (entry["verdict"], entry["reason"]) == ("not_applicable", "no_face")


def test_classify_goes_on_after_a_damaged_file_and_returns_1(folder: Path) -> None:
    bad = folder / "bad.png"
    bad.write_bytes(b"this is no image at all, whatever its name says")
    done = runner.invoke(cli.app, ["classify", "--json", str(bad), "gone.png", str(folder / "fake" / "0.png")])
    assert done.exit_code == 1
    first, second, third = (json.loads(line) for line in lines(done.stdout))
    assert str(bad) in first["error"]
    assert "gone.png" in second["error"]
    assert third["error"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["classify", "gone.png"], "gone.png"),
        (["bulk", "gone", "--out", "x.csv"], "gone"),
        (["bulk", "set", "--out", "x.xlsx"], ".parquet"),
        (["bulk", "empty", "--out", "x.csv"], "empty"),
        (["evaluate", "gone"], "gone"),
        (["evaluate", "strange"], "holiday"),
        (["evaluate", "set", "--group-by", "camera"], "camera"),
        (["evaluate", "set", "--cluster-by", "person"], "person"),
        (["evaluate", "set", "--cluster-by", "group"], "'group' to cluster by is empty"),
        (["evaluate", "set", "--group-by", "name"], "no column 'name'"),
        (["evaluate", "set", "--group-by", "label_name"], "there are format, label, group, source."),
        (["evaluate", "set", "--prevalence", "1"], "prevalence"),
        (["evaluate", "set", "--cost-fp", "0", "--cost-fn", "0"], "Costs"),
        (["evaluate", "set", "--checkpoint", "nothing"], "nothing"),
        (["audit", "strange"], "holiday"),
        (["classify", "set/real/1.png", "--checkpoint", "x.safetensors"], "x.safetensors"),
        (["audit", "set", "--predictions", "wrong.csv"], "wrong.csv: is no table of predictions, as it has no column"),
        (["compare", "text.parquet", "text.parquet"], "text.parquet: cannot be read as a table of predictions"),
        (["card", "x.safetensors", "test=wrong.csv"], "wrong.csv: is not JSON"),
        (["card", "x.safetensors", "test=list.json"], "list.json: does not hold the figures"),
        (["train"], "train FOLDER"),
        (["train", "gone"], "gone"),
        (["train", "--config", "gone.toml"], "gone.toml"),
    ],
)
def test_unusable_input_is_one_line_and_exit_code_2(
    folder: Path, picture: Picture, arguments: list[str], said: str
) -> None:
    Path("wrong.csv").write_text("file,p_fake\na.png,0.5\n")
    Path("list.json").write_text("[]")
    pd.DataFrame({"path": ["a.png"], "p_fake": ["much"]}).to_parquet("text.parquet")
    Path("empty").mkdir()
    Path("strange/holiday").mkdir(parents=True)
    Path("strange/holiday/a.png").write_bytes(picture(1))
    done = runner.invoke(cli.app, arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert len(lines(done.stderr)) == 1
    assert said in done.stderr


def test_a_wrong_setting_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALITY_CHECK_PRECISION", "fp64")
    get_settings.cache_clear()
    done = runner.invoke(cli.app, ["classify", str(folder / "fake" / "0.png")])
    assert done.exit_code == 2
    assert "precision" in done.stderr


@pytest.mark.parametrize(("capability", "notes"), [("AVX512", 0), ("AVX2", 1)])
def test_emulated_bfloat16_is_pointed_out(
    folder: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capability: str, notes: int
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    picture = str(folder / "fake" / "0.png")
    done = runner.invoke(cli.app, ["classify", picture, "--checkpoint", str(tiny_checkpoint), "--precision", "bf16"])
    assert done.exit_code == 0, done.output
    assert done.stderr.count("bf16 is emulated on this processor") == notes
    assert "emulated" not in runner.invoke(cli.app, ["classify", picture]).stderr


def test_heatmap_is_the_crop_beside_its_evidence(folder: Path, tiny_checkpoint: Path) -> None:
    done = runner.invoke(cli.app, ["classify", str(folder / "fake" / "0.png"), "--heatmap", "maps"])
    assert done.exit_code == 0
    (path,) = Path("maps").iterdir()
    side = read_info(tiny_checkpoint).framing.side
    with Image.open(path) as image:
        assert image.size == (2 * side, side)
        left, right = image.crop((0, 0, side, side)), image.crop((side, 0, 2 * side, side))
        assert left.tobytes() != right.tobytes()


def test_bulk_table_has_the_columns_in_the_order_of_the_files(folder: Path) -> None:
    done = runner.invoke(cli.app, ["bulk", str(folder), "--out", "out.csv"])
    assert done.exit_code == 0, done.output
    assert "6 images" in done.stdout
    frame = pd.read_csv("out.csv")
    assert tuple(frame.columns) == COLUMNS
    assert frame["path"].tolist() == [
        "fake/0.png",
        "fake/2.png",
        "fake/4.png",
        "real/1.png",
        "real/3.png",
        "real/5.png",
    ]
    assert not list(Path().glob("*.journal"))


def test_bulk_takes_a_zip_and_a_list(folder: Path) -> None:
    with ZipFile("set.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder))
    Path("list.txt").write_text("set/real/5.png\n\nset/fake/0.png\nset/real/5.png\n")
    for source, names in (("set.zip", 6), ("list.txt", 2)):
        done = runner.invoke(cli.app, ["bulk", source, "--out", "out.parquet"])
        assert done.exit_code == 0, done.output
        assert len(pd.read_parquet("out.parquet")) == names
    assert pd.read_parquet("out.parquet")["path"].tolist() == ["set/real/5.png", "set/fake/0.png"]


def test_a_list_of_paths_keeps_names_as_they_are(folder: Path) -> None:
    names = [" begins with a blank.png", "with\u2028separator.png", "with\x0cfeed.png"]
    for name in names:
        Path(name).write_bytes((folder / "real" / "1.png").read_bytes())
    Path("list.txt").write_bytes("\r\n".join([*names, "", ""]).encode())
    done = runner.invoke(cli.app, ["bulk", "list.txt", "--out", "out.parquet"])
    assert done.exit_code == 0, done.output
    found = pd.read_parquet("out.parquet")
    assert len(found) == 3 and found["error"].isna().all()


def test_an_interrupted_run_is_not_begun_anew_unasked(folder: Path) -> None:
    Path("out.csv.journal").write_text("what was judged")
    done = runner.invoke(cli.app, ["bulk", str(folder), "--out", "out.csv"])
    assert done.exit_code == 2
    assert "Add --resume to go on with it, or delete out.csv.journal" in " ".join(done.output.split())
    assert Path("out.csv.journal").read_text() == "what was judged"


def test_bulk_reads_a_list_from_stdin(folder: Path) -> None:
    done = runner.invoke(cli.app, ["bulk", "-", "--out", "out.csv"], input="set/fake/2.png\nset/real/1.png\n")
    assert done.exit_code == 0, done.output
    assert pd.read_csv("out.csv")["path"].tolist() == ["set/fake/2.png", "set/real/1.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode elsewhere")
def test_bulk_reads_names_that_are_no_unicode_from_stdin(folder: Path) -> None:
    name = os.fsdecode(b"\xe9t\xe9.png")
    (folder / "fake" / "0.png").rename(folder / name)
    given = os.fsencode(folder / name) + b"\n"
    done = runner.invoke(cli.app, ["bulk", "-", "--out", "x.csv"], input=given)
    assert done.exit_code == 0, done.output
    assert pd.read_csv("x.csv")["p_fake"].notna().tolist() == [True]


def test_bulk_resumes_from_the_command_line(folder: Path) -> None:
    runner.invoke(cli.app, ["bulk", str(folder), "--out", "out.csv"])
    before = Path("out.csv").read_bytes()
    done = runner.invoke(cli.app, ["bulk", str(folder), "--out", "out.csv", "--resume"])
    assert done.exit_code == 0
    assert "6 of them were taken over" in done.stderr
    assert Path("out.csv").read_bytes() == before


def test_bulk_names_damaged_files_in_the_table_and_returns_1(folder: Path) -> None:
    (folder / "real" / "bad.png").write_bytes(b"no image, whatever the name says")
    done = runner.invoke(cli.app, ["bulk", str(folder), "--out", "out.csv"])
    assert done.exit_code == 1
    assert "real/bad.png" in done.stderr
    frame = pd.read_csv("out.csv").set_index("path")
    assert "real/bad.png" in frame.loc["real/bad.png", "error"]
    assert frame["error"].notna().sum() == 1


@pytest.mark.parametrize("tier", ["clean", "web", "hard"])
def test_evaluate_writes_all_files_and_prints_the_same_figures(folder: Path, tier: str) -> None:
    done = runner.invoke(cli.app, ["evaluate", str(folder), "--out", "result", "--tier", tier, "--json"])
    assert done.exit_code == 0, done.output
    names = {path.name for path in Path("result").iterdir()}
    assert names == {"metrics.json", "predictions.csv", "predictions.parquet", "report.html"}
    figures = json.loads(done.stdout)
    assert figures == json.loads(Path("result/metrics.json").read_text())
    assert (figures["n"], figures["n_real"], figures["n_fake"]) == (6, 3, 3)
    assert figures["protocol"]["tier"] == tier
    frame = pd.read_parquet("result/predictions.parquet")
    assert frame["label"].tolist() == [1, 1, 1, 0, 0, 0]
    assert Path("result/report.html").read_text().lstrip().lower().startswith("<!doctype html")


def test_evaluate_refuses_a_folder_that_cannot_be_written_before_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("judged")

    monkeypatch.setattr("dashboard.evaluation.predict", never)
    Path("taken").touch()
    for out in ("taken", "taken/below"):
        done = runner.invoke(cli.app, ["evaluate", str(folder), "--out", out])
        assert done.exit_code == 2, done.output
        assert "taken" in done.stderr


def test_evaluate_refuses_columns_before_the_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.evaluation.predict", lambda *_, **__: pytest.fail("judged"))
    for options in (["--cluster-by", "group"], ["--group-by", "label_name"]):
        assert runner.invoke(cli.app, ["evaluate", str(folder), *options]).exit_code == 2


def test_evaluate_compares_by_format_as_the_page_does(folder: Path) -> None:
    done = runner.invoke(cli.app, ["evaluate", str(folder), "--group-by", "format", "--json"])
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)["groups"]) == {"PNG"}


def test_predictions_are_kept_when_they_cannot_be_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert runner.invoke(cli.app, ["evaluate", str(folder), "--out", "result"]).exit_code == 0
    Path("result/predictions.parquet").unlink()
    monkeypatch.setattr("dashboard.evaluation.measure", full)
    done = runner.invoke(cli.app, ["evaluate", str(folder), "--out", "result"])
    assert done.exit_code == 2, done.output  # a full disk is no defect, though the error names no file
    assert lines(done.stderr)[-1] == "reality-check: No space left on device."
    assert len(pd.read_parquet("result/predictions.parquet")) == 6
    assert not Path("result/metrics.json").exists()  # the earlier one was of other predictions


def test_a_measurement_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"format": ')
    with pytest.raises(metrics.MetricsError, match=r"half\.json: is not JSON"):
        accuracy.load(tmp_path)


def test_evaluate_judges_other_pixels_in_the_hard_tier(folder: Path) -> None:
    logits = {}
    for tier in ("clean", "hard"):
        runner.invoke(cli.app, ["evaluate", str(folder), "--out", tier, "--tier", tier])
        logits[tier] = pd.read_parquet(f"{tier}/predictions.parquet")["logit"]
    assert (logits["clean"] != logits["hard"]).all()


def test_evaluate_threshold_is_used_and_recorded(folder: Path) -> None:
    done = runner.invoke(cli.app, ["evaluate", str(folder), "--out", "result", "--threshold", "0", "--json"])
    figures = json.loads(done.stdout)
    assert figures["threshold"] == 0
    assert figures["confusion_matrix"] == [[0, 3], [0, 3]]  # everything is at or above 0
    frame = pd.read_parquet("result/predictions.parquet")
    assert frame["threshold_fake"].unique().tolist() == [0]
    assert set(frame["verdict"]) == {"fake"}


def test_evaluate_without_json_is_readable(folder: Path) -> None:
    done = runner.invoke(cli.app, ["evaluate", str(folder)])
    assert done.exit_code == 0, done.output
    assert "6 images" in done.stdout
    assert "ROC AUC" in done.stdout


def test_audit_lists_findings_as_json(folder: Path) -> None:
    done = runner.invoke(cli.app, ["audit", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    findings = json.loads(done.stdout)
    assert "RC004" in {finding["code"] for finding in findings}  # six images support no claim
    assert "RC004" in runner.invoke(cli.app, ["audit", str(folder)]).stdout


def test_audit_finds_pictures_that_the_checkpoint_was_trained_on(folder: Path) -> None:
    own = file_facts([Source("0.png", folder / "fake" / "0.png")], [1])
    digest = np.array([list(bytes.fromhex(own["sha256"][0])[:HASH_BYTES])], dtype=np.uint8)
    save(Path("own.safetensors"), tiny_network(), header(), hashes=(digest, short_hash(own["hash"][0])[None]))
    done = runner.invoke(cli.app, ["audit", str(folder), "--checkpoint", "own.safetensors", "--json"])
    assert done.exit_code == 0, done.output
    (finding,) = [finding for finding in json.loads(done.stdout) if finding["code"] == "RC007"]
    assert finding["images"] == ["fake/0.png"]
    done = runner.invoke(cli.app, ["audit", str(folder), "--json"])
    assert "overlap is not checked" in done.stderr  # the default checkpoint of the tests carries no hashes
    assert "RC007" not in done.stdout


@pytest.mark.parametrize("name", ["predictions.csv", ""])
def test_audit_with_predictions_is_that_of_the_evaluation(folder: Path, name: str) -> None:
    for index in range(30):
        Image.new("RGB", (100, 100 + index), (128, 128, 128)).save(folder / "real" / f"grey{index}.png")  # no face
    evaluated = runner.invoke(cli.app, ["evaluate", str(folder), "--out", "result", "--json"])
    given = str(Path("result") / name)
    done = runner.invoke(cli.app, ["audit", str(folder), "--predictions", given, "--json"])
    assert done.exit_code == 0, done.output
    findings = json.loads(done.stdout)
    assert findings == json.loads(evaluated.stdout)["audit"]
    assert "RC005" in {finding["code"] for finding in findings}
    assert "RC005" not in runner.invoke(cli.app, ["audit", str(folder)]).stdout


@pytest.fixture
def manifest(folder: Path) -> Path:
    """The set as a table with columns of its own."""
    rows = [
        {"path": path.relative_to(folder).as_posix(), "label": path.parent.name, "camera": index % 2, "who": index // 2}
        for index, path in enumerate(sorted(folder.rglob("*.png")))
    ]
    pd.DataFrame(rows).to_csv(folder / "set.csv", index=False)
    return folder / "set.csv"


def test_evaluate_groups_clusters_and_counts_costs_as_asked(manifest: Path) -> None:
    options = ["--group-by", "camera", "--group-by", "group", "--cluster-by", "who"]
    options += ["--prevalence", "0.1", "--cost-fp", "5", "--cost-fn", "2", "--threshold", "0.4"]
    done = runner.invoke(cli.app, ["evaluate", str(manifest), "--out", "result", "--json", *options])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    expected = metrics.evaluate(
        pd.read_parquet("result/predictions.parquet"),
        group_by=["camera", "group"],
        cluster_by="who",
        prevalence=0.1,
        cost_fp=5,
        cost_fn=2,
        audit=figures["audit"],
    )
    for own in ("tier", "threshold_origin", "data_digest"):  # of the run, not of the figures
        expected["protocol"][own] = figures["protocol"][own]
    assert figures == expected
    assert set(figures["by_column"]["camera"]["groups"]) == {"0", "1"}
    assert figures["protocol"]["clusters"] == {"column": "who", "count": 3, "chosen": "by the user"}
    assert figures["ppv"]["prevalence"] == 0.1
    assert (figures["cost"]["false_positive"], figures["cost"]["false_negative"]) == (5, 2)
    text = runner.invoke(cli.app, ["evaluate", str(manifest), *options]).stdout
    assert "Where 10 % of the images are fake" in text


def test_compare_gives_the_figures_of_the_library(folder: Path, tiny_checkpoint: Path) -> None:
    save_tiny(Path("other.safetensors"), seed=5, framing=read_info(tiny_checkpoint).header["framing"])
    for name, checkpoint in (("a", str(tiny_checkpoint)), ("b", "other.safetensors")):
        options = ["--out", name, "--threshold", "0.5", "--checkpoint", checkpoint]
        assert runner.invoke(cli.app, ["evaluate", str(folder), *options]).exit_code == 0
    tables = [pd.read_parquet(Path(name) / "predictions.parquet") for name in "ab"]
    expected = metrics.compare(*tables)
    for pair in (["a", "b"], ["a/predictions.csv", "b/predictions.parquet"]):
        done = runner.invoke(cli.app, ["compare", *pair, "--json", "--out", "both.csv"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout) == json.loads(json.dumps(expected.figures))
        assert pd.read_csv("both.csv")["path"].tolist() == expected.images["path"].tolist()
    text = runner.invoke(cli.app, ["compare", "a", "b", "--threshold-a", "0", "--threshold-b", "1"]).stdout
    assert "6 images in both (3 real, 3 fake), matched by sha256" in text
    assert "McNemar" in text
    assert "Flagged by one alone: 6 images." in text
    assert "  fake/0.png: fake, A " in text


def test_a_run_compared_with_itself_differs_in_nothing(folder: Path) -> None:
    runner.invoke(cli.app, ["evaluate", str(folder), "--out", "a"])
    text = runner.invoke(cli.app, ["compare", "a", "a"]).stdout
    assert "nothing to test, both runs are right and wrong on the same images" in text
    assert "Flagged by one alone: 0 images." in text


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "there is no table"), ("path,label\na,real\n", "p_fake"), ("path,p_fake\na,much\n", "cannot be read")],
)
def test_compare_refuses_what_is_no_table_of_predictions(folder: Path, content: str | None, said: str) -> None:
    if content is not None:
        Path("other.csv").write_text(content)
    done = runner.invoke(cli.app, ["compare", "other.csv", "other.csv"])
    assert done.exit_code == 2, done.output
    assert said in done.stderr


def test_models_lists_bundled_checkpoints_with_their_digests(tiny_setup: Path) -> None:
    done = runner.invoke(cli.app, ["models", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    bundled = sorted(path.stem for path in (ROOT / "model" / "weights").glob("*.safetensors"))
    assert sorted(entry["name"] for entry in found) == bundled
    assert all(len(entry["sha256"]) == 64 for entry in found)


def test_train_on_a_folder_uses_the_recipe_of_the_architecture(folder: Path) -> None:
    def recipe(**given: object):
        options = dict.fromkeys(("config", "data", "manifest", "folds", "init", "name")) | given
        return cli._recipe(folder, architecture=options.pop("architecture"), **options)  # type: ignore[arg-type]

    clip = recipe(architecture=cli.Architecture.clip_vit_b16)
    assert (clip.architecture, clip.init, clip.data.root) == ("clip_vit_b16", "donor:clip_vit_b16", folder)
    assert (clip.data.manifest, clip.data.extra) == (None, [])  # nothing but the pictures that were named
    resnet = recipe(architecture=cli.Architecture.resnet50, init="scratch", name="mine")
    assert (resnet.architecture, resnet.init, resnet.name, resnet.options) == ("resnet50", "scratch", "mine", {})
    with pytest.raises(cli.UnusableError, match="name"):
        recipe(architecture=cli.Architecture.resnet50, name="NOT A NAME")


def test_an_interrupted_command_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> LabelledSet:
        raise KeyboardInterrupt

    monkeypatch.setattr("model.dataset.load_labelled", stop)
    done = runner.invoke(cli.app, ["audit", str(folder)])
    assert done.exit_code == 130
    assert "Interrupted" in done.stderr


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, dashboard.cli; sys.exit('torch' in sys.modules or 'streamlit' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_version_is_that_of_the_package() -> None:
    import model

    assert runner.invoke(cli.app, ["--version"]).stdout.strip() == f"reality-check {model.__version__}"


def test_configuration_is_the_shipped_one_unless_the_user_set_another(
    tiny_setup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tiny_setup / "home")
    options = server.configuration(Settings(max_upload_mb=7), "127.0.0.1", 9000)
    assert options["server.maxUploadSize"] == 7
    assert options["client.showErrorDetails"] == "none"
    assert (options["server.address"], options["server.port"]) == ("127.0.0.1", 9000)
    assert "theme.light.primaryColor" in options
    monkeypatch.setenv("STREAMLIT_CLIENT_SHOW_ERROR_DETAILS", "full")
    Path(".streamlit").mkdir()
    Path(".streamlit/config.toml").write_text("[theme.light]\nprimaryColor = '#123456'\n")
    options = server.configuration(Settings(), "127.0.0.1", 9000)
    assert options["client.showErrorDetails"] == "full"
    assert "theme.light.primaryColor" not in options


def test_app_refuses_a_port_that_is_taken(tiny_setup: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = runner.invoke(cli.app, ["app", "--port", str(taken.getsockname()[1])])
    assert done.exit_code == 2
    assert "--port" in done.stderr


def test_app_prints_its_address_and_serves(tiny_setup: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dashboard", "app", "--port", str(port)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with open("log.txt", "w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            body = _wait_for(f"http://127.0.0.1:{port}/_stcore/health", process)
            log.seek(0)
            said = log.read()
        finally:
            process.terminate()
            process.wait(20)
    assert body == "ok", said
    assert f"http://127.0.0.1:{port}" in said


def _wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 60) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return response.read().decode().strip()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.3)
    return f"no answer, exit code {process.poll()}"
