"""Where one picture comes from: a file, the clipboard, the camera, or a bundled sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from dashboard import memory
from dashboard.intake import BROWSER_TYPES
from dashboard.settings import get_settings
from model.imaging import SUFFIXES

Accept = Callable[[str, bytes], object]
KeyOf = Callable[[str], str]

SOURCES = {
    "File": ":material/upload_file: File",
    "Paste": ":material/content_paste: Paste",
    "Camera": ":material/photo_camera: Camera",
}
SAMPLES_SHOWN = 4  # of each group
_SAMPLE_GROUPS = {"real": "Real", "fake": "AI-generated", "not_applicable": "No face"}


def picture_input(accept: Accept, key_of: KeyOf, samples: Path) -> None:
    """Offer every way in; `accept(name, bytes)` is called before the page runs again.

    Parameters
    ----------
    key_of : callable
        Gives each input widget its key; keys change when the picture is dropped, which empties the widgets.
    """
    source = st.segmented_control(
        "Picture from",
        list(SOURCES),
        default="File",
        required=True,
        format_func=SOURCES.__getitem__,
        label_visibility="collapsed",
        key=key_of("source"),
    )
    if source == "File":
        _file(accept, key_of("file"))
    elif source == "Paste":
        _paste(accept, key_of("paste"))
    else:
        _camera(accept, key_of("camera"))
    sample_gallery(accept, samples)


def _file(accept: Accept, key: str) -> None:
    def taken() -> None:
        upload = st.session_state[key]
        if upload is not None:
            accept(upload.name, upload.getvalue())
            memory.release([upload])

    most = min(64, get_settings().max_upload_mb)
    st.file_uploader(
        "Drop a picture here or choose a file",
        type=BROWSER_TYPES,
        key=key,
        on_change=taken,
        max_upload_size=most,
        help=f"JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP or GIF, up to {most} MB and 50 million pixels.",
    )


def _paste(accept: Accept, key: str) -> None:
    def taken() -> None:
        message = st.session_state[key]
        if message is not None and message.files:
            upload = message.files[-1]
            accept(upload.name or "pasted.png", upload.getvalue())

    with st.container():
        st.chat_input(
            "Click here, paste with Ctrl+V, then press Enter",
            accept_file=True,
            file_type=BROWSER_TYPES,
            key=key,
            on_submit=taken,
        )
    st.caption("A screenshot loses traces of the original file. Prefer the file itself where you have it.")


def _camera(accept: Accept, key: str) -> None:
    def taken() -> None:
        upload = st.session_state[key]
        if upload is not None:
            accept("camera.jpg", upload.getvalue())
            memory.release([upload])

    st.camera_input("Take a picture", key=key, on_change=taken, resolution="720p")
    st.caption("Photographing a screen or a print adds its own traces; the verdict then says little.")


def sample_files(folder: Path) -> list[tuple[str, list[Path]]]:
    """Bundled samples by group, sorted by name."""
    groups = []
    for name, title in _SAMPLE_GROUPS.items():
        place = folder / name
        files = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES) if place.is_dir() else []
        if files:
            groups.append((title, files))
    return groups


def sample_gallery(accept: Accept, folder: Path) -> None:
    """Small pictures to start with."""
    groups = sample_files(folder)
    if not groups:
        return

    def chosen(path: Path) -> None:
        accept(path.name, path.read_bytes())

    st.caption("Or try a sample")
    with st.grid(6, min_column_width=88, gap="xsmall"):
        for title, files in groups:
            for path in files[:SAMPLES_SHOWN]:
                with st.container(gap="xxsmall"):
                    st.image(
                        _small(str(path), path.stat().st_mtime_ns), width="stretch", alt=f"Sample: {title}, {path.stem}"
                    )
                    st.button(
                        title,
                        key=f"sample_{path.parent.name}_{path.name}",
                        on_click=chosen,
                        args=(path,),
                        width="stretch",
                        type="tertiary",
                        help=path.name,
                    )


@st.cache_data(max_entries=200, show_spinner=False)
def _small(path: str, modified: int) -> str:  # modified is part of the key; bundled files, the same for everyone
    from dashboard.tasks import thumbnail

    return thumbnail(Path(path).read_bytes(), 160) or path


def guidelines() -> None:
    """Which pictures the detector can judge."""
    st.markdown(
        """
- **One clear face**, at least 80 pixels high; more is better. Several faces are each judged. In a very large picture
  small faces are not looked for: cut the face out.
- **The original file**: screenshots, messengers and filters wash out the traces that a verdict rests on.
- **A photograph**: drawings, paintings, masks and renderings are outside what the detector learnt.
- **Whole faces** made by a generator are what it looks for. Swapped or retouched faces are another question.
"""
    )
