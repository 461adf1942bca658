"""Images by URL: in object stores, on web servers, wherever fsspec has a driver for.

A picture is fetched when it is judged, and once more when a run that resumes sees whether it is still the same. Which
URLs are read is for the one who calls to decide: a server must not take them from its visitors, for whom it would open
whatever it can reach itself.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from model.sources import MAX_BYTES, Skipped, SourceError, SourceSet, printable, refusal_of_name, within

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_MAGIC = re.compile(r"[*?\[]")
_WEB = re.compile(r"https?://", re.IGNORECASE)


@dataclass(frozen=True)
class RemoteSource:
    """One image behind a URL, fetched when asked for.

    Attributes
    ----------
    name : str
        What is shown and exported, a relative posix path.
    url : str
        That of the file, or of the listing in which it was found.
    path : str or None
        Where a listing found it, in the words of its file system: not every path can be made a URL again, such as that
        of a member of an archive elsewhere.
    """

    name: str
    url: str
    path: str | None = None

    def read(self, max_bytes: int = MAX_BYTES) -> bytes:
        """Bytes of the file.

        Raises
        ------
        SourceError
            If it cannot be fetched, or is longer than `max_bytes`.
        """
        files, path = _files(self.url) if self.path is None else (_listed(self.url, threading.get_ident()), self.path)
        try:
            if _WEB.match(self.url):
                data = _streamed(files, path, max_bytes + 1)
            else:
                data = files.cat_file(path, start=0, end=max_bytes + 1)
        except Exception as error:  # noqa: BLE001 - every driver has errors of its own
            raise SourceError(f"{self.name}: cannot be fetched ({_said(error)}).") from error
        return within(data, max_bytes, self.name)


def is_url(text: str) -> bool:
    """Whether a text names something that fsspec reads, such as `s3://bucket/folder`; no path does."""
    return _URL.match(text) is not None


def from_url(url: str) -> SourceSet:
    """Every image below a folder, among the matches of a pattern (`*`, `**`, `?`), or the one file at a URL.

    What exists by that very name is no pattern; over HTTP a name with an image's suffix is a file, unasked. URLs may be
    chained as fsspec does, such as `zip://*.jpg::s3://bucket/a.zip`.

    Raises
    ------
    SourceError
        If there is no driver for the URL, or nothing can be listed there.
    """
    _listed.cache_clear()  # an archive may have changed since
    files, path = _files(url)
    try:
        magic = _MAGIC.search(path)
        if _WEB.match(url) and refusal_of_name(_last(url)) is None:
            return SourceSet([RemoteSource(printable(_last(url)), url)])
        if magic and not files.exists(path):
            root = path[: path.rfind("/", 0, magic.start()) + 1]
            found = [name for name, entry in files.glob(path, detail=True).items() if entry["type"] == "file"]
        elif files.isdir(path):
            root, found = path.rstrip("/") + "/", files.find(path)
        else:
            root, found = path[: path.rfind("/") + 1], [files.info(path)["name"]]
    except Exception as error:  # noqa: BLE001 - every driver has errors of its own
        raise SourceError(f"{url}: cannot be listed ({_said(error)}).") from error
    sources: list[RemoteSource] = []
    skipped: list[Skipped] = []
    for entry in sorted(found):
        name = printable(entry.removeprefix(root).lstrip("/"))
        if (reason := refusal_of_name(name)) is None:
            sources.append(RemoteSource(name, url, entry))
        else:
            skipped.append((name, reason))
    return SourceSet(sources, skipped, root=root.rstrip("/").rsplit("/", 1)[-1])


def _files(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a URL and the path in it; fsspec keeps one of each."""
    from fsspec.core import url_to_fs

    try:
        found: tuple[Any, str] = url_to_fs(url)
    except ImportError as error:  # names the driver to install
        raise SourceError(f"{url}: {error}.") from error
    except Exception as error:  # noqa: BLE001 - every driver has errors of its own
        raise SourceError(f"{url}: cannot be opened ({_said(error)}).") from error
    return found


@lru_cache(maxsize=4)
def _listed(url: str, thread: int) -> AbstractFileSystem:
    """The file system of a listing, kept for each thread: fsspec keeps no archives, and would open one per image."""
    return _files(url)[0]


def _streamed(files: AbstractFileSystem, path: str, count: int) -> bytes:
    """The first bytes of a file on a web server, which may send all of it whatever range it is asked for."""
    data = bytearray()
    with files.open(path, "rb", block_size=0, size=count) as stream:  # given any size, it is not asked for first
        while len(data) < count and (piece := stream.read(count - len(data))):
            data += piece
    return bytes(data)


def _last(url: str) -> str:
    """The last part of a URL's path, without the query."""
    return re.split(r"[?#]", url, maxsplit=1)[0].rsplit("/", 1)[-1]


def _said(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
