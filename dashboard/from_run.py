"""The way from an image of a run to its explanation, and back: both are addresses that can be kept or sent."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from dashboard import resources, session, tasks, words
from dashboard.jobs import Job
from dashboard.store import EVALUATION, StoreError
from dashboard.tasks import EvaluationResult
from dashboard.view import PARAMETERS
from model.sources import SourceError

RUN, IMAGE = "run", "image"
_SHOWN = "from_run"  # address and digest of the picture that was put into the tab


def address(run_id: str, position: int, view: Mapping[str, str]) -> dict[str, str]:
    """Parameters of the Explain page for an image; `view` are those of the page it is opened from."""
    return {RUN: run_id, IMAGE: str(position)} | dict(view)


def picture_of_run() -> None:
    """Look at the image that the address names, and offer the way back; nothing when it names none.

    Called by the Explain page before it looks at the picture of the tab.
    """
    asked = (st.query_params.get(RUN), st.query_params.get(IMAGE))
    if asked[1] is None:
        forget()
        return
    shown, digest = st.session_state.get(_SHOWN, (None, None))
    picture = session.picture()
    if shown == asked and picture is None:
        st.query_params.clear()  # the visitor put the picture away
        forget()
        return
    here = shown == asked and picture is not None and picture.sha256 == digest  # another page may have put in another
    try:
        job = resources.job_queue().get(asked[0], owner=session.owner())
        if job is None:
            raise StoreError("The run in this address is gone: it was deleted, or it is somebody else's.")
        _way_back(job)
        if not here:
            st.session_state[_SHOWN] = (asked, session.keep_picture(*_read(job, str(asked[1]))).sha256)
        _differences(job)
    except (StoreError, SourceError, OSError) as error:
        st.warning(words.plain(str(error)), icon=":material/link_off:")
        if here:  # else it is the visitor's own
            session.drop_picture()
        forget()
        for name in (RUN, IMAGE):
            st.query_params.pop(name, None)


def forget() -> None:
    """Called by the pages that images are opened from: the next one is looked at afresh."""
    st.session_state.pop(_SHOWN, None)


def _read(job: Job, number: str) -> tuple[str, bytes]:
    result = resources.result_of(job)
    images = result.bulk if isinstance(result, EvaluationResult) else result
    if images is None or not number.isdecimal() or len(number) > 9 or int(number) >= len(images.sources):
        raise StoreError(f"The run has no image number {number}.")
    return tasks.read_again(images, int(number))


def _way_back(job: Job) -> None:
    kept = {name: value for name, value in st.query_params.to_dict().items() if name in PARAMETERS}
    page, title = ("evaluate", "the evaluation") if job.kind == EVALUATION else ("bulk", "the run")
    st.page_link(
        f"../pages/{page}.py",
        label=f"Back to {title}",
        icon=":material/arrow_back:",
        query_params={RUN: job.id} | kept,
    )


def _differences(job: Job) -> None:
    """Say so where this page judges otherwise than the run did."""
    run = resources.job_queue().store.get(job.id, owner=session.owner())
    if run is None:
        return
    if run.checkpoint_sha256 != session.detector().checkpoint.sha256:
        gone = resources.installed(run.checkpoint_sha256) is None
        advice = "It is not installed any more." if gone else "Choose it on the Models page."
        st.info(
            f"The run was made with the checkpoint {words.plain(run.checkpoint)} "
            f"({run.checkpoint_sha256[: words.DIGEST]} …); this page uses another one, so the probability can differ. "
            f"{advice}",
            icon=":material/compare_arrows:",
        )
    tier = str(run.settings.get("tier", "clean"))
    if tier != "clean":
        st.info(
            f"The run judged the pictures as tier *{words.plain(tier)}* brings them; here is the original file, so the "
            "probability can differ.",
            icon=":material/compare_arrows:",
        )
