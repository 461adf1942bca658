"""Pictures of a run, small or with their evidence, made for what is on the screen and kept for the tab."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import overlay, resources, session, tasks, words
from dashboard.examination import Picture, examine
from dashboard.jobs import JobError
from dashboard.tasks import BulkResult, ChangedError
from model.sources import SourceError

THUMBNAIL = 220  # px
LEGEND = "Blue is evidence for a real photograph, orange for an AI-generated one, on the same scale for every picture."


def show(slot: DeltaGenerator, run_id: str, position: int, result: BulkResult, alt: str) -> None:
    """Put a small picture where `slot` is, or say why there is none."""
    try:
        picture = _small(run_id, position, _judged(result, position), result)
    except ChangedError:
        slot.caption(":material/difference: this file has changed since it was judged")
        return
    except (SourceError, OSError):
        picture = None
    if picture is None:
        slot.caption(":material/broken_image: can no longer be read")
    else:
        slot.image(picture, width="stretch", alt=alt)


def heatmaps(run_id: str, result: BulkResult, slots: Iterable[tuple[int, str, DeltaGenerator]]) -> bool:
    """Replace pictures by their evidence maps, one after the other; a click elsewhere ends it.

    Parameters
    ----------
    slots : iterable of (int, str, DeltaGenerator)
        Position and name of each picture, and where it is.

    Returns
    -------
    bool
        False, with a warning, when the detector of the run is not here any more.
    """
    for position, name, slot in slots:
        try:
            found = _heatmap(run_id, position, _judged(result, position), result)
        except JobError as error:
            st.warning(words.plain(str(error)), icon=":material/visibility_off:")
            return False
        if found is not None:
            slot.image(found, width="stretch", alt=f"Evidence over the face of {name}")
    return True


def _judged(result: BulkResult, position: int) -> str | None:
    """Digest of an image as it was judged: part of what pictures are kept by, as a run that goes on may judge anew."""
    return result.digests.get(result.sources[position].name)


@st.cache_data(max_entries=600, show_spinner=False, scope="session")
def _small(run_id: str, position: int, judged: str | None, _result: BulkResult) -> str | None:
    """A small picture of a run as a `data:` address; None where it is no image. Raises as `tasks.read_again`."""
    return tasks.thumbnail(tasks.read_again(_result, position)[1], THUMBNAIL)


@st.cache_data(max_entries=200, show_spinner=False, scope="session")
def _heatmap(run_id: str, position: int, judged: str | None, _result: BulkResult) -> str | None:
    """The evidence over the deciding face of an image, as a `data:` address; None where there is none."""
    run = resources.job_queue().store.get(run_id, owner=session.owner())
    if run is None:
        return None
    try:
        name, data = tasks.read_again(_result, position)
    except (SourceError, OSError):
        return None
    found = examine(resources.detector_of(run), Picture(name, data, ""))
    index = found.result.deciding_face
    if index is None or found.crops[index] is None or found.result.faces[index].evidence is None:
        return None
    painted = overlay.overlay(found.crops[index], found.result.faces[index].evidence)  # type: ignore[arg-type]
    buffer = io.BytesIO()
    painted.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
