"""What visitors hand in: uploaded files, a ZIP archive, or a folder on the server, as image sources.

Uploads are first looked at in memory; for a run, `from_uploads` writes them into its own folder under names that we
choose, so that it does not depend on the browser session. Server paths are accepted only inside the allowed roots.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, zip_longest
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Protocol

from dashboard.settings import Settings, sample_dir
from model.sources import (
    ImageSource,
    MemorySource,
    Source,
    SourceError,
    SourceSet,
    ZipLimits,
    from_zip,
    printable,
    renamed,
)

# What browsers are asked to offer: everything they know as an image, and what some of them do not.
BROWSER_TYPES = ["image", ".heic", ".heif", ".avif", ".mpo", ".jfif"]
UPLOAD_TYPES = [*BROWSER_TYPES, ".zip"]
MAX_CHOICES = 300
_MAX_DEPTH = 3


class Upload(Protocol):
    """What Streamlit's uploader returns."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    def getvalue(self) -> bytes:
        """The whole file."""
        ...


class IntakeError(ValueError):
    """Something that cannot be accepted; the message says what to do."""


@dataclass(frozen=True)
class ServerPlace:
    """A folder or file on the server that may be examined. `label` never shows where the root lies."""

    label: str
    path: Path


def zip_limits(settings: Settings) -> ZipLimits:
    """Limits for archives."""
    return ZipLimits(max_members=settings.max_zip_files, max_total_bytes=settings.max_zip_mb * 2**20)


def from_uploads(files: Sequence[Upload], settings: Settings, *, folder: Path | None = None) -> SourceSet:
    """Sources of uploaded images and archives.

    Parameters
    ----------
    folder : Path, optional
        Where the files are written first. Without it they are read from the browser session's memory.

    Raises
    ------
    IntakeError
        If the upload exceeds a limit or an archive cannot be used.
    """
    total = sum(file.size for file in files)
    if len(files) > settings.session_upload_files:
        raise IntakeError(
            f"{len(files):,} files were uploaded; at most {settings.session_upload_files:,} are accepted. Pack them as "
            "one ZIP file."
        )
    if total > settings.session_upload_mb * 2**20:
        raise IntakeError(
            f"The upload has {total / 2**20:,.0f} MB; at most {settings.session_upload_mb:,} MB are accepted."
        )
    sources: list[ImageSource] = []
    skipped: list[tuple[str, str]] = []
    archives = [file for file in files if file.name.lower().endswith(".zip")]
    for number, file in enumerate(sorted(files, key=lambda entry: entry.name)):
        name = _safe_name(file.name)
        if file not in archives:
            sources.append(_loose(file, name, number, folder))
            continue
        found = _archive(file, name, number, folder, settings)
        # Several archives, or an archive beside loose files: the archive's name keeps their members apart.
        prefix = f"{found.root}/" if len(files) > 1 else ""
        sources += [renamed(source, prefix + source.name) for source in found]
        skipped += [(prefix + entry, reason) for entry, reason in found.skipped]
    root = Path(_safe_name(archives[0].name)).stem if len(files) == 1 and archives else ""
    return SourceSet(sources, skipped, root=root)


def roots(settings: Settings) -> list[ServerPlace]:
    """The folders that visitors may examine: the bundled samples and whatever the operator allowed.

    Where several have one name, that of the folder above is put before it.
    """
    allowed_roots = list(dict.fromkeys(settings.folder_roots))
    known = Counter(root.name for root in allowed_roots)
    places = [ServerPlace("Bundled samples", sample_dir())]
    for root in allowed_roots:
        above = root.parent.name if known[root.name] > 1 else ""
        places.append(ServerPlace("/".join(filter(None, (above, root.name))) or str(root), root))
    return [place for place in places if place.path.is_dir()]


def server_places(settings: Settings, *, suffixes: tuple[str, ...] = ()) -> list[ServerPlace]:
    """The roots, folders below them to a small depth, and files that end in `suffixes` (archives, manifests).

    At most `MAX_CHOICES`, of which every root has its share. No two have the same label.
    """
    walks = [_below(number, root, suffixes) for number, root in enumerate(roots(settings))]
    turns = chain.from_iterable(zip_longest(*walks))  # all roots come first
    found = islice((entry for entry in turns if entry is not None), MAX_CHOICES)
    return _told_apart([place for _, place in sorted(found, key=itemgetter(0))])


def _below(number: int, root: ServerPlace, suffixes: tuple[str, ...]) -> Iterator[tuple[int, ServerPlace]]:
    """A root, then what may be chosen below it, each with the root's number."""
    for current, folders, files in os.walk(root.path):
        here = Path(current)
        inside = here.relative_to(root.path)
        folders[:] = sorted(name for name in folders if _can_be_shown(name) and not (here / name).is_symlink())
        label = "/".join((root.label, *inside.parts))
        yield number, ServerPlace(label, here)
        for name in sorted(files):
            if suffixes and name.lower().endswith(suffixes) and _can_be_shown(name):
                yield number, ServerPlace(f"{label}/{name}", here / name)
        if len(inside.parts) >= _MAX_DEPTH:
            folders[:] = []


def _can_be_shown(name: str) -> bool:
    """Whether a name is not hidden and can stand on a page: one that is no Unicode cannot."""
    return not name.startswith(".") and name == name.encode("utf-8", "ignore").decode()


def _told_apart(places: Iterable[ServerPlace]) -> list[ServerPlace]:
    """Places with a number behind labels that came before: a page knows a place by its label."""
    found: dict[str, ServerPlace] = {}
    for place in places:
        label, number = place.label, 1
        while label in found:
            number += 1
            label = f"{place.label} ({number})"
        found[label] = replace(place, label=label)
    return list(found.values())


def allowed(path: Path, settings: Settings) -> Path:
    """The real path, if it lies inside an allowed root.

    Raises
    ------
    IntakeError
        If it does not, or does not exist. Both read alike: the message must not tell what exists elsewhere.
    """
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        real = None
    if real is None or not any(real.is_relative_to(root.path.resolve()) for root in roots(settings)):
        raise IntakeError("This place is not available. Choose one of the listed folders.")
    return real


def _archive(file: Upload, name: str, number: int, folder: Path | None, settings: Settings) -> SourceSet:
    limits = zip_limits(settings)
    try:
        if folder is None:
            found = from_zip(_Named(file.getvalue(), name), limits)  # type: ignore[arg-type]
        else:
            location = folder / f"{number:06d}.zip"
            location.write_bytes(file.getvalue())
            found = from_zip(location, limits)
    except SourceError as error:
        raise IntakeError(str(error).replace(f"{number:06d}.zip", name)) from error
    found.root = Path(name).stem
    return found


@dataclass
class _Named:
    """Bytes with a name, as `from_zip` takes them."""

    data: bytes
    name: str

    def getvalue(self) -> bytes:
        return self.data


def _loose(file: Upload, name: str, number: int, folder: Path | None) -> ImageSource:
    if folder is None:
        return MemorySource(name, file.getvalue())
    location = folder / f"{number:06d}.bin"
    location.write_bytes(file.getvalue())
    return Source(name, location)


def _safe_name(name: str) -> str:
    """An uploaded name as a relative posix path on one line; it is only ever a label."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "//", "..", ".")]
    return printable("/".join(parts)) or "unnamed"
