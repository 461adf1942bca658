"""Known traps of a real collection, told by what is known of its originals, and the clean pairs beside them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import norm

from model import audit
from model.accuracy import real_vs_real
from model.audit._controls import AUC_TOLERANCE
from model.audit._header import separation
from model.checkpoint import HASH_BYTES, short_hash
from model.dataset import from_source_set, load_labelled
from model.faces import FaceFinder
from model.sources import MemorySource, SourceSet
from tests.unit.test_audit import encoded, faces, of, picture

ROOT = Path(__file__).parents[2]
# The collection may lie in the project or beside it; nothing of it is part of the project.
PLACES = [os.environ.get("FACES256", ""), ROOT / "data", *ROOT.parent.glob("*/data")]
DATA = next((Path(place) for place in PLACES if place and (Path(place) / "faces256.csv").is_file()), None)


@pytest.fixture(scope="module")
def originals():
    """What is known of the originals of a collection whose stored files no longer show it."""
    if DATA is None:
        pytest.skip("faces256.csv, the table of the collection, is not on this machine; FACES256 may name its folder")
    return pd.read_csv(DATA / "faces256.csv")


def header(rows):
    """Header facts of originals from the columns of the table."""
    return pd.DataFrame(
        {
            "name": rows["path"],
            "label": (rows["label"] == "fake").astype(int),
            "format": rows["original_format"],
            "size": [f"{w} x {h}" for w, h in zip(rows["original_width"], rows["original_height"], strict=True)],
            "width": rows["original_width"],
            "height": rows["original_height"],
            "jpeg_sum": rows["original_jpeg_qsum"],
        }
    ).reset_index(drop=True)


def framed(rows, count=40):
    """Where the face is in stored files of the collection."""
    folder = DATA / "faces256"
    if not folder.is_dir():
        pytest.skip("the files of the collection are not on this machine")
    finder, found = FaceFinder(), []
    for row in rows.sample(count, random_state=0).itertuples():
        with Image.open(folder / row.path) as image:
            width, height = image.size
            boxes = [face.box for face in finder.find(image.convert("RGB"))]
        box = boxes[0] if boxes else (np.nan,) * 4
        found.append((row.path, int(row.label == "fake"), 0.5, "inconclusive", *box, width, height))
    return pd.DataFrame(
        found, columns=["path", "label", "p_fake", "verdict", "x0", "y0", "x1", "y1", "width", "height"]
    )


# --- the collection itself ------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["dinablachman", "roeishc"])
def test_compression_that_separates_a_source_is_found(originals, source):
    (finding,) = audit.format_leak(header(originals[originals["source"] == source]))
    assert (finding.code, finding.severity) == ("RC002", "severe")
    assert "strength of JPEG compression (AUC 1.00" in finding.detail
    assert 0 < len(finding.images) <= audit.MAX_NAMED


@pytest.mark.parametrize("source", ["k140_cdiaconu", "k140_test", "k140_train", "k140_valid", "k140_zoya", "hard_fvr"])
def test_headers_of_clean_pairs_tell_nothing(originals, source):
    assert audit.format_leak(header(originals[originals["source"] == source])) == []


@pytest.mark.parametrize(
    ("real", "fake", "told"),
    [("hard_fvr", "hard_fvr", True), ("utkface", "generated_photos", True), ("k140_train", "k140_train", False)],
)
def test_tighter_faces_of_one_label_are_found_and_equal_ones_left_alone(originals, real, fake, told):
    reals = originals[(originals["source"] == real) & (originals["label"] == "real")]
    fakes = originals[(originals["source"] == fake) & (originals["label"] == "fake")]
    found = audit.framing_leak(pd.concat([framed(reals), framed(fakes)]))
    assert [finding.code for finding in found] == ["RC005"] * told
    assert not told or "height of the face in the picture (AUC 1.00" in found[0].detail


def test_sources_that_exist_with_one_label_only_are_found(originals):
    chosen = originals[originals["source"].isin(["lfw", "utkface", "sfhq_t2i_tiles", "generated_photos"])]
    (finding,) = audit.format_leak(header(chosen))
    assert finding.severity == "severe"


def written(rows, tmp_path):
    """Some rows of the table as a manifest of their own."""
    folder = DATA / "faces256"
    if not folder.is_dir():
        pytest.skip("the files of the collection are not on this machine")
    rows.to_csv(tmp_path / "set.csv", index=False)
    return load_labelled(tmp_path / "set.csv", root=folder)


def test_an_audit_of_the_collection_finds_its_traps_by_what_its_table_says_of_the_originals(originals, tmp_path):
    test = originals[originals["split"] == "test"]
    chosen = test[test["source"].isin(["dinablachman", "roeishc", "k140_test", "hard_fvr"])]
    faces = pd.concat([framed(chosen[chosen["source"] == source], 60) for source in ("hard_fvr", "k140_test")])
    labelled = written(chosen, tmp_path)
    findings = {finding.title: finding for finding in audit.audit(labelled, labelled.attach(faces))}
    inside = findings["The original files give the label away inside a source"]
    assert (inside.code, inside.severity) == ("RC002", "severe")
    assert "in dinablachman by strength of JPEG compression (AUC 1.00: typically 1858 for real, 64" in inside.detail
    assert "in roeishc by strength of JPEG compression (AUC 1.00" in inside.detail
    assert not {"k140_test", "hard_fvr"} & set(inside.detail.split())
    framing = findings["Face framing differs by label inside a source"]
    assert "in hard_fvr by height of the face" in framing.detail
    assert "k140_test" not in framing.detail
    assert not [
        title for title in findings if title.startswith("The file gives")
    ]  # all files went through one pipeline


def test_an_audit_of_a_clean_pair_of_the_collection_speaks_of_its_size_alone(originals, tmp_path):
    clean = originals[(originals["split"] == "test") & originals["source"].isin(["k140_test", "k140_cdiaconu"])]
    labelled = written(clean, tmp_path)
    assert {finding.code for finding in audit.audit(labelled, labelled.attach(framed(clean, 120)))} == {"RC004"}


# --- RC002, originals that a manifest speaks of ---------------------------------------------------


def manifest(count=60, **columns):
    label = np.arange(2 * count) % 2
    frame = pd.DataFrame({"name": [f"{index}.jpg" for index in range(2 * count)], "label": label, "source": "one"})
    return frame.assign(**{name: make(label) for name, make in columns.items()})


def test_columns_about_originals_are_read_as_facts():
    frame = manifest(
        original_format=lambda label: np.where(label, "PNG", "JPEG"),
        original_jpeg_qsum=lambda label: [str(each) for each in np.where(label, -1, 400)],
        original_width=lambda label: ["" if index < 5 else "512" for index in range(len(label))],
        original_camera=lambda label: "phone",
        colour=lambda label: np.where(label, "red", "blue"),
    )
    facts = audit.stated_facts(frame)
    assert list(facts) == ["name", "label", "source", "format", "jpeg_sum", "width", "original_camera"]
    assert facts["jpeg_sum"].unique().tolist() == [400, -1]
    assert (facts["width"].isna().sum(), facts["width"].max()) == (5, 512)
    (finding,) = audit.original_leak(facts)
    assert (finding.code, finding.severity) == ("RC002", "severe")
    assert "file format (AUC 1.00: JPEG in 100 % of real, PNG in 100 % of fake)" in finding.detail


@pytest.mark.parametrize("told", [True, False])
def test_a_column_of_unknown_name_and_gaps_in_one_can_tell_the_label(told):
    rng = np.random.default_rng(0)
    frame = manifest(
        original_camera=lambda label: np.where(label if told else rng.random(len(label)) < 0.5, "none", "phone"),
        original_height=lambda label: np.where(label if told else rng.random(len(label)) < 0.5, "", "480"),
    )
    found = audit.original_leak(audit.stated_facts(frame))
    assert [finding.severity for finding in found] == ["severe"] * told
    assert not told or ("column original_camera" in found[0].detail and "picture height" in found[0].detail)
    assert audit.original_leak(audit.stated_facts(manifest())) == []


def test_what_tells_the_label_inside_a_source_alone_is_found_there():
    def width(label):
        """Fakes are wider in the one source and narrower in the other: over all it tells nothing by itself."""
        source = np.arange(len(label)) < len(label) // 2
        return np.where(source == (label == 1), 512, 256)

    frame = manifest(original_width=width)
    frame["source"] = ["studio"] * 60 + ["phone"] * 60
    found = {finding.title: finding for finding in audit.original_leak(audit.stated_facts(frame))}
    inside = found["The original files give the label away inside a source"]
    assert "in phone by picture width (AUC 1.00: typically 512 for real, 256 for fake)" in inside.detail
    assert "in studio by picture width (AUC 1.00: typically 256 for real, 512 for fake)" in inside.detail
    frame["source"] = [f"{index // 20}" for index in range(120)]  # sources too small to say
    assert "inside" not in str(audit.original_leak(audit.stated_facts(frame)))
    frame["source"] = ["studio"] * 60 + [""] * 60  # of unknown origin is no source
    assert "inside" not in str(audit.original_leak(audit.stated_facts(frame)))


def test_the_plainest_of_many_sources_is_held_to_a_wider_interval():
    accused = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        facts = pd.DataFrame(
            {
                "name": [f"{index}.jpg" for index in range(1200)],
                "label": np.tile([0, 1], 600),
                "source": np.arange(1200) // 30,
                "width": rng.integers(200, 900, 1200),
                "height": rng.integers(200, 900, 1200),
            }
        )
        accused += any("inside" in finding.title for finding in audit.format_leak(facts.astype({"source": str})))
    assert accused <= 1  # of eight sets, each of which has one chance in twenty


def test_what_one_label_lacks_has_no_typical_value():
    frame = manifest(original_width=lambda label: np.where(label == 1, np.nan, 512))
    text = str(audit.original_leak(audit.stated_facts(frame)))
    assert "nan" not in text


# --- RC002, all properties together ---------------------------------------------------------------


def test_real_at_quality_75_and_fake_at_99_is_found_in_files():
    sources = [
        MemorySource(f"{name}/{index}.jpg", encoded(picture(index + offset), quality=quality))
        for name, quality, offset in (("real", 75, 0), ("fake", 99, 500))
        for index in range(40)
    ]
    labelled = from_source_set(SourceSet(sources))
    facts = audit.file_facts(labelled.sources, labelled.frame["label"].tolist())
    sums = facts.groupby("label")["jpeg_sum"].unique()
    assert (sums[0].tolist(), sums[1].tolist()) == ([1858], [86])
    (finding,) = of(audit.audit(labelled), "RC002")
    assert finding.severity == "severe"
    assert "strength of JPEG compression" in finding.detail


def crossed(count, share, seed=0):
    """Headers of which no one property tells the label, but format and width together do, in some of the files."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, count)
    wide = rng.integers(0, 2, count)
    told = rng.random(count) < share
    png = np.where(told, wide ^ label, rng.integers(0, 2, count))
    return pd.DataFrame(
        {"name": [f"{i}.x" for i in range(count)], "label": label, "width": np.where(wide, 512, 256),
         "format": np.where(png, "PNG", "JPEG")}
    )  # fmt: skip


def test_properties_that_tell_the_label_only_together_are_found():
    (finding,) = audit.format_leak(crossed(600, 0.5))
    assert "all properties of the file together" in finding.detail
    assert "file format (" not in finding.detail
    assert finding.severity == "warning"
    (finding,) = audit.format_leak(crossed(600, 1.0))
    assert finding.severity == "severe"


def test_headers_that_tell_nothing_are_left_alone_about_always():
    assert sum(bool(audit.format_leak(crossed(200, 0.0, seed))) for seed in range(20)) <= 1


def unrelated(count, seed):
    """Headers of `count` files of each label that have nothing to do with it."""
    rng, n = np.random.default_rng(seed), 2 * count
    numbers = {name: rng.integers(200, 2000, n) for name in ("width", "height", "jpeg_sum")}
    kinds = {"format": rng.choice(["PNG", "JPEG"], n), "mode": rng.choice(["RGB", "L"], n)}
    return pd.DataFrame({"name": [f"{i}.x" for i in range(n)], "label": np.repeat([0, 1], count)} | numbers | kinds)


def test_a_handful_of_files_tells_nothing_by_chance():
    assert not any(audit.format_leak(unrelated(3, seed)) for seed in range(30))


def test_the_best_of_a_few_files_properties_seldom_tells_the_label_by_chance():
    by_itself = (0, 14, 33, 46, 47, 53)  # of 60 seeds, those where a property is beyond its own interval
    assert sum(bool(audit.format_leak(unrelated(15, seed))) for seed in by_itself) <= 1


def test_the_best_of_many_properties_is_held_to_a_wider_interval():
    labels = np.repeat([0, 1], 40)
    scores = np.random.default_rng(0).normal(labels, 1)
    value, low, high = separation(labels, scores, both_ways=True)
    _, wide, wider = separation(labels, scores, both_ways=True, comparisons=11)
    assert (value - wide) / (value - low) == pytest.approx(norm.isf(0.025 / 11) / norm.isf(0.025))
    assert wider > high
    value, low, _ = separation(labels, -scores, both_ways=True, comparisons=11)
    assert value - low == pytest.approx(value - wide, abs=0.02)


def test_three_files_have_no_header_classifier():
    facts = crossed(600, 1.0).drop_duplicates(["label", "width"]).iloc[:3]
    assert audit.format_leak(facts) == []
    assert len(audit.header_scores(facts)) == 3


# --- RC003, splits --------------------------------------------------------------------------------


def test_copies_in_two_splits_are_found():
    data = encoded(picture(900))
    small = picture(901)
    more = [("real/a.jpg", data), ("real/b.jpg", data), ("real/c.jpg", encoded(small)),
            ("real/d.jpg", encoded(small, quality=40))]  # fmt: skip
    sources = [MemorySource(f"{name}/{index}.jpg", encoded(picture(index + offset)))
               for name, offset in (("real", 0), ("fake", 500)) for index in range(20)]  # fmt: skip
    labelled = from_source_set(SourceSet(sources + [MemorySource(*pair) for pair in more]))
    split = np.where(labelled.frame["name"].isin(["real/b.jpg", "real/d.jpg"]), "test", "train")
    labelled.frame["split"] = split
    titles = {finding.title: finding for finding in of(audit.audit(labelled), "RC003")}
    finding = titles["The same picture in several splits"]
    assert finding.severity == "severe"
    assert set(finding.images) == {"real/a.jpg", "real/b.jpg", "real/c.jpg", "real/d.jpg"}
    assert "test, train" in finding.detail
    labelled.frame["split"] = "train"
    assert "The same picture in several splits" not in {each.title for each in audit.audit(labelled)}


# --- RC006 ----------------------------------------------------------------------------------------


def scored(shift, count=200, column="group", seed=0):
    rng = np.random.default_rng(seed)
    source = np.repeat(["phone", "studio", "gan"], count)
    p = np.clip(rng.normal(0.3, 0.1, 3 * count) + shift * (source == "studio") + 0.4 * (source == "gan"), 0, 1)
    return pd.DataFrame(
        {"path": [f"{i}.jpg" for i in range(3 * count)], "label": (source == "gan").astype(int), "p_fake": p,
         "verdict": "inconclusive", column: source}
    )  # fmt: skip


@pytest.mark.parametrize("column", ["group", "source"])
def test_a_score_that_separates_photographs_is_found(column):
    (finding,) = audit.real_control(scored(0.1, column=column))
    assert (finding.code, finding.severity) == ("RC006", "warning")
    assert "1 of 1 pairs" in finding.detail
    assert "as wide as the number of pairs asks for (1 compared)" in finding.detail
    assert "studio over phone (AUC 0.7" in finding.detail
    assert set(finding.images) <= {f"{i}.jpg" for i in range(200, 400)}
    (finding,) = audit.real_control(scored(0.4))
    assert finding.severity == "severe"


def test_a_small_source_does_not_hide_a_severe_pair():
    rng = np.random.default_rng(0)
    parts = {"a": rng.normal(0.4, 0.1, 300), "b": rng.normal(0.55, 0.1, 300), "c": rng.normal(0.57, 0.1, 40)}
    frame = pd.concat([pd.DataFrame({"group": name, "p_fake": p}) for name, p in parts.items()], ignore_index=True)
    frame = frame.assign(label=0, verdict="real", path=[f"{i}.jpg" for i in range(len(frame))])
    (finding,) = audit.real_control(frame)
    assert finding.detail.index("c over a") < finding.detail.index("b over a")
    assert finding.severity == "severe"


def test_a_score_blind_to_the_source_of_photographs_is_left_alone():
    assert sum(bool(audit.real_control(scored(0.0, seed=seed))) for seed in range(10)) == 0
    assert audit.real_control(scored(0.3, count=20)) == []  # too few photographs to say
    assert audit.real_control(scored(0.3).query("group != 'phone'")) == []
    assert audit.real_control(scored(0.3).drop(columns="group")) == []
    assert audit.real_control(faces()) == []


def test_sources_are_not_told_apart_by_the_best_of_many_pairs():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"label": 0, "p_fake": rng.random(480), "verdict": "real", "group": np.arange(480) // 40})
    frame = frame.assign(path=[f"{i}.jpg" for i in range(480)], group="s" + frame["group"].astype(str))
    pairs = real_vs_real(frame)["pairs"]
    assert len(pairs) == 66
    assert pairs[0]["roc_auc"]["low"] > 0.5 + AUC_TOLERANCE  # by chance, by itself
    assert audit.real_control(frame) == []


# --- RC007 ----------------------------------------------------------------------------------------


def hashes_of(facts):
    digests = np.array([list(bytes.fromhex(digest)[:HASH_BYTES]) for digest in facts["sha256"]], dtype=np.uint8)
    return digests, short_hash(np.stack(facts["hash"].to_list()))


def facts_of(*files):
    return audit.file_facts([MemorySource(name, data) for name, data in files], [0] * len(files))


def test_files_that_were_trained_on_are_found():
    training = hashes_of(facts_of(*((f"t{index}.jpg", encoded(picture(index))) for index in range(60))))
    fresh = [(f"n{index}.jpg", encoded(picture(1000 + index))) for index in range(60)]
    assert audit.training_overlap(facts_of(*fresh), training) == []
    same, again = ("same.jpg", encoded(picture(3))), io.BytesIO()
    picture(4).resize((160, 160), Image.Resampling.LANCZOS).save(again, "JPEG", quality=70)
    exact, near = audit.training_overlap(facts_of(*fresh, same, ("again.jpg", again.getvalue())), training)
    assert (exact.code, exact.severity, exact.images) == ("RC007", "severe", ("same.jpg",))
    assert (near.code, near.severity, near.images) == ("RC007", "info", ("again.jpg",))
    (many,) = audit.training_overlap(facts_of(*fresh[:3], ("again.jpg", again.getvalue())), training)
    assert many.severity == "severe"


def test_overlap_is_part_of_the_audit_and_needs_hashes():
    data = encoded(picture(3))
    sources = [MemorySource("real/a.jpg", data), MemorySource("fake/b.jpg", encoded(picture(9)))]
    labelled = from_source_set(SourceSet(sources))
    training = hashes_of(facts_of(("t.jpg", data)))
    assert of(audit.audit(labelled, training=training), "RC007")[0].images == ("real/a.jpg",)
    assert of(audit.audit(labelled), "RC007") == []
    empty = (training[0][:0], training[1][:0])
    assert audit.training_overlap(facts_of(("t.jpg", data)), empty) == []
    assert audit.training_overlap(facts_of(), training) == []
