"""Labelled sets: what a name means, what is refused, and that labels end up with their images."""

from __future__ import annotations

import zipfile
from datetime import date

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.dataset import LabelError, from_source_set, label_of, load_labelled
from model.sources import MemorySource, SourceSet


def in_memory(*names, root=""):
    return from_source_set(SourceSet([MemorySource(name, b"x") for name in names], root=root))


def on_disk(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


@pytest.mark.parametrize(
    ("word", "label"),
    [(word, 0) for word in ("real", "REAL", "0", "training_real", "photo", "Photos", "genuine", "authentic", "0.0", 0)]
    + [
        (word, 1)
        for word in (
            "fake", "Fake", "1", "training_fake", "ai", "AI generated", "ai-generated", "generated", "deepfake",
            "synthetic", 1, 1.0,
        )
    ]
    + [(word, None) for word in ("maybe", "", "2", "10", None, float("nan"), "realistic")],
)  # fmt: skip
def test_words_have_their_meaning(word, label):
    assert label_of(word) == label


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["real", "fake", "ai_generated", "Training Real"]), st.sampled_from(["upper", "lower", "title"]))
def test_case_and_separators_do_not_matter(word, how):
    assert label_of(getattr(word, how)().replace("_", " - ")) == label_of(word)


@pytest.mark.parametrize(
    ("name", "label", "group"),
    [
        ("real/a.jpg", 0, ""),
        ("Fake/a.jpg", 1, ""),
        ("test/fake/stylegan2/x.png", 1, "stylegan2"),
        ("a/b/training_fake/c/d/x.png", 1, "c"),
        ("0/x.png", 0, ""),
        ("fake/0/x.png", 1, "0"),
        ("fake/photo/x.png", 1, "photo"),
        ("ai/real/x.png", 0, ""),
        ("real/ai/x.png", 0, "ai"),
        ("1/real/x.png", 0, ""),
    ],
)
def test_folder_names_give_label_and_group(name, label, group):
    row = in_memory(name).frame.iloc[0]
    assert (row["label"], row["group"], row["name"]) == (label, group, name)
    assert row["label_name"] == ("real", "fake")[label]


def test_labels_stay_with_their_images(tmp_path):
    on_disk(tmp_path, "fake/b.jpg", "real/a.jpg", "real/z.jpg", "fake/gan/c.jpg")
    found = load_labelled(tmp_path)
    for source, row in zip(found.sources, found.frame.itertuples(), strict=True):
        assert source.read() == row.name.encode()
        assert row.label == int(row.name.startswith("fake"))
    assert found.counts == {"real": 2, "fake": 2}
    assert found.folders.values.tolist() == [["fake", "fake", 2], ["real", "real", 2]]


def test_a_zip_gives_the_same_set_as_its_folder(tmp_path):
    names = ("s/fake/gan/b.jpg", "s/real/a.jpg")
    on_disk(tmp_path / "x", *names)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in names:
            archive.write(tmp_path / "x" / name, name)
    folder, packed = load_labelled(tmp_path / "x"), load_labelled(tmp_path / "x.zip")
    pd.testing.assert_frame_equal(folder.frame, packed.frame)
    pd.testing.assert_frame_equal(folder.folders, packed.folders)


def test_the_given_folder_itself_may_be_the_label(tmp_path):
    found = load_labelled(on_disk(tmp_path / "fake", "a.jpg", "gan/b.jpg"))
    assert found.frame["label"].tolist() == [1, 1]
    assert found.frame["group"].tolist() == ["", "gan"]
    assert found.folders.values.tolist() == [["fake", "fake", 2]]


def test_the_given_folder_is_no_label_when_folders_inside_are():
    found = in_memory("real/a.jpg", "fake/b.jpg", root="ai")
    assert found.frame["label"].tolist() == [0, 1]
    with pytest.raises(LabelError, match="misc"):
        in_memory("real/a.jpg", "misc/b.jpg", root="fake")


def test_unknown_folders_are_listed_with_the_known_names():
    with pytest.raises(LabelError) as caught:
        in_memory("real/a.jpg", "misc/x/b.jpg", "misc/x/c.jpg", "d.jpg")
    message = str(caught.value)
    assert "'misc/x' (2 images)" in message
    assert "'.' (1 image)" in message
    assert "training_fake" in message
    assert "'real'" not in message


def test_a_path_that_names_both_labels_is_an_error():
    with pytest.raises(LabelError, match="real/fake.*names both labels"):
        in_memory("real/fake/a.jpg")


def test_an_empty_set_is_an_error_that_says_what_was_skipped(tmp_path):
    with pytest.raises(LabelError, match="There are no images"):
        load_labelled(tmp_path)
    on_disk(tmp_path, "real/notes.txt")
    with pytest.raises(LabelError, match=r"real/notes\.txt: not an image"):
        load_labelled(tmp_path)


def test_what_is_no_set_is_an_error(tmp_path):
    on_disk(tmp_path, "a.jpg", "b.zip")
    for name, message in (("none", "no such file"), ("a.jpg", "name a folder"), ("b.zip", "not a readable ZIP")):
        with pytest.raises(LabelError, match=message):
            load_labelled(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_in_its_usual_dialects(tmp_path, encoding, separator):
    on_disk(tmp_path, "ä/a.jpg", "b.jpg")
    lines = [["Path", "Label", "Group", "age"], ["ä/a.jpg", "fake", "gan", "30"], ["b.jpg", "0", "", ""]]
    text = "\r\n".join(separator.join(line) for line in lines)
    (tmp_path / "set.csv").write_bytes(text.encode(encoding))
    found = load_labelled(tmp_path / "set.csv")
    assert found.frame.columns.tolist() == ["name", "label", "label_name", "group", "source", "age"]
    assert found.frame.values.tolist() == [
        ["ä/a.jpg", 1, "fake", "gan", "ä", "30"],
        ["b.jpg", 0, "real", "", ".", ""],
    ]
    assert [source.read() for source in found.sources] == ["ä/a.jpg".encode(), b"b.jpg"]
    assert found.skipped == []


def test_lists_and_structs_of_parquet_become_text_that_can_be_grouped_by(tmp_path):
    on_disk(tmp_path, "a.png", "b.png", "c.png")
    table = pa.table(
        {
            "path": ["a.png", "b.png", "c.png"],
            "label": [0, 1, 1],
            "group": [["gan", "new"], ["gan"], None],
            "tags": [["new", "ä"], [], None],
            "boxes": [[[1, 2], [3]], None, [[4]]],
            "origin": [{"model": "x", "raw": b"12"}, {"model": "x", "raw": b"12"}, None],
            "taken": pa.array([date(2020, 1, 2), None, None]),
        }
    )
    pq.write_table(table, tmp_path / "set.parquet")
    frame = load_labelled(tmp_path / "set.parquet").frame
    assert frame["group"].tolist() == ['["gan", "new"]', '["gan"]', ""]
    assert frame["tags"].dropna().tolist() == ['["new", "ä"]', "[]"]
    assert frame["boxes"].dropna().tolist() == ["[[1, 2], [3]]", "[[4]]"]
    assert frame["origin"].iloc[0] == '{"model": "x", "raw": "2 bytes"}'
    assert frame["taken"].iloc[0] == date(2020, 1, 2)
    assert frame.nunique().loc[["tags", "boxes", "origin", "taken"]].tolist() == [2, 2, 1, 1]


def test_parquet_with_numeric_labels_and_missing_values(tmp_path):
    on_disk(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    frame = pd.DataFrame({"path": ["a.jpg", "b.jpg", "c.jpg"], "label": [0.0, 1.0, None], "group": ["x", None, "y"]})
    frame.to_parquet(tmp_path / "set.parquet")
    found = load_labelled(tmp_path / "set.parquet")
    assert found.frame["label"].tolist() == [0, 1]
    assert found.frame["group"].tolist() == ["x", ""]
    assert found.skipped == [("c.jpg", "row 4: the label '' is not known")]


def test_rows_that_cannot_be_used_are_skipped_with_their_reason(tmp_path):
    on_disk(tmp_path / "set", "a.jpg", "b.jpg", "c.txt", "d.jpg")
    on_disk(tmp_path, "outside.jpg")
    rows = [
        "a.jpg,real", "none.jpg,real", "b.jpg,perhaps", "./a.jpg,0", "c.txt,fake", "../outside.jpg,fake", ",fake",
        "d.jpg,real", "d.jpg,fake", "d.jpg,fake",
    ]  # fmt: skip
    (tmp_path / "set" / "m.csv").write_text("path,label\n" + "\n".join(rows), encoding="utf-8")
    found = load_labelled(tmp_path / "set" / "m.csv")
    assert found.frame["name"].tolist() == ["a.jpg"]
    assert found.skipped == [
        ("none.jpg", "row 3: there is no such file"),
        ("b.jpg", "row 4: the label 'perhaps' is not known"),
        ("./a.jpg", "row 5: already listed in row 2"),
        ("c.txt", "row 6: not an image by its name (.txt)"),
        ("../outside.jpg", "row 7: lies outside set/; name its root folder"),
        ("row 8", "row 8: no path"),
        ("d.jpg", "row 9: listed as both real and fake in other rows"),
        ("d.jpg", "row 10: listed as both real and fake (see row 9)"),
        ("d.jpg", "row 11: listed as both real and fake (see row 9)"),
    ]


def test_a_root_opens_the_folder_it_names(tmp_path):
    on_disk(tmp_path / "images", "a.jpg")
    on_disk(tmp_path / "lists")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "m.csv").write_text(f"path,label\n{tmp_path / 'images' / 'a.jpg'},fake\n", encoding="utf-8")
    with pytest.raises(LabelError, match="no row can be used.*lies outside"):
        load_labelled(tmp_path / "lists" / "m.csv")
    found = load_labelled(tmp_path / "lists" / "m.csv", root=tmp_path / "images")
    assert found.sources[0].read() == b"a.jpg"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a table"),
        (b"path,label\n", "no rows"),
        (b"path,verdict\na.jpg,real\n", "no column 'label' .it has: path, verdict"),
        (b"a,label\na.jpg,real\n", "no column 'path'"),
        (b"path,label,LABEL\na.jpg,real,fake\n", "column label occurs twice"),
        (b"path;label; label\na.jpg;real;fake\n", "column label occurs twice"),
        (b"path,label,label\na.jpg,real,fake\n", "column label occurs twice"),
        ("path,label\nü.jpg,real\n".encode("latin-1"), "not UTF-8"),
        (b"path,label\n\x00.jpg,real\n", "no row can be used"),
    ],
    ids=["empty", "no rows", "no label", "no path", "doubled", "doubled by space", "the same twice", "latin-1", "nul"],
)
def test_tables_that_are_no_manifest_are_refused(tmp_path, content, message):
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(LabelError, match=message):
        load_labelled(tmp_path / "m.csv")


def test_a_file_that_only_claims_to_be_parquet_is_refused(tmp_path):
    (tmp_path / "m.parquet").write_bytes(b"path,label\n")
    with pytest.raises(LabelError, match="cannot be read as a table"):
        load_labelled(tmp_path / "m.parquet")


def test_attach_gives_every_face_the_label_of_its_image():
    found = in_memory("real/a.jpg", "fake/gan/b.jpg")
    faces = pd.DataFrame(
        {"path": ["fake/gan/b.jpg", "fake/gan/b.jpg", "real/a.jpg"], "label": pd.NA, "source": pd.NA, "face": [0, 1, 0]}
    )
    joined = found.attach(faces)
    assert joined["label"].tolist() == [1, 1, 0]
    assert joined["group"].tolist() == ["gan", "gan", ""]
    assert joined["face"].tolist() == [0, 1, 0]
    assert joined.columns.tolist() == ["path", "label", "source", "face", "group"]
    with pytest.raises(LabelError, match=r"other\.jpg"):
        found.attach(pd.DataFrame({"path": ["other.jpg"]}))


def test_columns_without_a_title_do_not_matter(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "m.csv").write_bytes(b"path,label,,\na.jpg,real,,\n")
    assert len(load_labelled(tmp_path / "m.csv")) == 1
