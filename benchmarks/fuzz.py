"""Hand hostile input to everything that reads what visitors send, and count what breaks.

    python -m benchmarks.fuzz --cases 100000

Each case follows from a target's name and its number, so that a finding can be made again: `--target zip --first 4711
--cases 1`. A case is made by changing a valid file (bits, lengths, blocks, splices) or by building a file that is valid
in form and hostile in content. It may be accepted, or refused with the error that the reader documents; anything else
is a crash. A worker process runs the cases; when it dies or passes the deadline, that is a finding too, and a new one
goes on.
Inputs of findings are kept in `runs/fuzz/`; those worth keeping go into `tests/fuzz/corpus/`, which the tests run.
"""

from __future__ import annotations

import argparse
import copy
import csv
import io
import json
import multiprocessing
import os
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks._page import RELIABILITY, machine, publish, table

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
FINDINGS = ROOT / "runs" / "fuzz"
DEADLINE = 30.0  # seconds for one case
MEMORY = 8 * 2**30  # address space of a worker
ACCEPTED, REFUSED, CONTAINED, CRASHED, HUNG = "accepted", "refused", "contained", "crashed", "hung"
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True)
class Target:
    """One reader of hostile input.

    Attributes
    ----------
    what : str
        For the table.
    share : float
        Part of all cases.
    seeds : callable
        Valid inputs.
    run : callable
        Reads one input; returns how it ended, raises on a crash.
    build : callable, optional
        Makes an input that is valid in form.
    """

    name: str
    what: str
    share: float
    seeds: Callable[[], list[bytes]]
    run: Callable[[bytes], str]
    build: Callable[[random.Random], bytes] | None = None

    def case(self, number: int) -> bytes:
        """Input of this number."""
        chance = random.Random(f"{self.name}-{number}")
        if self.build is not None and chance.random() < 0.6:
            data = self.build(chance)
            return data if chance.random() < 0.6 else mutated(data, chance, self.seeds())
        return mutated(chance.choice(self.seeds()), chance, self.seeds())


def mutated(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """Change bytes, numbers, blocks or ends; headers lie in front and are hit more often."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 5, 9))):
        size = max(1, len(out))
        at = int(size * chance.random() ** chance.choice((1, 3)))
        way = chance.randrange(8)
        if way == 0 and out:
            out[at] ^= 1 << chance.randrange(8)
        elif way == 1 and out:
            out[at] = chance.randrange(256)
        elif way == 2:
            width, order = chance.choice("BHIQ"), chance.choice("<>")
            number = chance.choice(_NUMBERS) & ((1 << 8 * struct.calcsize(f"<{width}")) - 1)
            packed = struct.pack(f"{order}{width}", number)
            out[at : at + len(packed)] = packed
        elif way == 3:
            del out[at : at + chance.choice((1, 4, 64, size // 2))]
        elif way == 4:
            block = out[at : at + chance.choice((1, 8, 64, 512))]
            out[at:at] = block * chance.choice((1, 2, 50))
        elif way == 5:
            other = chance.choice(others)
            cut = int(len(other) * chance.random())
            out[at:] = other[cut:]
        elif way == 6:
            del out[at:]
        else:
            out[at:at] = chance.randbytes(chance.choice((1, 3, 16, 256)))
    return bytes(out[: 4 * 2**20])


# --- pictures


@cache
def pictures() -> list[bytes]:
    """A small picture in every format, with the extras that decoders trip over."""
    from PIL import Image, ImageCms

    grid = Image.frombytes("RGB", (5, 5), bytes(random.Random(0).randbytes(75))).resize((48, 40))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"sRGB", b"wide")
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 200
    frames = {"save_all": True, "append_images": [grid.rotate(90), grid.rotate(180)]}
    made: list[tuple[str, dict[str, object]]] = [
        ("JPEG", {"exif": exif, "icc_profile": profile}),
        ("JPEG", {"progressive": True, "quality": 40}),
        ("PNG", {"icc_profile": profile, "exif": exif}),
        ("PNG", frames),
        ("WEBP", {"icc_profile": profile}),
        ("WEBP", frames),
        ("AVIF", {}),
        ("TIFF", {"compression": "tiff_lzw", "icc_profile": profile}),
        ("TIFF", {"compression": "jpeg"}),
        ("TIFF", frames),
        ("BMP", {}),
        ("GIF", frames),
        ("MPO", frames),
    ]
    files = [_encoded(grid, name, options) for name, options in made]
    files += [_encoded(grid.convert(mode), "PNG", {}) for mode in ("1", "L", "LA", "P", "RGBA", "I;16")]
    files += [_encoded(grid.convert("CMYK"), "JPEG", {}), _encoded(grid.convert("F"), "TIFF", {})]
    with suppress(KeyError, OSError):  # without pillow-heif there is no such writer
        files.append(_encoded(grid, "HEIF", {}))
    return files


def _encoded(image: object, name: str, options: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)  # type: ignore[attr-defined]
    return buffer.getvalue()


def read_picture(data: bytes) -> str:
    """Decode in a helper process, as the server does, at full size and small."""
    from model.imaging import ImageError, Limits

    try:
        found = _sandbox().decode(data, Limits(min_side=1))
        assert found.pixels.mode == "RGB"
        assert found.width * found.height <= Limits.max_pixels
        assert _sandbox().miniature(data, 32, crop=True).size == (32, 32)
    except ImageError as error:
        return CONTAINED if error.code == "too_slow" or "broke down" in str(error) else REFUSED
    return ACCEPTED


@cache
def _sandbox():  # type: ignore[no-untyped-def]
    from model.sandbox import Sandbox

    return Sandbox(helpers=1, seconds=DEADLINE / 3)


# --- archives


@cache
def archives() -> list[bytes]:
    """Archives of pictures: stored, deflated, bzip2, LZMA, with a comment, ZIP64."""
    files = pictures()[:4]
    out = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.comment = b"note"
            for number, data in enumerate(files):
                with archive.open(f"set/real/{number}.png", "w", force_zip64=number == 1) as member:
                    member.write(data)
        out.append(buffer.getvalue())
    return out


_NAMES = (
    "../../etc/passwd.png", "/abs.png", "C:\\x.png", "a\\..\\..\\b.png", "CON.png", "nul.jpg", "a" * 4000 + ".png",
    ".png",
    "\u202egnp.exe.png", "a\0.png", "a\n.png", "dir/", "x.zip", "x.png/", "\ud7ff.jpg", "=1+1.png", "real/x.jpg",
    "fake/x.jpg", "__MACOSX/._x.png", "a//b.png", "./x.png", "x.svg", "", " ", "x.PNG", "x.png",
)  # fmt: skip


def hostile_archive(chance: random.Random) -> bytes:
    """An archive in good form with names, kinds, sizes and duplicates that it should not have."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for _ in range(chance.choice((0, 1, 3, 8, 40))):
            info = zipfile.ZipInfo(chance.choice(_NAMES), (1980 + chance.randrange(120), 1, 1, 0, 0, 0))
            info.compress_type = chance.choice((0, 8, 12, 14))
            info.external_attr = chance.choice((0, 0o120777 << 16, 0o100644 << 16, 0o060000 << 16, 0x10))
            content = chance.choice((b"", b"\0" * 200_000, chance.choice(pictures()), chance.choice(archives())))
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about names that occur twice
                archive.writestr(info, content)
    return buffer.getvalue()


def harmless(name: str) -> bool:
    """Whether a name is one line of valid Unicode that reads in the order in which it is written."""
    controls = ("Cc", "Cs", "Zl", "Zp")
    turning = ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")
    return all(
        unicodedata.category(character) not in controls and unicodedata.bidirectional(character) not in turning
        for character in name
    )


def read_archive(data: bytes) -> str:
    """List an archive, read every member, and take its folders for labels."""
    from model.dataset import LabelError, from_source_set
    from model.sources import SourceError, ZipLimits, from_zip

    limits = ZipLimits(max_members=1000, max_member_bytes=2**20, max_total_bytes=2**24)
    try:
        found = from_zip(io.BytesIO(data), limits)
    except SourceError:
        return REFUSED
    outcome = ACCEPTED if len(found) else REFUSED
    for source in found:
        parts = source.name.split("/")
        assert harmless(source.name) and ".." not in parts and not source.name.startswith("/"), source.name
        try:
            assert len(source.read(limits.max_member_bytes)) <= limits.max_member_bytes
        except SourceError:
            outcome = REFUSED
    with suppress(LabelError):
        from_source_set(found)
    return outcome


# --- manifests


@cache
def manifests() -> list[bytes]:
    """Valid manifests in the dialects that are read."""
    rows = "path,label,group\na.png,real,x\nb.png,fake,y\nc.png,1,\n"
    return [
        rows.encode(),
        rows.replace(",", ";").encode("utf-8-sig"),
        rows.replace(",", "\t").replace("\n", "\r\n").encode(),
        rows.encode("utf-16"),
        ('path,label\n"a ""quoted"" name.png","real"\n' * 3).encode(),
    ]


_CELLS = (
    "a.png", "b.png", "real", "fake", "0", "1", "1.0", "", "=cmd|' /C calc'!A0", "@SUM(1)", "+1", "-1", "\t=1", "'=1",
    "../x.png", "/etc/passwd", "a\0b", "x" * 70_000, '"', '""', "\u202e", "NaN", "None", "1e400", "real,fake",
    "a.png;b", "\r", "\ufeff",
)  # fmt: skip
_COLUMNS = ("path", "label", "group", "source", "PATH", "file", "=path", "", "x" * 300, "name", "p_fake", "label ")


def hostile_manifest(chance: random.Random) -> bytes:
    """A table with cells that are formulas, huge, quoted badly, or of another encoding."""
    buffer = io.StringIO()
    writer = csv.writer(
        buffer, delimiter=chance.choice(",;\t|"), quoting=chance.choice((csv.QUOTE_ALL, csv.QUOTE_MINIMAL))
    )
    width = chance.choice((1, 2, 3, 5, 40))
    writer.writerow(["path", "label", *chance.choices(_COLUMNS, k=width)][: width + 1])
    for _ in range(chance.choice((0, 1, 4, 60))):
        writer.writerow(chance.choices(_CELLS, k=max(1, width + chance.choice((-1, 0, 1, 2)))))
    return buffer.getvalue().encode(chance.choice(("utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252")), "replace")


def read_manifest(data: bytes) -> str:
    """Read labels from a table, then export it and see that no cell is a formula."""
    from model.dataset import LabelError, from_manifest
    from model.results import write_csv

    path = _folder() / "manifest.csv"
    path.write_bytes(data)
    try:
        found = from_manifest(path)
    except LabelError:
        return REFUSED
    for source in found.sources:
        assert (_folder() / source.name).resolve().is_relative_to(_folder().resolve())
    text = write_csv(found.frame) or ""
    for row in csv.reader(io.StringIO(text)):
        assert not any(cell[:1] in ("=", "+", "@", "\t") for cell in row), row
    return ACCEPTED


@cache
def _folder() -> Path:
    """An empty folder with two pictures, that goes with the process."""
    holder = tempfile.TemporaryDirectory(prefix="fuzz-")
    _holders.append(holder)
    for name in ("a.png", "b.png"):
        (Path(holder.name) / name).write_bytes(pictures()[2])
    return Path(holder.name)


_holders: list[tempfile.TemporaryDirectory[str]] = []


# --- checkpoints


@cache
def checkpoints() -> list[bytes]:
    """The smallest checkpoint, as float32 and int8."""
    from model.backbones import tiny
    from model.network import save

    out = []
    for storage in ("float32", "int8"):
        path = _folder() / f"{storage}.safetensors"
        save(path, tiny(channels=2), dict(_HEADER), storage=storage)
        out.append(path.read_bytes())
    return out


_HEADER = {
    "name": "tiny", "architecture": "tiny", "options": {"channels": 2},
    "framing": {"side": 64, "face_share": 0.83, "vertical_offset": 0.05, "jpeg_quality": 90},
    "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "classes": ["real", "fake"], "temperature": 1.5,
    "calibration_bias": 0.1, "thresholds": {"real": 0.3, "fake": 0.7, "fpr": 0.01}, "training": {}, "metrics": {},
    "licence": "none", "origin": "random", "created": "2026-01-01",
}  # fmt: skip
_VALUES: tuple[object, ...] = (
    None, True, 0, -1, 1, 2**31, 2**63, 2**80, 1e308, float("nan"), float("inf"), "", "x", "x" * 10_000, [], [1],
    [None] * 3, {}, {"side": 10**9}, {"channels": 10**7}, {"width": 1e9}, {"taps": [0] * 5000},
    {"real": 2, "fake": -1}, [[[[]]]], "../../x",
)  # fmt: skip


def hostile_checkpoint(chance: random.Random) -> bytes:
    """A checkpoint whose JSON header, or whose table of tensors, says what it should not."""
    data = chance.choice(checkpoints())
    (length,) = struct.unpack("<Q", data[:8])
    table_, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    header = json.loads(table_["__metadata__"]["reality_check"])
    for _ in range(chance.choice((1, 1, 2, 4))):
        if chance.random() < 0.6:
            header[chance.choice([*header, "new"])] = copy.deepcopy(chance.choice(_VALUES))
        elif chance.random() < 0.5:
            nested = chance.choice([key for key, value in header.items() if isinstance(value, dict)] or ["options"])
            inner = header.get(nested)
            if isinstance(inner, dict):
                inner[chance.choice([*inner, "x"])] = copy.deepcopy(chance.choice(_VALUES))
        else:
            entry = table_[chance.choice([name for name in table_ if name != "__metadata__"])]
            key = chance.choice(("shape", "dtype", "data_offsets"))
            wrong: tuple[object, ...] = ([], [1], [2**40, 2**40], [0, 2**62], [-1, 4], "F64", "I8", "BF16", "X", None)
            entry[key] = chance.choice(wrong)
    if chance.random() < 0.1:
        header["architecture"] = chance.choice(
            ("clip_vit_b16", "resnet50", "densenet121", "efficientnet_lite", "os.system")
        )
    table_["__metadata__"]["reality_check"] = json.dumps(header)
    packed = json.dumps(table_).encode()
    return struct.pack("<Q", len(packed)) + packed + body


def read_checkpoint(data: bytes) -> str:
    """Read the header, build the network, and load its weights."""
    from model.checkpoint import CheckpointError, read_info, training_hashes
    from model.network import load_network

    path = _folder() / "case.safetensors"
    path.write_bytes(data)
    try:
        info = read_info(path)
        load_network(info)
        training_hashes(info)
    except CheckpointError:
        return REFUSED
    return ACCEPTED


# --- addresses, cookies, names


@cache
def addresses() -> list[bytes]:
    """What a request says of itself: method, path, query, cookie, length, name of an upload."""
    return [
        b"GET\n/bulk\nrun=abcdefghijklmnopqrstuv\nreality_check_visitor=" + b"a" * 43 + b"\n0\nset.zip",
        b"PUT\n/_stcore/upload_file/session/file\n\n_streamlit_xsrf=2|a|b|1\n100\nreal/a.png",
        b"GET\n/_stcore/metrics\n\n\n\nx",
        b"GET\n/media/abc.png\n\n__Host-reality_check_visitor=" + b"b" * 43 + b"\n5\n..\\..\\x.png",
    ]


def read_address(data: bytes) -> str:
    """Pass a request through every guard, look for the run it names, and use its name for an upload."""
    import anyio

    from dashboard.guards import token_of
    from dashboard.intake import _safe_name
    from dashboard.people import Visit, identify
    from dashboard.settings import Settings

    fields = [*data.split(b"\n", 5), *[b""] * 6][:6]
    method, path, query, cookie, length, name = fields
    text = [field.decode("utf-8", "surrogateescape") for field in fields]
    with ThreadPoolExecutor(1) as own:  # the caller's thread may run an event loop already
        status = own.submit(anyio.run, _request, method, path, query, cookie, length).result()
    run_id = text[2].partition("run=")[2]
    assert _store().get(run_id, owner="somebody else") is None
    assert _store().delete(run_id) is None or len(run_id) == 22
    cookies = dict(part.strip().partition("=")[::2] for part in text[3].split(";"))
    token = token_of(cookies)
    assert token is None or len(token) == 43
    person = identify(Visit({}, False, None, cookies, False, "tab"), Settings())
    assert person is not None and person.key.isascii()
    safe = _safe_name(text[5])
    assert safe and harmless(safe) and not safe.startswith("/") and ".." not in safe.split("/"), safe
    return REFUSED if status >= 400 else ACCEPTED


async def _request(method: bytes, path: bytes, query: bytes, cookie: bytes, length: bytes) -> int:
    answered: list[int] = []
    body = [b"x" * 300, b"y" * 300, b""]

    async def receive() -> dict[str, object]:
        chunk = body.pop(0) if body else b""
        return {"type": "http.request", "body": chunk, "more_body": bool(body)}

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            answered.append(int(message["status"]))  # type: ignore[call-overload]

    scope = {
        "type": "http",
        "method": method.decode("latin-1") or "GET",
        "path": path.decode("utf-8", "replace") or "/",
        "query_string": query,
        "scheme": "http",
        "headers": [(b"cookie", cookie), (b"content-length", length), (b"x-forwarded-proto", query)],
    }
    await _guarded()(scope, receive, send)
    assert len(answered) == 1, answered
    return answered[0]


@cache
def _guarded():  # type: ignore[no-untyped-def]
    """Our guards around an application that reads the body and answers."""
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import HTMLResponse

    from dashboard.app import middleware
    from dashboard.settings import Settings

    async def application(scope, receive, send):  # type: ignore[no-untyped-def]
        with suppress(ClientDisconnect):
            await Request(scope, receive).body()
            await HTMLResponse("<p>")(scope, receive, send)
            return
        if not scope["path"].startswith("/_stcore/upload_file"):
            await HTMLResponse("", status_code=413)(scope, receive, send)

    wrapped = application
    for entry in reversed(middleware(Settings(session_upload_files=50, session_upload_mb=1))):
        wrapped = entry.cls(wrapped, *entry.args, **entry.kwargs)  # type: ignore[assignment]
    return wrapped


@cache
def _store():  # type: ignore[no-untyped-def]
    from dashboard.store import BULK, RunStore

    store = RunStore(_folder() / "runs")
    store.release(store.create(BULK, "x", checkpoint="c", checkpoint_sha256="0", settings={}, owner="ada").id)
    return store


# --- packets


@cache
def packets() -> list[bytes]:
    """An evidence packet in form: its members, with contents that are cut short."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("manifest.json", "result.json", "settings.json", "log.jsonl", "original.png"):
            archive.writestr(name, b"{}" if name.endswith("json") else pictures()[2])
    return [buffer.getvalue(), *archives()[:1]]


def read_packet(data: bytes) -> str:
    """Verify an evidence packet without judging its picture again."""
    from model.packet import PacketError, verify

    try:
        verify(data, judge=False)
    except PacketError:
        return REFUSED
    return ACCEPTED


TARGETS = {
    target.name: target
    for target in (
        Target("picture", "pictures in 10 formats", 0.4, pictures, read_picture),
        Target("zip", "ZIP archives and their members", 0.2, archives, read_archive, hostile_archive),
        Target("manifest", "tables of labels (CSV)", 0.12, manifests, read_manifest, hostile_manifest),
        Target("checkpoint", "checkpoints (safetensors)", 0.1, checkpoints, read_checkpoint, hostile_checkpoint),
        Target("address", "requests: paths, queries, cookies, names of uploads", 0.12, addresses, read_address),
        Target("packet", "evidence packets", 0.06, packets, read_packet, hostile_archive),
    )
}


# --- running


@dataclass
class Tally:
    """What came of a target's cases."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    findings: list[str] = field(default_factory=list)


def corpus(name: str) -> list[Path]:
    """Kept inputs of a target."""
    return sorted((CORPUS / name).glob("*")) if (CORPUS / name).is_dir() else []


def work(name: str, first: int, last: int, pipe: Connection) -> None:
    """In a worker: run cases one after the other, and tell the beginning and the end of each."""
    os.environ["REALITY_CHECK_DATA_DIR"] = str(_folder() / "data")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    target = TARGETS[name]
    target.run(target.seeds()[0])  # imports are not the first case's fault
    for number in range(first, last):
        data = target.case(number)
        pipe.send(number)
        start = time.perf_counter()
        try:
            outcome, detail = target.run(data), ""
        except Exception as error:  # noqa: BLE001 - what this is about
            outcome, detail = CRASHED, "".join(traceback.format_exception_only(error)).strip()
            detail += " at " + " < ".join(
                f"{Path(frame.filename).name}:{frame.lineno}"
                for frame in traceback.extract_tb(error.__traceback__)[:-5:-1]
            )
        pipe.send((outcome, time.perf_counter() - start, detail))
    pipe.send(None)


def watch(name: str, first: int, last: int, tally: Tally) -> None:
    """Run the cases of a target in workers, replacing one that dies or hangs."""
    context = multiprocessing.get_context("spawn")
    while first < last:
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=work, args=(name, first, last, theirs), daemon=False)
        worker.start()
        theirs.close()
        number, outcome, limit = first - 1, "", 120.0
        try:
            while True:
                if not ours.poll(limit):
                    outcome = HUNG
                    break
                message = ours.recv()
                if message is None:
                    worker.join()
                    return
                if isinstance(message, int):
                    number, limit = message, DEADLINE
                    continue
                ended, seconds, detail = message
                _note(name, number, ended, seconds, detail, tally)
                limit = 60.0
        except EOFError:
            outcome = CRASHED
        worker.kill()
        worker.join()
        if number < first:
            raise RuntimeError(f"the worker for {name} does not start")
        _note(name, number, outcome, DEADLINE, f"the worker ended with {worker.exitcode}", tally)
        first = number + 1


def _note(name: str, number: int, outcome: str, seconds: float, detail: str, tally: Tally) -> None:
    tally.outcomes[outcome] += 1
    tally.slowest = max(tally.slowest, seconds)
    if outcome in (CRASHED, HUNG):
        tally.findings.append(f"{name} {number}: {outcome}, {detail}")
        FINDINGS.mkdir(parents=True, exist_ok=True)
        (FINDINGS / f"{name}-{number}").write_bytes(TARGETS[name].case(number))
        print(tally.findings[-1], file=sys.stderr, flush=True)


def report(tallies: dict[str, Tally], seconds: float) -> str:
    """The section of the page."""
    rows = []
    for name, tally in tallies.items():
        counts = [f"{tally.outcomes[kind]:,}" for kind in (ACCEPTED, REFUSED, CONTAINED, CRASHED, HUNG)]
        rows.append([TARGETS[name].what, f"{tally.outcomes.total():,}", *counts, f"{tally.slowest:.2f} s"])
    total = sum((tally.outcomes for tally in tallies.values()), Counter())
    kinds = [f"{total[kind]:,}" for kind in (ACCEPTED, REFUSED, CONTAINED, CRASHED, HUNG)]
    rows.append(["**all**", f"{total.total():,}", *kinds, f"{max(t.slowest for t in tallies.values()):.2f} s"])
    findings = [f"- {text}" for tally in tallies.values() for text in tally.findings[:20]]
    return "\n\n".join(
        (
            "## Hostile input\n\n`python -m benchmarks.fuzz --cases N --write` changes valid files and builds hostile "
            "ones, hands them to everything that reads what visitors send, and writes this table. *Accepted* and "
            "*refused* are answers; *contained* means that a helper process of the decoder crashed or passed its "
            "deadline, was replaced, and the file was refused; *crashed* is any other error; *hung* is more than "
            f"{DEADLINE:g} s. What earlier runs found is kept in `tests/fuzz/corpus` and tried with every test run.",
            f"{machine()} {seconds / 60:.0f} minutes.",
            table(("Input", "Cases", "Accepted", "Refused", "Contained", "Crashed", "Hung", "Slowest"), rows),
            "Findings:\n\n" + "\n".join(findings) if findings else "There were no findings.",
        )
    )


def shares(cases: int, names: list[str]) -> Iterator[tuple[str, int]]:
    """How many cases each target gets."""
    whole = sum(TARGETS[name].share for name in names)
    left = cases
    for name in names[:-1]:
        count = round(cases * TARGETS[name].share / whole)
        left -= count
        yield name, count
    yield names[-1], left


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000, help="in all targets together")
    parser.add_argument("--target", choices=[*TARGETS], action="append", help="all of them unless named")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--write", action="store_true", help="write the section of docs/reliability.md")
    options = parser.parse_args()
    start, tallies = time.monotonic(), {}
    for name, count in shares(options.cases, options.target or [*TARGETS]):
        tallies[name] = Tally()
        watch(name, options.first, options.first + count, tallies[name])
        print(f"{name}: {dict(tallies[name].outcomes)}", file=sys.stderr, flush=True)
    text = report(tallies, time.monotonic() - start)
    publish(text, RELIABILITY, "fuzz", write=options.write)
    return 1 if any(tally.findings for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
