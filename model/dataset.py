"""Labelled sets: a folder, a ZIP archive or a CSV/Parquet manifest becomes sources, labels and groups.

What each folder was taken to mean is part of the result (`LabelledSet.folders`), and a folder whose meaning is not
known is an error: an evaluation on guessed labels is worse than none.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from model.imaging import SUFFIXES
from model.sources import ImageSource, Source, SourceError, SourceSet, from_folder, from_zip

LABELS = ("real", "fake")  # a label is its index here

# A strong word says what a folder is for. A weak one does so only where no strong word is in the path ("ai/real/x.png"
# is a real photograph of a project called ai); a digit only where there is no word at all ("fake/0/x.png" is a shard).
STRONG = {
    "real": 0, "reals": 0, "real_images": 0, "real_faces": 0, "real_photos": 0, "training_real": 0, "train_real": 0,
    "test_real": 0, "val_real": 0, "validation_real": 0, "0_real": 0, "1_real": 0, "not_fake": 0, "bona_fide": 0,
    "fake": 1, "fakes": 1, "fake_images": 1, "fake_faces": 1, "training_fake": 1, "train_fake": 1, "test_fake": 1,
    "val_fake": 1, "validation_fake": 1, "1_fake": 1, "0_fake": 1, "not_real": 1,
}  # fmt: skip
WEAK = {
    "authentic": 0, "genuine": 0, "photo": 0, "photos": 0, "photograph": 0, "photographs": 0, "pristine": 0,
    "original": 0, "originals": 0, "natural": 0, "nature": 0, "camera": 0, "human": 0,
    "ai": 1, "ai_generated": 1, "ai_images": 1, "aigc": 1, "generated": 1, "generated_images": 1, "synthetic": 1,
    "synthesized": 1, "synthesised": 1, "artificial": 1, "deepfake": 1, "deepfakes": 1, "gan": 1, "manipulated": 1,
}  # fmt: skip
DIGITS = {"0": 0, "1": 1}
MANIFEST_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")

MAX_MANIFEST_BYTES = 256 * 2**20
MAX_MANIFEST_ROWS = 5_000_000

_PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "name")
_LABEL_COLUMNS = ("label", "class", "target")
_LONGEST_LINE = 2**20
_SHOWN = 12  # names in one error message


class LabelError(ValueError):
    """A set whose labels cannot be used; the message lists what is wrong and what is accepted."""


@dataclass(frozen=True)
class LabelledSet:
    """Images with a known answer.

    Attributes
    ----------
    sources : list
        One per row of `frame`, in the same order.
    frame : DataFrame
        Columns `name` (unique), `label` (0 real, 1 fake), `label_name`, `group` ('' if none), `source` (the folder the
        image lies in, or the manifest's own column), then every other column of the manifest.
    folders : DataFrame
        Columns `folder`, `label`, `images`: which folder was taken to mean what. For a manifest, `folder` holds the
        label as it was written.
    skipped : list of (name, reason)
        What was found and is not in the set.
    """

    sources: list[ImageSource]
    frame: pd.DataFrame
    folders: pd.DataFrame
    skipped: list[tuple[str, str]]

    def __len__(self) -> int:
        """Count of the images."""
        return len(self.sources)

    @property
    def counts(self) -> dict[str, int]:
        """Images per label name."""
        return {name: int((self.frame["label"] == label).sum()) for label, name in enumerate(LABELS)}

    def attach(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """Results (column `path`) with this set's `label`, `group`, `source` and manifest columns, rows in their order.

        Raises
        ------
        LabelError
            If a result's path is not in this set.
        """
        unknown = sorted(set(predictions["path"]) - set(self.frame["name"]))
        if unknown:
            raise LabelError(f"No label is known for {_listed(unknown)}. Evaluate the set that was classified.")
        known = self.frame.drop(columns="label_name").set_index("name")
        rows = known.loc[predictions["path"]]
        added = {name: rows[name].to_numpy() for name in known if name in _OWN or name not in predictions}
        return predictions.assign(**added)


_OWN = ("label", "group", "source")


def label_of(word: object) -> int | None:
    """Label a written word stands for: 0 real, 1 fake, None if it is not known.

    Case, spaces and hyphens do not matter; numbers may be written as 1, 1.0 or true numbers.

    Examples
    --------
    >>> label_of("AI-generated"), label_of("Training_Real"), label_of(1.0), label_of("easy")
    (1, 0, 1, None)
    """
    text = _normal(str(word).strip())
    if re.fullmatch(r"[01]\.0+", text):
        text = text[0]
    for words in (STRONG, WEAK, DIGITS):
        if text in words:
            return words[text]
    return None


def load_labelled(
    path: str | os.PathLike[str] | SourceSet, *, root: str | os.PathLike[str] | None = None
) -> LabelledSet:
    """Load a labelled folder, ZIP archive or manifest.

    Parameters
    ----------
    path : path or SourceSet
        Folder or `.zip` whose folder names are labels; or a `.csv`, `.tsv` or `.parquet` manifest with the columns
        `path` and `label`, optionally `group` and `source`.
    root : path, optional
        What a manifest's paths are relative to, and may not leave; its own folder if not given.

    Raises
    ------
    LabelError
        If a folder's meaning is not known, a manifest cannot be read, or nothing usable remains.
    """
    if isinstance(path, SourceSet):
        return from_source_set(path)
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            return from_source_set(from_folder(path))
        if suffix == ".zip":
            return from_source_set(from_zip(path))
    except SourceError as error:
        raise LabelError(str(error)) from error
    if not path.is_file():
        raise LabelError(f"{path}: there is no such file or folder.")
    if suffix not in MANIFEST_SUFFIXES:
        raise LabelError(f"{path}: name a folder, a .zip or a manifest ({', '.join(MANIFEST_SUFFIXES)}).")
    return from_manifest(path, root=root)


def from_source_set(found: SourceSet) -> LabelledSet:
    """Labels from folder names, at any depth.

    The topmost folder whose name is a known word is the label, the folder directly below it the group. The name of the
    set itself (`found.root`) is the label of everything in it if it is a plain one, such as `fake`, and no folder
    inside has a plain name of its own ("fake/gan/x.png", "fake/0/x.png"), or if no folder inside has a known name.

    Raises
    ------
    LabelError
        If there are no images, a folder's meaning is not known, or a path names both labels.
    """
    if not len(found):
        raise LabelError("There are no images in the set" + _why(found.skipped) + ".")
    parts = [tuple(source.name.split("/")[:-1]) for source in found]
    places = {folder: _place(folder) for folder in dict.fromkeys(parts)}
    own = _place((found.root,)) if found.root else None
    if own is not None and _root_decides(found.root, places):
        places = dict.fromkeys(places, (own[0], -1))
    count = Counter("/".join(folder) for folder in parts)
    unknown = sorted("/".join(folder) for folder, place in places.items() if place is None)
    if unknown:
        names = [f"'{name or '.'}' ({count[name]} image{'s' * (count[name] != 1)})" for name in unknown]
        raise LabelError(
            f"It is not known whether these folders hold real or fake images: {_listed(names)}. {_known_words()}"
        )
    rows = []
    meaning: Counter[tuple[str, int]] = Counter()
    for source, folder in zip(found, parts, strict=True):
        label, depth = places[folder] or (0, 0)  # None was refused above
        group = folder[depth + 1] if depth + 1 < len(folder) else ""
        labelled = "/".join(folder[: depth + 1]) if depth >= 0 else found.root
        meaning[labelled, label] += 1
        rows.append((source.name, label, LABELS[label], group, "/".join(folder) or found.root))
    frame = pd.DataFrame(rows, columns=["name", "label", "label_name", "group", "source"])
    return LabelledSet(list(found), frame, _folders(meaning), list(found.skipped))


def from_manifest(path: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None) -> LabelledSet:
    """Labels from a table with the columns `path` and `label`.

    CSV is UTF-8, with or without a byte order mark, separated by comma, semicolon or tab. Lists and structs in Parquet
    become JSON text. Rows that cannot be used (missing file, unknown label, listed twice) are in `skipped` with their
    row number; an image that is listed with both labels is not used at all.

    Raises
    ------
    LabelError
        If the file is not such a table or no row is usable.
    """
    path = Path(path)
    table = _read_table(path)
    path_column = _column(table, _PATH_COLUMNS, path)
    label_column = _column(table, _LABEL_COLUMNS, path)
    table = table.rename(columns=_others_apart(table, path_column, label_column))
    base = Path(root) if root is not None else path.parent
    first_row, rejected = _usable_rows(table, base)
    kept = sorted(first_row.values())
    skipped = sorted(rejected.items())
    reasons = [(_cell(table["name"].iloc[row]) or f"row {_line(row)}", reason) for row, reason in skipped]
    if not kept:
        raise LabelError(f"{path.name}: no row can be used" + _why(reasons) + f". {_known_words()}")
    written = [_cell(table["label_name"].iloc[row]) for row in kept]
    labels = [label_of(word) or 0 for word in written]
    names = [Path(_cell(table["name"].iloc[row])).as_posix() for row in kept]
    frame = pd.DataFrame({"name": names, "label": labels, "label_name": [LABELS[label] for label in labels]})
    for column, default in (("group", [""] * len(kept)), ("source", [Path(name).parent.as_posix() for name in names])):
        given = [_cell(value) for value in table[column].iloc[kept]] if column in table else default
        frame[column] = given
    others = [column for column in table if column not in frame]
    frame = pd.concat([frame, table[others].iloc[kept].reset_index(drop=True)], axis=1)
    sources: list[ImageSource] = [Source(name, base / name) for name in names]
    return LabelledSet(sources, frame, _folders(Counter(zip(written, labels, strict=True))), reasons)


def _place(folder: Sequence[str]) -> tuple[int, int] | None:
    """Label and depth of the folder name that decides; None if none is known."""
    words = [_normal(part) for part in folder]
    for known in (STRONG, WEAK, DIGITS):
        hits = [(known[word], depth) for depth, word in enumerate(words) if word in known]
        if known is STRONG and len({label for label, _ in hits}) > 1:
            raise LabelError(f"The folder '{'/'.join(folder)}' names both labels. Rename one of its parts.")
        if hits:
            return hits[0]
    return None


def _root_decides(root: str, places: Mapping[tuple[str, ...], tuple[int, int] | None]) -> bool:
    if _normal(root) in STRONG:
        return not any(_normal(part) in STRONG for folder in places for part in folder)
    return all(place is None for place in places.values())


def _normal(word: str) -> str:
    return re.sub(r"[\s\-_]+", "_", word.strip()).casefold()


def _folders(meaning: Counter[tuple[str, int]]) -> pd.DataFrame:
    rows = [(folder, LABELS[label], images) for (folder, label), images in sorted(meaning.items())]
    return pd.DataFrame(rows, columns=["folder", "label", "images"])


def _others_apart(table: pd.DataFrame, path_column: str, label_column: str) -> dict[str, str]:
    """New names of columns: those of path and label, and of others that bear the new names already."""
    names = {path_column: "name", label_column: "label_name"}
    for column in table.columns:
        if column not in names and column in ("name", "label_name"):
            names[column] = next(
                new for number in range(len(table.columns) + 1) if (new := f"{column}_{number + 2}") not in table
            )
    return names


def _read_table(path: Path) -> pd.DataFrame:
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise LabelError(f"{path.name}: is larger than {MAX_MANIFEST_BYTES // 2**20} MiB. Split it.")
        table = _read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_csv(path)
    except LabelError:
        raise
    except UnicodeDecodeError as error:
        raise LabelError(f"{path.name}: is not UTF-8 text ({error.reason}). Save it as CSV UTF-8.") from error
    except (OSError, ValueError) as error:  # pandas' and pyarrow's own errors are ValueErrors
        raise LabelError(f"{path.name}: cannot be read as a table ({error}).") from error
    table.columns = _titles(table.columns, path)
    if table.empty:
        raise LabelError(f"{path.name}: has no rows.")
    for name in table:
        if table[name].dtype == object and not table[name].map(pd.api.types.is_scalar).all():
            table[name] = table[name].map(_scalar)
    return table.reset_index(drop=True)


def _titles(written: Iterable[object], path: Path) -> list[str]:
    """Titles of columns as they are looked up; LabelError if one occurs twice."""
    titles = [str(title).strip().lower() for title in written]
    doubled = sorted(title for title, times in Counter(titles).items() if title and times > 1)
    if doubled:
        raise LabelError(f"{path.name}: the column {_listed(doubled)} occurs twice. Rename one.")
    return titles


def _read_csv(path: Path) -> pd.DataFrame:
    with open(path, encoding="utf-8-sig", newline="") as file:
        header = file.readline(_LONGEST_LINE)
        separator = max(",;\t", key=header.count)
        file.seek(0)
        try:
            records = csv.reader(file, delimiter=separator)
            titles, first = (next((record for record in records if record), []) for _ in range(2))
        except csv.Error as error:
            raise LabelError(f"{path.name}: cannot be read as a table ({error}).") from error
    if any(first[len(titles) :]):
        raise LabelError(
            f"{path.name}: row 2 has {len(first)} fields under {len(titles)} columns. Put fields that hold "
            f"'{separator}' into quotes."
        )
    _titles(titles, path)  # here, as pandas gives the second of two another name
    return pd.read_csv(
        path,
        dtype=str,
        keep_default_na=False,
        encoding="utf-8-sig",
        sep=separator,
        index_col=False,
        usecols=range(len(titles)) if len(first) > len(titles) else None,  # a separator at the end of each line
    )


def _read_parquet(path: Path) -> pd.DataFrame:
    about = pq.read_metadata(path)  # compression could make a small file a very large table
    unpacked = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
    if about.num_rows > MAX_MANIFEST_ROWS or unpacked > 4 * MAX_MANIFEST_BYTES:
        raise LabelError(f"{path.name}: has {about.num_rows:,} rows, {unpacked / 2**20:,.0f} MiB unpacked. Split it.")
    return pd.read_parquet(path)


def _scalar(value: object) -> object:
    """A cell that can be compared and grouped by: a list, struct or map becomes JSON text."""
    return value if pd.api.types.is_scalar(value) else json.dumps(value, ensure_ascii=False, default=_within)


def _within(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)


def _column(table: pd.DataFrame, accepted: Iterable[str], path: Path) -> str:
    accepted = tuple(accepted)
    for name in accepted:
        if name in table:
            return name
    have = ", ".join(str(column) for column in table.columns)
    raise LabelError(f"{path.name}: has no column '{accepted[0]}' (it has: {have}). Columns are path,label[,group].")


def _usable_rows(table: pd.DataFrame, base: Path) -> tuple[dict[str, int], dict[int, str]]:
    """Row of every usable image by its name on disk, and the reason by row for all others."""
    real_base = base.resolve()
    first: dict[str, int] = {}
    label_at: dict[str, int] = {}
    contradictory: set[str] = set()
    rejected: dict[int, str] = {}
    pairs: Iterator[tuple[object, object]] = zip(table["name"], table["label_name"], strict=True)
    for row, (name, word) in enumerate(pairs):
        label = label_of(_cell(word))
        if not _cell(name):
            rejected[row] = f"row {_line(row)}: no path"
            continue
        if label is None:
            rejected[row] = f"row {_line(row)}: the label '{_cell(word)}' is not known"
            continue
        location = base / _cell(name)
        reason, key = _refusal_of_path(location, real_base)
        if reason is not None:
            rejected[row] = f"row {_line(row)}: {reason}"
            continue
        if key in first:
            if label_at[key] == label:
                rejected[row] = f"row {_line(row)}: already listed in row {_line(first[key])}"
            else:
                contradictory.add(key)
                rejected[row] = f"row {_line(row)}: listed as both real and fake (see row {_line(first[key])})"
            continue
        first[key], label_at[key] = row, label
    for key in contradictory:
        row = first.pop(key)
        rejected[row] = f"row {_line(row)}: listed as both real and fake in other rows"
    return first, rejected


def _refusal_of_path(location: Path, real_base: Path) -> tuple[str | None, str]:
    try:
        resolved = location.resolve()
        if not resolved.is_relative_to(real_base):
            return f"lies outside {real_base.name or real_base}/; name its root folder", ""
        if not resolved.is_file():
            return "there is no such file", ""
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name, a loop of links
        return f"its path cannot be used ({error})", ""
    if location.suffix.lower() not in SUFFIXES:
        return f"not an image by its name ({location.suffix or 'no suffix'})", ""
    return None, str(resolved)


def _cell(value: object) -> str:
    return "" if value is None or value is pd.NA or value != value else str(value).strip()


def _line(row: int) -> int:
    return row + 2  # as a spreadsheet counts: the header is row 1


def _why(skipped: Sequence[tuple[str, str]]) -> str:
    return f" ({len(skipped)} skipped: {_listed([f'{name}: {reason}' for name, reason in skipped])})" if skipped else ""


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _known_words() -> str:
    words = {0: ["real", "0"], 1: ["fake", "1"]}
    for known in (WEAK, {"training_real": 0, "training_fake": 1}):
        for word, label in known.items():
            words[label].append(word)
    return f"Names for real: {', '.join(words[0])}. Names for fake: {', '.join(words[1])}."
