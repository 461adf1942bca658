from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.intake import MAX_CHOICES, IntakeError, allowed, from_uploads, roots, server_places
from dashboard.settings import Settings

from .conftest import archive, open_page, picture
from .test_pages import text_of


@dataclass
class File:
    name: str
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def getvalue(self) -> bytes:
        return self.data


def test_loose_files_are_sorted_and_keep_their_folders() -> None:
    found = from_uploads([File("b/x.png", b"1"), File("a/x.png", b"2")], Settings())
    assert [(source.name, source.read()) for source in found] == [("a/x.png", b"2"), ("b/x.png", b"1")]


def test_equal_names_are_told_apart() -> None:
    found = from_uploads([File("x.png", b"1"), File("x.png", b"2")], Settings())
    assert [source.name for source in found] == ["x.png", "x (2).png"]


def test_names_never_lead_out_of_the_spool(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    found = from_uploads([File("../../evil\n.png", b"1"), File("..\\c.png", b"2")], Settings(), folder=spool)
    assert sorted(path.name for path in spool.iterdir()) == ["000000.bin", "000001.bin"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".png") == []
    assert all("\n" not in source.name and ".." not in source.name for source in found)


def test_names_as_people_write_them_are_kept(tmp_path: Path) -> None:
    names = ["9.41\u202fAM.png", "\u5bb6\u3000\u5199.png", "\U0001f468\u200d\U0001f469.png", "a\u00a0b.png"]
    found = from_uploads([File(name, b"1") for name in names], Settings())
    assert [source.name for source in found] == sorted(names)
    (turned,) = from_uploads([File("a\u202egnp.exe\ud800\u2028.png", b"1")], Settings(), folder=tmp_path)
    assert turned.name == "a\ufffdgnp.exe\ufffd\ufffd.png"


def test_spooled_and_in_memory_uploads_agree(tmp_path: Path) -> None:
    files = [File("set.zip", archive({"real/a.png": picture(), "fake/b.png": picture(seed=1)})), File("c.png", b"3")]
    memory = [(source.name, source.read()) for source in from_uploads(files, Settings())]
    disk = [(source.name, source.read()) for source in from_uploads(files, Settings(), folder=tmp_path)]
    assert memory == disk
    assert [name for name, _ in memory] == ["c.png", "set/fake/b.png", "set/real/a.png"]


def test_an_archive_that_is_none_is_named() -> None:
    with pytest.raises(IntakeError, match=r"holiday\.zip"):
        from_uploads([File("holiday.zip", b"PK nonsense")], Settings())


def test_a_spooled_archive_is_named_as_it_was_uploaded(tmp_path: Path) -> None:
    with pytest.raises(IntakeError, match=r"holiday\.zip"):
        from_uploads([File("holiday.zip", b"PK nonsense")], Settings(), folder=tmp_path)


def test_too_many_files_and_too_many_bytes_are_refused() -> None:
    files = [File(f"{number}.png", b"x" * 600_000) for number in range(3)]
    with pytest.raises(IntakeError, match="at most 2 are accepted"):
        from_uploads(files, Settings(session_upload_files=2))
    with pytest.raises(IntakeError, match="at most 1 MB"):
        from_uploads(files, Settings(session_upload_mb=1))


def test_zip_limits_come_from_the_settings() -> None:
    data = archive({f"{number}.png": picture(seed=number) for number in range(3)})
    with pytest.raises(IntakeError, match="3 files; at most 2"):
        from_uploads([File("set.zip", data)], Settings(max_zip_files=2))


def test_only_the_roots_are_open(tmp_path: Path, app_home: Path) -> None:
    settings = Settings()
    served = app_home / "served"
    assert allowed(served / "real", settings) == (served / "real").resolve()
    (served / "out").symlink_to(tmp_path.parent, target_is_directory=True)
    for place in (tmp_path, served / "..", served / "out", served / "missing", Path("/")):
        with pytest.raises(IntakeError, match="not available"):
            allowed(place, settings)


def test_labels_of_places_do_not_tell_where_the_root_lies(app_home: Path) -> None:
    labels = [place.label for place in server_places(Settings())]
    assert "served/fake/group" in labels
    assert not any(str(app_home) in label for label in labels)


def test_the_samples_are_always_open() -> None:
    assert roots(Settings(folder_roots=()))[0].label == "Bundled samples"


def test_links_and_hidden_folders_are_not_listed(app_home: Path, tmp_path: Path) -> None:
    served = app_home / "served"
    (served / ".secret").mkdir()
    (served / "link").symlink_to(tmp_path, target_is_directory=True)
    labels = [place.label for place in server_places(Settings())]
    assert not any("secret" in label or "link" in label for label in labels)


def test_roots_of_one_name_are_told_apart(tmp_path: Path) -> None:
    places = [tmp_path / above / "photos" for above in ("case1", "case2", "deep/case2")]
    for place in places:
        (place / "day").mkdir(parents=True)
    found = server_places(Settings(folder_roots=(*places, places[0])))
    shown = {place.label: place.path for place in found if tmp_path in place.path.parents}
    assert shown == {
        "case1/photos": places[0],
        "case1/photos/day": places[0] / "day",
        "case2/photos": places[1],
        "case2/photos/day": places[1] / "day",
        "case2/photos (2)": places[2],
        "case2/photos/day (2)": places[2] / "day",
    }


def test_a_root_with_many_folders_leaves_the_others_their_share(tmp_path: Path) -> None:
    for number in range(MAX_CHOICES):
        (tmp_path / "large" / f"{number:03d}").mkdir(parents=True)
    for root in ("medium", "small"):
        for number in range(200 if root == "medium" else 3):
            (tmp_path / root / f"{number:03d}").mkdir(parents=True)
    found = server_places(Settings(folder_roots=tuple(tmp_path / root for root in ("large", "medium", "small"))))
    assert len(found) == MAX_CHOICES
    counts = Counter(place.label.split("/")[0] for place in found)
    assert counts["small"] == 4
    assert 0 <= counts["large"] - counts["medium"] <= 1
    assert [place.label for place in found if place.label.startswith("small")] == [
        "small", "small/000", "small/001", "small/002"
    ]  # fmt: skip


def test_a_list_that_was_cut_says_so(app: AppTest, app_home: Path) -> None:
    for number in range(MAX_CHOICES):
        (app_home / "served" / f"{number:03d}").mkdir()
    open_page(app, "bulk")
    app.segmented_control(key="bulk_way").set_value("Server").run()
    assert not app.exception
    assert f"The first {MAX_CHOICES} are listed" in text_of(app)


def test_a_folder_whose_name_is_no_unicode_is_not_listed(app_home: Path) -> None:
    (app_home / "served" / os.fsdecode(b"th\xe9")).mkdir()
    "".join(place.label for place in server_places(Settings())).encode()
