"""Where images come from: files, folders and ZIP archives as named sources that are read later, one at a time.

Nothing is unpacked to disk and nothing is read before it is needed. A ZIP member's name is only ever a label: it never
becomes a path. What was left out is listed with its reason in `SourceSet.skipped`.
"""

from __future__ import annotations

import glob
import io
import itertools
import os
import posixpath
import stat
import struct
import threading
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, Protocol, overload

from model.imaging import SUFFIXES, Limits

MAX_BYTES = Limits.max_bytes
ARCHIVE_SUFFIXES = frozenset({".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".cbz", ".jar"})
CLUTTER = frozenset({".ds_store", "thumbs.db", "desktop.ini", "__macosx"})  # written by file managers; never reported
# Of the others `zipfile` unpacks every piece whole: 500 bytes become a gigabyte in memory, whatever size they state.
_READABLE_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_RATIO_FLOOR = 2**20  # a small member may compress as well as it likes

Skipped = tuple[str, str]


class SourceError(ValueError):
    """Images that cannot be read; the message names the file and says what to do."""


class ImageSource(Protocol):
    """Anything with a name and bytes: `Source`, `MemorySource`, `model.remote.RemoteSource` or a caller's own."""

    @property
    def name(self) -> str:
        """What is shown and exported, a relative posix path."""
        ...

    def read(self, max_bytes: int = MAX_BYTES) -> bytes:
        """Bytes of the file."""
        ...


@dataclass(frozen=True)
class ZipLimits:
    """What one archive may cost.

    Attributes
    ----------
    max_members : int
        Entries of any kind in the archive.
    max_member_bytes : int
        Unpacked size of one image.
    max_total_bytes : int
        Unpacked size of all images together.
    max_ratio : float
        Unpacked / packed size of one image larger than 1 MiB. Photographs stay below 20; a flat bitmap reaches 100.
    """

    max_members: int = 50_000
    max_member_bytes: int = MAX_BYTES
    max_total_bytes: int = 8 * 2**30
    max_ratio: float = 200.0


@dataclass(frozen=True)
class Source:
    """One image in a file or in a ZIP archive, read when asked for.

    Attributes
    ----------
    name : str
        What is shown and exported, a relative posix path.
    location : Path
        The image file, or the archive it is in.
    member : str or None
        Name inside the archive.
    """

    name: str
    location: Path
    member: str | None = None
    archive: Archive | None = field(default=None, repr=False, compare=False)

    def read(self, max_bytes: int = MAX_BYTES) -> bytes:
        """Bytes of the file.

        Raises
        ------
        SourceError
            If the file is gone, not readable, damaged inside its archive, or longer than `max_bytes`.
        """
        if self.member is not None:
            archive = self.archive or Archive(self.location)
            return archive.read(self.member, max_bytes)
        try:
            with _open_regular(self.location, self.name) as file:
                data = file.read(max_bytes + 1)
        except OSError as error:
            raise SourceError(f"{self.name}: cannot be read ({error.strerror or error}).") from error
        return within(data, max_bytes, self.name)


@dataclass(frozen=True)
class MemorySource:
    """One image that is already in memory, for example an upload."""

    name: str
    data: bytes = field(repr=False)

    def read(self, max_bytes: int = MAX_BYTES) -> bytes:
        """Bytes of the file; `SourceError` if they are more than `max_bytes`."""
        return within(self.data, max_bytes, self.name)


@dataclass(frozen=True)
class _Renamed:
    """A caller's own source under another name."""

    name: str
    source: ImageSource = field(repr=False)

    def read(self, max_bytes: int = MAX_BYTES) -> bytes:
        """Bytes of the file."""
        return self.source.read(max_bytes)


def renamed(source: ImageSource, name: str) -> ImageSource:
    """The same image under another name, unread; a source of ours keeps its type."""
    if name == source.name:
        return source
    if is_dataclass(source):
        return replace(source, name=name)  # type: ignore[unreachable] # to mypy no protocol is ever a dataclass
    return _Renamed(name, source)


class Archive:
    """A ZIP file that stays open for its sources and is closed with the last of them.

    Opening an archive reads its whole directory, so doing that once per image would make a run quadratic. May be used
    from several threads; may be pickled (it is opened again on the other side).
    """

    def __init__(self, file: Path | bytes, name: str | None = None) -> None:
        self.file = file
        self.name = name or (file.name if isinstance(file, Path) else "archive.zip")
        self._zip: zipfile.ZipFile | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """State without the open handle."""
        return {"file": self.file, "name": self.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open again when needed."""
        self.__init__(state["file"], state["name"])  # type: ignore[misc]

    def infos(self, limits: ZipLimits) -> list[zipfile.ZipInfo]:
        """Every entry of the directory, which is measured before it is parsed; `SourceError` if it is unusable."""
        try:
            with self._raw() as file:
                for size, end in _directories(file):
                    self._refuse_many(file, size, end, limits.max_members)
        except OSError as error:
            raise SourceError(f"{self.name}: cannot be read ({error.strerror or error}).") from error
        with self._lock:
            return self._opened().infolist()

    def _refuse_many(self, file: IO[bytes], size: int, end: int, max_members: int) -> None:
        if size > max_members * 1024:
            raise SourceError(
                f"{self.name}: its list of files takes {_size(size)}, more than {max_members:,} files need. "
                "Split the archive."
            )
        file.seek(max(0, end - size))  # `zipfile` refuses one that would begin before the file
        count = file.read(size).count(b"PK\x01\x02")
        if count > max_members:
            raise SourceError(
                f"{self.name}: holds {count:,} files; at most {max_members:,} are accepted. "
                "Split the archive, or use a folder."
            )

    def read(self, member: str, max_bytes: int = MAX_BYTES) -> bytes:
        """Bytes of one member; `SourceError` if it is missing, damaged, encrypted or longer than `max_bytes`."""
        name = f"{self.name}/{member}"
        with self._lock:
            try:
                info = self._opened().getinfo(member)
                if info.compress_type not in _READABLE_METHODS:
                    raise NotImplementedError(f"method {info.compress_type}")
                with self._opened().open(info) as file:
                    data = file.read(max_bytes + 1)
            except KeyError as error:
                raise SourceError(f"{name}: is no longer in the archive.") from error
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError) as error:
                # RuntimeError: encrypted; NotImplementedError (its subclass): another compression method.
                if isinstance(error, SourceError):
                    raise
                raise SourceError(f"{name}: cannot be unpacked ({error}). Pack the archive again.") from error
            except Exception as error:  # others that share no base class with the above
                raise SourceError(f"{name}: cannot be unpacked ({error}). Pack the archive again.") from error
        return within(data, max_bytes, name)

    def close(self) -> None:
        """Release the file; reading opens it again."""
        with self._lock:
            if self._zip is not None:
                self._zip.close()
                self._zip = None

    def _raw(self) -> IO[bytes]:
        return io.BytesIO(self.file) if isinstance(self.file, bytes) else _open_regular(self.file, self.name)

    def _opened(self) -> zipfile.ZipFile:
        if self._zip is None:
            try:
                self._zip = zipfile.ZipFile(io.BytesIO(self.file) if isinstance(self.file, bytes) else self.file)
            except OSError as error:
                raise SourceError(f"{self.name}: cannot be read ({error.strerror or error}).") from error
            except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError) as error:
                raise SourceError(f"{self.name}: is not a readable ZIP archive ({error}). Pack it again.") from error
        return self._zip


class SourceSet(Sequence[ImageSource]):
    """Sources in a fixed order, and what was left out.

    Attributes
    ----------
    sources : list
        `Source`, `MemorySource` or `model.remote.RemoteSource`, names unique: one that occurs again (in several
        uploads, or where letters cannot be shown) gets a number before its suffix.
    skipped : list of (name, reason)
        Files that were found and are not among the sources.
    root : str
        Name of the folder or archive itself, without its suffix; '' for loose files.
    """

    def __init__(self, sources: Iterable[ImageSource] = (), skipped: Iterable[Skipped] = (), *, root: str = "") -> None:
        self.sources = _told_apart(list(sources))
        self.skipped = list(skipped)
        self.root = root

    @overload
    def __getitem__(self, index: int) -> ImageSource: ...

    @overload
    def __getitem__(self, index: slice) -> list[ImageSource]: ...

    def __getitem__(self, index: int | slice) -> ImageSource | list[ImageSource]:
        """One source, or a list of them."""
        return self.sources[index]

    def __len__(self) -> int:
        """Count of the sources."""
        return len(self.sources)

    def __repr__(self) -> str:
        """Show counts only: names may be private."""
        return f"SourceSet({len(self.sources)} sources, {len(self.skipped)} skipped, root={self.root!r})"


def _told_apart(sources: list[ImageSource]) -> list[ImageSource]:
    """The same sources with unique names; the first of a name keeps it."""
    taken = {source.name for source in sources}
    if len(taken) == len(sources):
        return sources
    numbers: dict[str, Iterator[int]] = {}
    out = []
    for source in sources:
        if source.name not in numbers:
            numbers[source.name] = itertools.count(2)
            out.append(source)
            continue
        stem, suffix = posixpath.splitext(source.name)
        names = (f"{stem} ({number}){suffix}" for number in numbers[source.name])
        name = next(name for name in names if name not in taken)
        taken.add(name)
        out.append(renamed(source, name))
    return out


def from_path(path: str | os.PathLike[str], limits: ZipLimits | None = None) -> SourceSet:
    """List the images of a folder, a ZIP archive or one file; `SourceError` if there is no such file."""
    path = Path(path)
    if path.is_dir():
        return from_folder(path)
    if path.suffix.lower() == ".zip":
        return from_zip(path, limits)
    if not path.is_file():
        raise SourceError(f"{path}: there is no such file or folder.")
    return SourceSet([Source(printable(path.name), path)])


def from_glob(pattern: str) -> SourceSet:
    """Every image among the files that match a pattern of the shell (`*`, `**`, `?`, `[...]`), sorted by name.

    Names begin after the last folder that has none of these. Hidden files are left out, and so are those behind links
    to folders and links that lead out of the folder.

    Raises
    ------
    SourceError
        If no file matches, or the pattern leads upward again.
    """
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
    root = Path(*fixed)
    rest = Path(*Path(pattern).parts[len(fixed) :])
    if ".." in rest.parts:
        raise SourceError(f"{pattern}: leads upward after a wildcard. Name the folder itself.")
    matches = {root / match for match in glob.glob(str(rest), root_dir=root, recursive=True)}  # `**` may meet one twice
    files = [path for path in matches if path.is_file() and not _behind_a_link(path.parent, root)]
    if not files:
        raise SourceError(f"{pattern}: no file matches.")
    real_root = root.resolve()
    reasons = {path: refusal_of_name(_shown(root, path)) or _refusal_of_file(path, real_root) for path in files}
    sources = [Source(_shown(root, path), path) for path in files if reasons[path] is None]
    skipped = [(_shown(root, path), reason) for path, reason in reasons.items() if reason is not None]
    sources.sort(key=_by_name)
    return SourceSet(sources, sorted(skipped), root=real_root.name)


def _behind_a_link(folder: Path, root: Path) -> bool:
    return any(part.is_symlink() for part in (folder, *folder.parents) if part != root and part.is_relative_to(root))


def from_folder(path: str | os.PathLike[str]) -> SourceSet:
    """Every image below a folder, sorted by name.

    Files count as images by their suffix (`model.imaging.SUFFIXES`). Hidden files and folders are left out, and so are
    links to folders and links that lead out of the folder.

    Raises
    ------
    SourceError
        If the folder does not exist or cannot be listed.
    """
    root = Path(path)
    if not root.is_dir():
        raise SourceError(f"{root}: is not a folder.")
    real_root = root.resolve()
    failures: list[OSError] = []
    sources: list[Source] = []
    skipped: list[Skipped] = []
    for current, folders, files in os.walk(root, onerror=failures.append):
        here = Path(current)
        kept = []
        for folder in sorted(folders):
            reason = _hidden(folder) or ("a link to another folder" if (here / folder).is_symlink() else None)
            if reason is None:
                kept.append(folder)
            elif folder.lower() not in CLUTTER:
                skipped.append((_shown(root, here / folder), reason))
        folders[:] = kept
        for file in files:
            location = here / file
            reason = _refusal_of_file(location, real_root)
            if reason is None:
                sources.append(Source(_shown(root, location), location))
            elif not _is_clutter(file):
                skipped.append((_shown(root, location), reason))
    for failure in failures:
        where = Path(failure.filename or root)
        if where == root:
            raise SourceError(f"{root}: cannot be listed ({failure.strerror}).")
        skipped.append((_shown(root, where), f"the folder cannot be listed ({failure.strerror})"))
    sources.sort(key=_by_name)
    return SourceSet(sources, sorted(skipped), root=real_root.name)


def from_zip(file: str | os.PathLike[str] | IO[bytes], limits: ZipLimits | None = None) -> SourceSet:
    """Every image in a ZIP archive, sorted by name, without unpacking it.

    Parameters
    ----------
    file : path or binary file object
        A file object is held in memory as a whole; a file on disk is read member by member.
    limits : ZipLimits, optional
        What the archive may cost.

    Raises
    ------
    SourceError
        If the file is not a ZIP archive or exceeds the limits for the archive as a whole. Single members that cannot
        be used are listed in `skipped`.
    """
    limits = limits or ZipLimits()
    if isinstance(file, (str, os.PathLike)):
        location = Path(file)
        archive = Archive(location)
    else:
        location = Path(Path(str(getattr(file, "name", "") or "archive.zip")).name)
        getvalue = getattr(file, "getvalue", None)  # of a BytesIO: shares its memory and leaves its position alone
        archive = Archive(getvalue() if getvalue else file.read(), location.name)
    sources: list[Source] = []
    skipped: list[Skipped] = []
    total, bomb = 0, None
    infos = [info for info in archive.infos(limits) if not info.filename.endswith("/")]  # `is_dir` fails on ''
    names = [info.filename.replace("\\", "/") for info in infos]
    known = Counter(names)  # members are opened by name, and of equal names that is the last
    for info, name in zip(infos, names, strict=True):
        reason = _refusal_of_member(info, name, limits)
        if reason is None and known[name] > 1:
            reason = f"its name occurs {known[name]} times in the archive; none of them is used"
        if reason is None:
            total += info.file_size
            sources.append(Source(printable(name), location, info.filename, archive))
        elif not any(_is_clutter(part) for part in name.split("/")):
            skipped.append((printable(name), reason))
            if reason.startswith("unpacks to"):
                bomb = f"{printable(name)} {reason}"
    if total > limits.max_total_bytes:
        raise SourceError(
            f"{archive.name}: unpacks to {_size(total)}; at most {_size(limits.max_total_bytes)} are accepted. "
            "Split the archive, or use a folder."
        )
    if bomb and not sources:
        raise SourceError(f"{archive.name}: refused as a decompression bomb: {bomb}.")
    sources.sort(key=_by_name)
    return SourceSet(sources, sorted(skipped), root=location.stem)


def _refusal_of_file(location: Path, real_root: Path) -> str | None:
    reason = _hidden(location.name) or _refusal_of_suffix(location.name)
    if reason is not None:
        return reason
    try:
        if location.is_symlink() and not location.resolve(strict=True).is_relative_to(real_root):
            return "a link that leads out of the folder"
        if not location.is_file():
            return "not a regular file"
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        return f"a broken link ({getattr(error, 'strerror', None) or 'loop'})"
    return None


def _refusal_of_member(info: zipfile.ZipInfo, name: str, limits: ZipLimits) -> str | None:
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or PureWindowsPath(name).drive:
        return "its name points outside the archive"
    for part in parts:
        if _hidden(part):
            return "hidden"
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "not a regular file"
    reason = _refusal_of_suffix(parts[-1])
    if reason is not None:
        return reason
    if info.flag_bits & 0x1:
        return "encrypted; pack the images without a password"
    if info.compress_type not in _READABLE_METHODS:
        return f"packed with another method than the usual Deflate ({info.compress_type})"
    if info.file_size > limits.max_member_bytes:
        return f"unpacks to {_size(info.file_size)}; at most {_size(limits.max_member_bytes)} are accepted"
    ratio = info.file_size / max(info.compress_size, 1)
    if info.file_size > _RATIO_FLOOR and ratio > limits.max_ratio:
        return f"unpacks to {ratio:,.0f} times its size; at most {limits.max_ratio:,.0f} times is accepted"
    return None


def refusal_of_name(name: str) -> str | None:
    """Why a file is no image to be judged by its relative posix path, hidden folders included; None if it may be."""
    parts = name.split("/")
    return next((reason for part in parts if (reason := _hidden(part))), None) or _refusal_of_suffix(parts[-1])


def _refusal_of_suffix(name: str) -> str | None:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in SUFFIXES:
        return None
    if suffix in ARCHIVE_SUFFIXES:
        return "an archive; unpack it first"
    return f"not an image by its name ({suffix or 'no suffix'})"


def _hidden(name: str) -> str | None:
    return "hidden" if name.startswith(".") or name.lower() in CLUTTER else None


def _is_clutter(name: str) -> bool:
    return name.lower() in CLUTTER or name.startswith("._")


def _by_name(source: Source) -> tuple[str, str, str]:
    """What sorts sources, those of one name in the same order every time."""
    return source.name, str(source.location), source.member or ""


def _shown(root: Path, location: Path) -> str:
    return printable(location.relative_to(root).as_posix())


def printable(name: str) -> str:
    """A name as valid Unicode on one line, in the order in which it is written; file systems promise none of that.

    What people write in names stays, such as narrow and wide spaces and the joiners of Persian and of emoji.
    """
    return "".join("\N{REPLACEMENT CHARACTER}" if _misleads(character) else character for character in name)


def _misleads(character: str) -> bool:
    return character in _BIDI_CONTROLS or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def _open_regular(location: Path, name: str) -> IO[bytes]:
    """Open a file to read its bytes; `SourceError` if it is a folder, a device or a pipe, which might never answer."""

    def at_once(path: str, flags: int) -> int:
        return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))

    file = open(location, "rb", opener=at_once)  # noqa: SIM115 - closed by who asked for it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise SourceError(f"{name}: is not a regular file. Name an image file or a ZIP archive.")
    return file


def within(data: bytes, max_bytes: int, name: str) -> bytes:
    """The bytes of a file; `SourceError` if they are more than `max_bytes`."""
    if len(data) > max_bytes:
        raise SourceError(f"{name}: is larger than {_size(max_bytes)}. Store it smaller or raise the limit.")
    return data


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:,.0f} {unit}" if amount >= 10 or unit == "bytes" else f"{amount:,.1f} {unit}"


def _directories(file: IO[bytes]) -> Iterator[tuple[int, int]]:
    """Size (bytes) and end of a ZIP's central directory, for every end record that a reader may go by.

    A directory entry takes 46 bytes here and ten times that as an object, so that a hostile archive is measured before
    it is parsed. End records (APPNOTE 4.3.16) are looked for as `zipfile` does; an archive without one is refused by it
    later. Where the ZIP64 record (4.3.14) lies, versions of `zipfile` disagree.
    """
    file.seek(0, io.SEEK_END)
    length = file.tell()
    start = max(0, length - 22 - 65535 - 20)
    file.seek(start)
    tail = file.read()
    at = len(tail) - 22
    if tail[at : at + 4] != b"PK\x05\x06" or tail[-2:] != b"\0\0":  # it has a comment
        at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        return
    size = int.from_bytes(tail[at + 12 : at + 16], "little")
    locator = tail[max(0, at - 20) : at]
    if locator[:4] == b"PK\x06\x07":
        before = start + at - 20 - 56
        for end in {before, int.from_bytes(locator[8:16], "little")}:
            file.seek(min(max(0, end), length))
            record = file.read(56)
            if record[:4] == b"PK\x06\x06":
                yield int.from_bytes(record[40:48], "little"), end
                if end == before and size == 0xFFFFFFFF:  # refers to that record
                    size = 0
    yield size, start + at
