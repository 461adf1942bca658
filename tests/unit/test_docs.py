"""The documentation is complete and up to date."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from dashboard.settings import ROOT, Settings
from model.accuracy import introduction
from model.checkpoint import list_checkpoints
from model.training.card import render

GENERATED = runpy.run_path(str(ROOT / "docs" / "generate.py"))
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def test_the_figures_in_the_readme_are_those_of_the_bundled_checkpoints() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert text == GENERATED["with_figures"](text), "README.md is out of date: run `make docs`"


def test_the_readme_says_how_many_alarms_are_false_where_few_pictures_are_generated() -> None:
    text = GENERATED["figures"]()
    for info in list_checkpoints():
        test = info.header["metrics"]["test"]
        found, alarms = 50 * test["recall"]["value"], 9950 * test["fpr"]["value"]
        assert f"{100 * alarms / (found + alarms):.0f} % of `{info.name}`'s" in text
        folds = [fold["roc_auc"]["value"] for fold in info.header["metrics"]["leave_one_out"].values()]
        assert f"the AUC goes from {min(folds):.2f} to {max(folds):.2f}" in text
    assert f"of which {100 * test['n_fake'] / (test['n_real'] + test['n_fake']):.0f} % is generated" in text


def test_the_readme_says_what_bf16_changes_as_the_table_of_runtimes_does() -> None:
    table = (ROOT / "docs" / "runtimes.md").read_text("utf-8")
    rows = re.findall(r"\| `(\w+)` \| torch-bf16 \| (\d+) \| [\d.]+ \| (\d+) \|", table)
    assert rows == [("clip_vit_b16", "99", "0"), ("resnet50", "99", "2")], "say it anew in README.md"
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert "in bf16 two of 99 verdicts of `resnet50` were others than in fp32, and none of the default's" in readme


def test_the_cards_are_what_the_headers_say() -> None:
    for info in list_checkpoints():
        assert info.card.read_text("utf-8") == render(info), f"{info.card.name} is out of date: run `make docs`"


def test_the_page_of_accuracy_begins_as_it_would_be_written() -> None:
    text = (ROOT / "docs" / "accuracy.md").read_text("utf-8")
    head, mark, _ = text.partition("\n\n## `")
    assert mark
    sources = list_checkpoints()[0].header["metrics"]["test"]["groups"]
    assert head == introduction([{"tiers": {"clean": {"groups": sources}}}])


@pytest.mark.parametrize("name", sorted(GENERATED["PAGES"]))
def test_reference_pages_are_up_to_date(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")  # so that it is put back afterwards
    written = (ROOT / "docs" / name).read_text("utf-8")
    assert written == GENERATED["PAGES"][name](), f"docs/{name} is out of date: run `make docs`"


def test_the_checksums_are_those_of_the_bundled_checkpoints() -> None:
    written = (ROOT / "model" / "weights" / "SHA256SUMS").read_text("utf-8")
    assert written == GENERATED["checksums"](), "the checkpoints have changed: run `make docs`"


def test_every_setting_says_what_it_means() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_the_readme_names_every_command_and_no_other() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    named = set(re.findall(r"reality-check ([a-z]+)\b", text))
    assert named == set(GENERATED["commands"]())


def test_the_readme_names_every_page() -> None:
    text = (ROOT / "README.md").read_text("utf-8").lower()
    for page in (ROOT / "pages").glob("[a-z]*.py"):
        assert f"| **{page.stem}** |" in text, page.name


def test_the_readme_and_the_makefile_agree() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"^ +make ([a-z]+)|`make ([a-z]+)`", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE))
    named_targets = {first or second for first, second in named}
    assert {"app", "test", "lint", "bench"} <= named_targets <= targets


def test_architecture_names_every_module() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    for package in ("model", "dashboard"):
        for path in (ROOT / package).iterdir():
            if path.name.startswith(("__", ".", "_shipped")) or path.name == "assets":
                continue
            name = f"{path.name}/" if path.is_dir() else path.name
            assert f"  {name} " in text, f"{package}/{name} is not in docs/architecture.md"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_files_that_are_referred_to_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    for link in filter(None, links):
        assert (document.parent / link).exists(), f"{document.name} refers to {link}"
    for name in re.findall(r"`((?:docs|model|dashboard|tests|benchmarks)/[\w./]+\.\w+)`", text):
        assert (ROOT / name).exists(), f"{document.name} refers to {name}"
