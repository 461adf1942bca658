"""The container: a ZIP file of which every byte follows from the names and contents of its files.

Files are stored, not compressed, so that no version of a compressor decides on a byte; they are sorted by name and have
no times, no comments and no extra fields. A container is checked by writing it again from its contents: whatever byte
was changed, in a header or between files, then differs. Fields are those of PKWARE's APPNOTE 4.3.7, 4.3.12 and 4.3.16.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping

from model.imaging import Limits
from model.sources import Archive, SourceError, ZipLimits

MAX_BYTES = 256 * 2**20  # of a packet; an original is at most 64 MiB
MAX_FILES = 4096
MAX_ACCOUNT_BYTES = 8 * 2**20  # of any file but the original
_NAMES = re.compile(
    r"original\.[a-z]{3,4}"
    r"|(result|settings|environment|manifest)\.json"
    r"|log\.jsonl"
    r"|faces/[1-9][0-9]{0,3}/(crop\.png|overlay\.png|evidence\.json|ledger\.json)"
    r"|sections/[a-z][a-z0-9_]{0,39}\.json"
)
_LIMITS = ZipLimits(max_members=MAX_FILES, max_member_bytes=Limits.max_bytes, max_total_bytes=MAX_BYTES, max_ratio=1.0)
_VERSION = 20  # of the ZIP format: nothing newer is used
_MADE_BY = 3 << 8 | _VERSION  # 3: the attributes are those of Unix
_DATE = 1 << 5 | 1  # 1980-01-01, the earliest that the format knows
_MODE = stat.S_IFREG | 0o644
_LOCAL, _ENTRY, _END = "<4s5H3I2H", "<4s6H3I5H2I", "<4s4H2IH"


class PacketError(ValueError):
    """A file that is no packet, or that is not safe to read as one; the message names it and says why."""


def pack(files: Mapping[str, bytes]) -> bytes:
    """The one container of these files.

    Raises
    ------
    PacketError
        If there is a name that packets do not have, or more or larger files than they may hold.
    """
    return b"".join(part for _, part in _parts(files))


def _parts(files: Mapping[str, bytes]) -> list[tuple[str, bytes]]:
    """What the container is made of, in order, each part with its name in words."""
    if len(files) > MAX_FILES or sum(map(len, files.values())) > MAX_BYTES:
        raise PacketError(f"a packet holds at most {MAX_FILES:,} files and {MAX_BYTES // 2**20} MiB")
    parts: list[tuple[str, bytes]] = []
    directory: list[tuple[str, bytes]] = []
    offset = 0
    for name in sorted(files):
        data = files[name]
        if _NAMES.fullmatch(name) is None or len(data) > _limit(name):
            raise PacketError(f"{name!r} ({len(data):,} bytes) cannot be in a packet")
        label = name.encode("ascii")
        about = (_VERSION, 0, zipfile.ZIP_STORED, 0, _DATE, zlib.crc32(data), len(data), len(data), len(label), 0)
        local = struct.pack(_LOCAL, b"PK\x03\x04", *about) + label
        parts += [(f"the header of {name}", local), (f"the contents of {name}", data)]
        entry = struct.pack(_ENTRY, b"PK\x01\x02", _MADE_BY, *about, 0, 0, 0, _MODE << 16, offset) + label
        directory.append((f"the directory entry of {name}", entry))
        offset += len(local) + len(data)
    count, size = len(files), sum(len(entry) for _, entry in directory)
    end = struct.pack(_END, b"PK\x05\x06", 0, 0, count, count, size, offset, 0)
    return [*parts, *directory, ("the end record", end)]


def unpack(data: bytes, name: str) -> dict[str, bytes]:
    """Contents of a container by name; nothing is written to disk.

    Raises
    ------
    PacketError
        If it is no ZIP archive or holds anything that a packet cannot: too many or too large files, a name that packets
        do not have, the same name twice, a folder, a link, a compressed or encrypted file.
    """
    if len(data) > MAX_BYTES:
        raise PacketError(f"{name}: is larger than {MAX_BYTES // 2**20} MiB, which no packet is.")
    archive = Archive(data, name)
    try:
        infos = archive.infos(_LIMITS)
        seen: set[str] = set()
        for info in infos:
            if (reason := _refusal(info, seen)) is not None:
                raise PacketError(f"{name}: {_shown(info.orig_filename)} {reason}; no packet holds that.")
            seen.add(info.filename)
        if sum(info.file_size for info in infos) > len(data):
            raise PacketError(f"{name}: states more contents than it has bytes.")
        return {info.filename: archive.read(info.filename, _LIMITS.max_member_bytes) for info in infos}
    except SourceError as error:
        raise PacketError(str(error)) from error
    finally:
        archive.close()


def _refusal(info: zipfile.ZipInfo, seen: set[str]) -> str | None:
    mode = info.external_attr >> 16
    if info.orig_filename in seen:
        return "is in it twice"
    if stat.S_ISLNK(mode):
        return "is a symbolic link"
    if info.filename.endswith("/"):
        return "is a folder"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "is not a regular file"
    if info.flag_bits & 0x1:
        return "is encrypted"
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        return "is compressed"
    if info.orig_filename != info.filename or _NAMES.fullmatch(info.filename) is None:
        return "has a name that packets do not use"
    if info.file_size > _limit(info.filename):
        return "is too large"
    return None


def difference(data: bytes, files: Mapping[str, bytes]) -> str | None:
    """Where a container differs from the one that its contents make; None where every byte is the same."""
    parts = _parts(files)
    expected = b"".join(part for _, part in parts)
    if data == expected:
        return None
    extra = len(data) - len(expected)
    if data.startswith(expected):
        return f"{extra:,} bytes follow its end record"
    if data.endswith(expected):
        return f"{extra:,} bytes stand before its first file"
    end = data.rfind(b"PK\x05\x06")
    if data[end + 20 : end + 22] != b"\0\0":
        return "it carries a comment"
    start = 0
    for what, part in parts:
        if data[start : start + len(part)] != part:
            return f"{what} is not as packets are written (from byte {start:,} on)"
        start += len(part)
    raise AssertionError("unequal bytes without a difference")


def _limit(name: str) -> int:
    return Limits.max_bytes if name.startswith("original.") else MAX_ACCOUNT_BYTES


def _shown(name: str) -> str:
    """A name of unknown origin on one line."""
    return ascii(name[:80])
