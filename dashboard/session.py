"""What one browser tab remembers: every key of `st.session_state` that is not a widget's, in one place."""

from __future__ import annotations

import hashlib

import streamlit as st

from dashboard import words
from dashboard.examination import Examination, Picture, examine
from dashboard.jobs import Job
from dashboard.resources import detector as shared_detector
from dashboard.resources import forget_result, job_queue
from dashboard.settings import get_settings
from dashboard.store import StoreError
from model.detector import Detector

PICTURE = "picture"
EXAMINATION = "examination"
CHECKPOINT = "checkpoint"
_NUMBER = "picture_number"


def initialise() -> None:
    """Called by the router before every page."""
    st.session_state.setdefault(PICTURE, None)
    st.session_state.setdefault(EXAMINATION, None)
    st.session_state.setdefault(CHECKPOINT, None)
    st.session_state.setdefault(_NUMBER, 0)


def detector() -> Detector:
    """The detector of the checkpoint this tab has chosen."""
    return shared_detector(st.session_state.get(CHECKPOINT))


def keep_picture(name: str, data: bytes) -> None:
    """Make a picture the one that Classify and Explain look at."""
    st.session_state[PICTURE] = Picture(name, data, hashlib.sha256(data).hexdigest())


def drop_picture() -> None:
    """Forget the picture and everything learnt from it, and empty the inputs it came from."""
    st.session_state[PICTURE] = None
    st.session_state[EXAMINATION] = None
    st.session_state[_NUMBER] += 1


def input_key(name: str) -> str:
    """Widget key of a picture input; it changes when the picture is dropped, which empties the widget."""
    return f"{name}_{st.session_state[_NUMBER]}"


def picture() -> Picture | None:
    """The picture of this tab."""
    return st.session_state.get(PICTURE)


def examination() -> Examination | None:
    """The picture's examination, computed when the picture or the checkpoint changed."""
    current = picture()
    if current is None:
        return None
    judge = detector()
    kept: tuple[tuple[str, str, str], Examination] | None = st.session_state.get(EXAMINATION)
    key = (current.sha256, current.name, judge.checkpoint.sha256)
    if kept is None or kept[0] != key:
        kept = (key, examine(judge, current))
        st.session_state[EXAMINATION] = kept
    return kept[1]


def remember_job(job: Job) -> None:
    """Put a run into the page's address and into this tab."""
    st.session_state[f"job_{job.kind}"] = job.id
    st.query_params["run"] = job.id


def current_job(kind: str) -> Job | None:
    """The run of the page's address, or without one the run this tab opened last; None when it is not of this kind.

    Raises
    ------
    dashboard.store.StoreError
        If the run is damaged.
    """
    asked = st.query_params.get("run")
    job = job_queue().get(asked or st.session_state.get(f"job_{kind}"))
    if job is None or job.kind != kind:
        return None
    remember_job(job)
    return job


def forget_job(kind: str) -> None:
    """Leave a run; it goes on until it is deleted."""
    st.session_state.pop(f"job_{kind}", None)
    st.query_params.pop("run", None)


def remove_job(job: Job) -> None:
    """Delete a run with its results and files, leave it, and say what was deleted."""
    queue = job_queue()
    try:
        deleted = queue.remove(job)
    except StoreError as error:
        st.toast(words.plain(str(error)), icon=":material/error:", duration="long")
        return
    forget_result(job)
    if job.id in (st.session_state.get(f"job_{job.kind}"), st.query_params.get("run")):
        forget_job(job.kind)
    if deleted is not None:
        st.toast(
            f"Deleted **{words.plain(deleted.name)}**: {words.count(deleted.uploads, 'uploaded file')}, "
            f"{words.count(deleted.others, 'file')} of results, {words.size(deleted.size)}. Pictures in folders on the "
            "server were not touched.",
            icon=":material/delete:",
            duration="long",
        )


def may_list_runs() -> bool:
    """Whether this visitor may see the list of all kept runs (setting `list_runs`)."""
    wish = get_settings().list_runs
    if wish is not None:
        return wish
    alone = st.get_option("server.address") in ("127.0.0.1", "::1", "localhost")
    return alone and not any(name in st.context.headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-Ip"))


def choose_checkpoint(name: str | None) -> None:
    """Use another bundled checkpoint in this tab; None returns to the default."""
    st.session_state[CHECKPOINT] = name
