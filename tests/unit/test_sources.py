"""Sources: what is found, what is refused with which reason, and that nothing hostile gets through."""

from __future__ import annotations

import io
import os
import pickle
import stat
import struct
import threading
import tracemalloc
import unicodedata
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.sources import (
    Archive,
    MemorySource,
    Source,
    SourceError,
    SourceSet,
    ZipLimits,
    from_folder,
    from_glob,
    from_path,
    from_zip,
    printable,
)


def make_zip(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def reasons(found):
    return dict(found.skipped)


def test_folder_is_read_recursively_and_sorted(tmp_path):
    for name in ("b/2.JPG", "a/1.png", "c.webp", "b/10.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    found = from_folder(tmp_path)
    assert [source.name for source in found] == ["a/1.png", "b/10.jpg", "b/2.JPG", "c.webp"]
    assert [source.read() for source in found] == [b"a/1.png", b"b/10.jpg", b"b/2.JPG", b"c.webp"]
    assert found.root == tmp_path.name


def test_folder_names_what_it_left_out_and_is_silent_on_clutter(tmp_path):
    for name in ("a.jpg", "notes.txt", "b.zip", ".hidden.jpg", ".DS_Store", "Thumbs.db", "._a.jpg", "plain"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "c.jpg").write_bytes(b"x")
    found = from_folder(tmp_path)
    assert [source.name for source in found] == ["a.jpg"]
    assert reasons(found) == {
        ".cache": "hidden",
        ".hidden.jpg": "hidden",
        "b.zip": "an archive; unpack it first",
        "notes.txt": "not an image by its name (.txt)",
        "plain": "not an image by its name (no suffix)",
    }


def test_links_out_of_the_folder_are_refused_and_links_inside_are_followed(tmp_path):
    outside = tmp_path / "secret.jpg"
    outside.write_bytes(b"secret")
    root = tmp_path / "set"
    (root / "sub").mkdir(parents=True)
    (root / "a.jpg").write_bytes(b"a")
    (root / "inside.jpg").symlink_to(root / "a.jpg")
    (root / "outside.jpg").symlink_to(outside)
    (root / "broken.jpg").symlink_to(root / "nothing.jpg")
    (root / "loop.jpg").symlink_to(root / "loop.jpg")
    (root / "up").symlink_to(tmp_path, target_is_directory=True)
    found = from_folder(root)
    assert [source.name for source in found] == ["a.jpg", "inside.jpg"]
    assert "leads out" in reasons(found)["outside.jpg"]
    assert "broken link" in reasons(found)["broken.jpg"]
    assert "link" in reasons(found)["loop.jpg"]
    assert reasons(found)["up"] == "a link to another folder"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_neither_listed_nor_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reasons(from_folder(tmp_path)) == {"pipe.jpg": "not a regular file"}
    errors = []

    def read():
        for attempt in (Source("pipe.jpg", tmp_path / "pipe.jpg").read, lambda: from_zip(tmp_path / "pipe.jpg")):
            try:
                attempt()
            except SourceError as error:
                errors.append(str(error))

    reading = threading.Thread(target=read, daemon=True)  # nobody ever writes
    reading.start()
    reading.join(30)
    assert errors == ["pipe.jpg: is not a regular file. Name an image file or a ZIP archive."] * 2


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_an_unreadable_subfolder_is_a_note(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    try:
        assert "cannot be listed" in reasons(from_folder(tmp_path))["closed"]
    finally:
        closed.chmod(0o700)


def test_names_are_shown_in_valid_utf8_on_one_line(tmp_path):
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff\nname.jpg"))).write_bytes(b"x")
    (source,) = from_folder(tmp_path)
    source.name.encode("utf-8")
    assert source.name == "bad\ufffd\ufffdname.jpg"
    assert source.read() == b"x"


ORDINARY = [
    "Screenshot 2024-01-01 at 9.41.00\u202fAM.png",  # as macOS writes the time
    "\u5bb6\u65cf\u3000\u5199\u771f.jpg",  # with an ideographic space
    "avant\u00a0: apr\u00e8s.jpg",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.jpg",  # Persian, with a non-joiner
    "\U0001f468\u200d\U0001f469\u200d\U0001f467.jpg",  # an emoji of three, joined
    "soft\u00adhyphen.jpg",
    "own\ue000sign.jpg",
]


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_names_stay_as_they_are(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    assert [source.name for source in from_folder(tmp_path)] == [name]
    assert [source.name for source in from_zip(make_zip(tmp_path / "x.zip", [(name, b"x")]))] == [name]


@given(
    st.characters(categories=["Cc", "Cs", "Zl", "Zp"]) | st.sampled_from("\u061c\u200e\u200f\u202a\u202e\u2066\u2069")
)
def test_what_breaks_lines_or_turns_them_round_is_not_shown(character):
    assert printable(f"a{character}b") == "a\N{REPLACEMENT CHARACTER}b"


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs", "Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])))
def test_what_is_shown_is_unicode_on_one_line(name):
    shown = printable(name)
    shown.encode()
    assert len(shown) == len(name) and len(shown.splitlines()) <= 1
    assert printable(shown) == shown
    assert not {unicodedata.bidirectional(one) for one in shown} & {
        "LRE",
        "LRO",
        "RLE",
        "RLO",
        "PDF",
        "LRI",
        "RLI",
        "FSI",
        "PDI",
    }


def folder_of(path, names):
    path.mkdir()
    for name in names:
        (path / os.fsdecode(name)).write_bytes(name)
    return path


def test_the_name_of_a_single_file_is_shown_in_valid_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"M\xfcller.jpg")  # Latin-1
    path.write_bytes(b"")
    (source,) = from_path(path)
    assert source.name == "M\N{REPLACEMENT CHARACTER}ller.jpg"


@pytest.mark.parametrize("way", ["folder", "glob", "ZIP", "list"])
def test_names_that_look_alike_when_shown_are_told_apart(tmp_path, way):
    names = [b"M\xf6ller.jpg", b"M\xfcller.jpg"]  # in Latin-1
    if way == "folder":
        found = from_folder(folder_of(tmp_path / "set", names))
    elif way == "glob":
        found = from_glob(f"{folder_of(tmp_path / 'set', names)}/*.jpg")
    elif way == "ZIP":
        names = [b"M\x01ller.jpg", b"M\x02ller.jpg"]
        found = from_zip(make_zip(tmp_path / "x.zip", [(name.decode(), name) for name in reversed(names)]))
    else:
        found = SourceSet(MemorySource("M\ufffdller.jpg", name) for name in names)
    assert [source.name for source in found] == ["M\ufffdller.jpg", "M\ufffdller (2).jpg"]
    assert [source.read() for source in found] == names  # in the same order every time


def test_a_number_is_given_to_no_two_sources():
    class Own:
        name = "a.b/x.jpg"

        def read(self, max_bytes=0):
            return b"own"

    names = ["a.b/x.jpg", "a.b/x.jpg", "a.b/x (2).jpg", "", "", ".jpg", ".jpg"]
    found = SourceSet([*(MemorySource(name, name.encode()) for name in names), Own()])
    expected = ["a.b/x.jpg", "a.b/x (3).jpg", "a.b/x (2).jpg", "", " (2)", ".jpg", ".jpg (2)", "a.b/x (4).jpg"]
    assert [source.name for source in found] == expected
    assert [source.read() for source in found] == [*map(str.encode, names), b"own"]
    assert [source.name for source in SourceSet(found)] == expected


def test_a_source_is_renamed_unread(tmp_path):
    source = Source("x.jpg", tmp_path / "gone.zip", "y.jpg", Archive(tmp_path / "gone.zip"))
    _, other = SourceSet([source, source])
    assert other == Source("x (2).jpg", source.location, "y.jpg") and other.archive is source.archive


def test_missing_folder_and_file_are_clear_errors(tmp_path):
    with pytest.raises(SourceError, match="is not a folder"):
        from_folder(tmp_path / "none")
    with pytest.raises(SourceError, match="no such file"):
        from_path(tmp_path / "none.jpg")


def test_reading_reports_name_and_reason(tmp_path):
    file = tmp_path / "a.jpg"
    file.write_bytes(b"12345")
    source = Source("set/a.jpg", file)
    with pytest.raises(SourceError, match="set/a.jpg: is larger than 4 bytes"):
        source.read(max_bytes=4)
    assert source.read(max_bytes=5) == b"12345"
    file.unlink()
    with pytest.raises(SourceError, match="set/a.jpg: cannot be read"):
        source.read()
    with pytest.raises(SourceError, match="larger"):
        MemorySource("m.jpg", b"12345").read(4)


def test_from_path_tells_file_folder_and_archive_apart(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    make_zip(tmp_path / "z.zip", [("b.jpg", b"y")])
    assert [source.name for source in from_path(tmp_path / "a.jpg")] == ["a.jpg"]
    assert [source.name for source in from_path(tmp_path / "z.zip")] == ["b.jpg"]
    assert [source.name for source in from_path(tmp_path)] == ["a.jpg"]


def test_zip_members_are_read_in_order_from_path_and_from_memory(tmp_path):
    path = make_zip(tmp_path / "set.zip", [("real/b.jpg", b"b"), ("fake/a.png", b"a"), ("readme.md", b"")])
    with open(path, "rb") as file:
        from_file = from_zip(file)
    upload = io.BytesIO(path.read_bytes())
    upload.seek(7)  # someone else's position must neither matter nor move
    from_memory = from_zip(upload)
    assert upload.tell() == 7
    for found in (from_zip(path), from_file, from_memory):
        assert [(source.name, source.read()) for source in found] == [("fake/a.png", b"a"), ("real/b.jpg", b"b")]
    assert from_zip(path).root == "set"


def test_zip_sources_survive_pickling_and_work_without_their_archive(tmp_path):
    path = make_zip(tmp_path / "set.zip", [("a.jpg", b"a")])
    (source,) = from_zip(path)
    assert isinstance(source, Source)
    assert source.read() == b"a"
    assert pickle.loads(pickle.dumps(source)).read() == b"a"
    assert Source("a.jpg", path, "a.jpg").read() == b"a"
    assert source.archive is not None
    source.archive.close()
    assert source.read() == b"a"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.jpg", "outside"),
        ("a/../../evil.jpg", "outside"),
        ("/etc/evil.jpg", "outside"),
        ("C:/evil.jpg", "outside"),
        ("..\\evil.jpg", "outside"),
        ("inner.zip", "archive"),
        ("inner.tar", "archive"),
        ("run.exe", "not an image"),
        ("dir/.hidden.jpg", "hidden"),
    ],
)
def test_zip_members_that_are_no_images_of_the_set_are_refused(tmp_path, name, reason):
    found = from_zip(make_zip(tmp_path / "x.zip", [(name, b"x"), ("good.jpg", b"good")]))
    assert [source.name for source in found] == ["good.jpg"]
    assert reason in found.skipped[0][1]


def test_macos_clutter_is_silent(tmp_path):
    found = from_zip(make_zip(tmp_path / "x.zip", [("__MACOSX/._a.jpg", b"x"), ("a/.DS_Store", b"x"), ("a.jpg", b"x")]))
    assert (len(found), found.skipped) == (1, [])


def test_symlinks_in_a_zip_are_refused(tmp_path):
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    found = from_zip(make_zip(tmp_path / "x.zip", [(link, "/etc/passwd")]))
    assert (len(found), reasons(found)) == (0, {"link.jpg": "a symbolic link"})


def test_encrypted_members_are_refused(tmp_path):
    path = make_zip(tmp_path / "x.zip", [("a.jpg", b"abc")], zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.index(signature) + offset
        data[at] |= 1
    path.write_bytes(data)
    assert "encrypted" in reasons(from_zip(path))["a.jpg"]


def test_a_bomb_is_refused(tmp_path):
    path = make_zip(tmp_path / "bomb.zip", [("zeros.png", bytes(8 * 2**20))])
    with pytest.raises(SourceError, match="decompression bomb"):
        from_zip(path)


def test_a_bomb_among_images_is_skipped(tmp_path):
    path = make_zip(tmp_path / "x.zip", [("zeros.png", bytes(8 * 2**20)), ("a.jpg", b"x")])
    found = from_zip(path)
    assert [source.name for source in found] == ["a.jpg"]
    assert "times its size" in reasons(found)["zeros.png"]


def test_limits_on_size_total_and_count(tmp_path):
    path = make_zip(tmp_path / "x.zip", [(f"{number}.jpg", os.urandom(1000)) for number in range(5)])
    with pytest.raises(SourceError, match="unpacks to 4.9 KiB; at most 4.0 KiB"):
        from_zip(path, ZipLimits(max_total_bytes=4096))
    with pytest.raises(SourceError, match="holds 5 files; at most 4"):
        from_zip(path, ZipLimits(max_members=4))
    with pytest.raises(SourceError, match="bomb"):
        from_zip(path, ZipLimits(max_member_bytes=999))


def test_a_directory_that_claims_to_be_huge_is_refused_before_it_is_parsed(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "x.zip", [("a.jpg", b"x")])
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x05\x06")
    data[at + 12 : at + 16] = struct.pack("<I", 2**31)
    path.write_bytes(data)
    monkeypatch.setattr(zipfile, "ZipFile", None)  # parsing would fail otherwise than with a SourceError
    with pytest.raises(SourceError, match="its list of files takes 2.0 GiB"):
        from_zip(path)


def ends(count, kind):
    """An archive of so many members, with its end record written in one of the ways that readers understand."""
    buffer = io.BytesIO()
    make_zip(buffer, [(f"{number}.jpg", b"x") for number in range(count)])
    data = bytearray(buffer.getvalue())
    at = len(data) - 22
    size, offset = struct.unpack("<II", data[at + 12 : at + 20])
    if kind == "comment":
        data[at + 20 :] = struct.pack("<H", 5) + b"hello"
    elif kind == "a signature in the offset":
        data[at + 16 : at + 20] = b"PK\x05\x06"
    elif kind != "plain":
        record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, offset)
        end = bytearray(data[at:])
        end[8:20] = b"\xff" * 12
        before = b""
        if kind == "ZIP64, and the locator leads to another record":
            before = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, 46, 0)
        members, directory = data[:offset], data[offset:at]
        where = len(members) if before else at
        locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, where, 1)
        data = members + before + directory + record + locator + end
    return bytes(data)


ENDS = [
    "plain", "comment", "a signature in the offset", "ZIP64", "ZIP64, and the locator leads to another record",
]  # fmt: skip


@pytest.mark.parametrize("kind", ENDS)
def test_members_are_counted_before_the_directory_is_parsed(tmp_path, monkeypatch, kind):
    path, data = tmp_path / "x.zip", ends(5, kind)
    path.write_bytes(data)
    monkeypatch.setattr(zipfile, "ZipFile", None)  # parsing would fail otherwise than with a SourceError
    for file in (path, io.BytesIO(data)):
        with pytest.raises(SourceError, match="holds 5 files; at most 4 are accepted"):
            from_zip(file, ZipLimits(max_members=4))


@pytest.mark.parametrize("kind", ["plain", "comment", "ZIP64"])
def test_as_many_members_as_are_allowed_are_read(kind):
    found = from_zip(io.BytesIO(ends(4, kind)), ZipLimits(max_members=4))
    assert [source.read() for source in found] == [b"x"] * 4


def test_a_member_that_lies_about_its_size_is_an_error_not_a_flood(tmp_path):
    path = make_zip(tmp_path / "x.zip", [("a.jpg", bytes(2**20))])
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 10)  # the directory says 10 bytes
    path.write_bytes(data)
    (source,) = from_zip(path)
    with pytest.raises(SourceError, match="cannot be unpacked"):
        source.read()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_are_unpacked_whole_are_refused(tmp_path, method):
    path = make_zip(tmp_path / "a.zip", [("a.png", bytes(50 * 2**20))], method)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, 1000)  # states a thousand bytes
    path.write_bytes(content)
    assert "Deflate" in reasons(from_zip(path))["a.png"]
    tracemalloc.start()
    with pytest.raises(SourceError, match="cannot be unpacked"):
        Source("a.png", path, "a.png").read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", b"PK\x05\x06", b"PK\x03\x04" + bytes(50)],
    ids=["empty", "text", "end only", "start only"],
)
def test_what_is_no_zip_is_refused_by_name(tmp_path, content):
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"x\.zip"):
        from_zip(path)
    with pytest.raises(SourceError, match=r"archive\.zip"):
        from_zip(io.BytesIO(content))


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200), st.integers(0, 250))
def test_damaged_archives_never_raise_anything_else(noise, at):
    buffer = io.BytesIO()
    make_zip(buffer, [("a.jpg", b"hello" * 10), ("b.png", b"x")])
    data = bytearray(buffer.getvalue())
    data[at : at + len(noise)] = noise
    try:
        for source in from_zip(io.BytesIO(bytes(data))):
            source.read()
    except SourceError:
        pass


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a/b.jpg", "a\\b.jpg"), ("a/b.jpg", "a/b.jpg")])
def test_of_members_with_one_name_none_is_used(tmp_path, names):
    members = [(names[0], b"1"), (names[1], b"2"), ("good.jpg", b"good")]
    found = from_zip(make_zip(tmp_path / "x.zip", members))
    assert [(source.name, source.read()) for source in found] == [("good.jpg", b"good")]
    assert found.skipped == [("a/b.jpg", "its name occurs 2 times in the archive; none of them is used")] * 2


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("order", [1, -1])
def test_a_bomb_does_not_hide_behind_a_small_member_of_its_name(tmp_path, order):
    members = [("a.png", b"x"), ("a.png", bytes(8 * 2**20))][::order]
    found = from_zip(make_zip(tmp_path / "x.zip", [*members, ("good.jpg", b"good")]))
    assert [source.name for source in found] == ["good.jpg"]
    assert [name for name, _ in found.skipped] == ["a.png", "a.png"]
    assert "occurs 2 times" in found.skipped[0][1] and "times its size" in found.skipped[1][1]
    with pytest.raises(SourceError, match=r"decompression bomb: a\.png unpacks to"):
        from_zip(make_zip(tmp_path / "x.zip", [*members, ("z.txt", b"")]))


def test_missing_member_and_missing_archive(tmp_path):
    path = make_zip(tmp_path / "x.zip", [("a.jpg", b"1")])
    with pytest.raises(SourceError, match="no longer in the archive"):
        Archive(path).read("b.jpg")
    with pytest.raises(SourceError, match="cannot be read"):
        from_zip(tmp_path / "none.zip")


def test_source_set_is_a_sequence_that_does_not_print_names():
    found = SourceSet([MemorySource("private.jpg", b"x")], [("b", "c")], root="r")
    assert (len(found), found[0].name, [source.name for source in found[:1]]) == (1, "private.jpg", ["private.jpg"])
    assert "private" not in repr(found)


def test_a_pattern_names_every_file_once_and_follows_no_link(tmp_path):
    for name in ("a/b/x.jpg", "a/y.jpg", "z.jpg", "a/.h/no.jpg", "a/notes.txt"):
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).write_bytes(b"x")
    (tmp_path / "outside.jpg").write_bytes(b"x")
    (tmp_path / "p" / "loop").symlink_to(tmp_path / "p")
    (tmp_path / "p" / "away.jpg").symlink_to(tmp_path / "outside.jpg")
    found = from_glob(f"{tmp_path}/p/**/**/*")
    assert [source.name for source in found] == ["a/b/x.jpg", "a/y.jpg", "z.jpg"]
    assert dict(found.skipped).keys() == {"away.jpg", "a/notes.txt"}
    assert [source.name for source in from_glob(f"{tmp_path}/p/*.jpg")] == ["z.jpg"]
    for wrong in (f"{tmp_path}/p/*/../*.jpg", f"{tmp_path}/p/*.gif", f"{tmp_path}/gone/*"):
        with pytest.raises(SourceError):
            from_glob(wrong)


def test_a_pattern_sorts_as_a_folder_does(tmp_path):
    for name in ("a/1.png", "a-b/1.png", "a b/1.png", "a.png", "a/z.txt", "a-b/z.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    listed, matched = from_folder(tmp_path), from_glob(f"{tmp_path}/**/*")
    assert [source.name for source in matched] == [source.name for source in listed]
    assert [source.name for source in matched] == ["a b/1.png", "a-b/1.png", "a.png", "a/1.png"]
    assert matched.skipped == listed.skipped
