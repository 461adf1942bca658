"""What one browser tab remembers: every key of `st.session_state` that is not a widget's, in one place."""

from __future__ import annotations

import hashlib

import streamlit as st

from dashboard.examination import Examination, Picture, examine
from dashboard.jobs import Job
from dashboard.resources import detector as shared_detector
from dashboard.resources import job_queue
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
    """Put a job into the page's address and into this tab."""
    st.session_state[f"job_{job.kind}"] = job.id
    st.query_params["job"] = job.id


def current_job(kind: str) -> Job | None:
    """The job of the page's address, or the one this tab started last; None when there is none of this kind."""
    queue = job_queue()
    for job_id in (st.query_params.get("job"), st.session_state.get(f"job_{kind}")):
        job = queue.get(job_id)
        if job is not None and job.kind == kind:
            if st.query_params.get("job") != job.id:
                st.query_params["job"] = job.id
            st.session_state[f"job_{kind}"] = job.id
            return job
    return None


def forget_job(kind: str) -> None:
    """Leave a job; it goes on until it is removed."""
    st.session_state.pop(f"job_{kind}", None)
    st.query_params.pop("job", None)


def remove_job(job: Job) -> None:
    """Delete a job with its results and files, and leave it."""
    job_queue().remove(job)
    forget_job(job.kind)


def choose_checkpoint(name: str | None) -> None:
    """Use another bundled checkpoint in this tab; None returns to the default."""
    st.session_state[CHECKPOINT] = name
