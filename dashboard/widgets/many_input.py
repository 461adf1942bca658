"""Where many pictures come from: files or a ZIP archive, or a place on the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import words
from dashboard.intake import (
    BROWSER_TYPES,
    MAX_CHOICES,
    UPLOAD_TYPES,
    IntakeError,
    ServerPlace,
    allowed,
    server_places,
)
from dashboard.settings import Settings
from model.dataset import MANIFEST_SUFFIXES

DIRECTORY_LIMIT = 300


@dataclass(frozen=True)
class Chosen:
    """What the visitor handed in: uploads, or a place on the server."""

    uploads: Sequence[Any] = ()
    place: ServerPlace | None = None

    @property
    def title(self) -> str:
        """A short name for the run."""
        if self.place is not None:
            return self.place.label
        if len(self.uploads) == 1:
            return str(self.uploads[0].name)
        return words.count(len(self.uploads), "file")


def many_input(settings: Settings, *, key: str, labelled: bool = False) -> Chosen | None:
    """Offer uploads and server places; None until something is chosen."""
    ways = {
        "ZIP": ":material/folder_zip: ZIP" if labelled else ":material/upload_file: Files or ZIP",
        "Folder": ":material/drive_folder_upload: Folder from this computer",
        "Server": ":material/dns: Folder on the server",
    }
    way = st.segmented_control(
        "Pictures from",
        list(ways),
        default="ZIP",
        required=True,
        format_func=ways.__getitem__,
        label_visibility="collapsed",
        key=f"{key}_way",
    )
    if way == "ZIP":
        files = st.file_uploader(
            "Drop a ZIP file here or choose one" if labelled else "Drop pictures or a ZIP file here or choose them",
            type=["zip"] if labelled else UPLOAD_TYPES,
            accept_multiple_files=True,
            max_upload_size=settings.max_upload_mb,
            key=f"{key}_files",
            help=f"Up to {settings.max_upload_mb} MB per file. More than about 100 pictures travel faster as one ZIP.",
        )
        return Chosen(uploads=files) if files else None
    if way == "Folder":
        files = st.file_uploader(
            "Choose a folder",
            type=BROWSER_TYPES,
            accept_multiple_files="directory",
            max_upload_size=settings.max_upload_mb,
            key=f"{key}_directory",
            help="Its files are sent one by one.",
        )
        st.caption(f"For up to {DIRECTORY_LIMIT} pictures; a larger folder goes much faster as a ZIP file.")
        if files and len(files) > DIRECTORY_LIMIT:
            st.error(f"{len(files):,} files: more than {DIRECTORY_LIMIT}. Pack the folder as a ZIP file.")
            return None
        return Chosen(uploads=files) if files else None
    return _server(settings, key, labelled)


@st.cache_data(ttl="30s", max_entries=8, show_spinner="Listing folders …")
def _places(_settings: Settings, roots: tuple[Path, ...], suffixes: tuple[str, ...]) -> list[ServerPlace]:
    # The same for every visitor; `roots` is part of the key. Walking a large tree at every click would be slow.
    return server_places(_settings, suffixes=suffixes)


def _server(settings: Settings, key: str, labelled: bool) -> Chosen | None:
    suffixes = (".zip", *MANIFEST_SUFFIXES) if labelled else (".zip",)
    places = {place.label: place for place in _places(settings, settings.folder_roots, suffixes)}
    if not places:
        st.caption("No folder on the server is open to visitors. The setting `folder_roots` lists them.")
        return None
    label = st.selectbox(
        "Folder, archive or manifest" if labelled else "Folder or archive",
        list(places),
        index=None,
        placeholder="Choose or type to search",
        key=f"{key}_place",
        help="Folders that the operator opened, and the bundled samples. Subfolders are included.",
    )
    if len(places) >= MAX_CHOICES:
        st.caption(f"The first {MAX_CHOICES} are listed. A folder that is not can be had with the folder above it.")
    if label is None or label not in places:
        return None
    try:
        allowed(places[label].path, settings)
    except IntakeError as error:
        st.error(str(error))
        return None
    return Chosen(place=places[label])
