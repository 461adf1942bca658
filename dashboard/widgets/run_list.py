"""Kept runs: the one of the address, and the list of all to open, rename and delete."""

from __future__ import annotations

import streamlit as st

from dashboard import session, words
from dashboard.jobs import Job, JobQueue
from dashboard.resources import result_of
from dashboard.start import go_on
from dashboard.store import (
    BULK,
    CANCELLED,
    DONE,
    EVALUATION,
    FAILED,
    INTERRUPTED,
    PAUSED,
    QUEUED,
    RUNNING,
    Run,
    StoreError,
)
from dashboard.widgets import deletion

PAGE = 8  # runs shown at a time
MAX_NAME = 120
_KINDS = {BULK: "Bulk", EVALUATION: "Evaluation"}
_STATES = {
    QUEUED: ("gray", "waiting"),
    RUNNING: ("blue", "running"),
    DONE: ("green", "done"),
    PAUSED: ("yellow", "paused"),
    CANCELLED: ("orange", "cancelled"),
    INTERRUPTED: ("orange", "interrupted"),
    FAILED: ("red", "failed"),
}


def opened(queue: JobQueue, kind: str) -> Job | None:
    """The run that this page shows; says so when the one asked for is gone, or what it found is damaged."""
    try:
        job = session.current_job(kind)
        if job is not None and queue.progress(job).finished:
            result_of(job)
    except StoreError as error:
        st.error(words.plain(str(error)), icon=":material/heart_broken:")
        return None
    if job is None and st.query_params.get("run"):
        st.warning(
            "The run in this address is gone: it was deleted, or belongs to another page.", icon=":material/link_off:"
        )
    return job


def continue_button(queue: JobQueue, job: Job) -> None:
    """Offer to go on with a run that has ended early; nothing for one that is done."""
    now = queue.progress(job)
    if now.state == INTERRUPTED:
        st.warning(f"Interrupted after {now.done:,} of {now.total:,} images.")
    if now.state != DONE and session.person().may_run:
        st.button(
            "Continue",
            icon=":material/resume:",
            on_click=go_on,
            args=(queue, job),
            help="Goes on where it stopped. Pictures that were judged are not judged again.",
        )


def run_list(queue: JobQueue, kind: str | None = None) -> None:
    """The kept runs, of one kind or all, the newest first; nothing when there are none."""
    try:
        runs = queue.runs(kind=kind, owner=session.owner())
    except StoreError as error:
        st.error(words.plain(str(error)), icon=":material/heart_broken:")
        return
    if not runs:
        return
    st.subheader("Earlier runs")
    if len(runs) > PAGE:
        needle = st.text_input("Name contains", type="search", key="runs_needle", width=260)
        runs = [run for run in runs if needle.casefold() in run.name.casefold()]
    pages = max(1, -(-len(runs) // PAGE))
    number = st.pagination(pages, key="runs_page") if pages > 1 else 1
    for run in runs[(number - 1) * PAGE : number * PAGE]:
        _row(queue, run, with_kind=kind is None)
    if not runs:
        st.caption("No run matches.")


def _row(queue: JobQueue, run: Run, *, with_kind: bool) -> None:
    colour, state = ("red", "damaged") if run.damage else _STATES[run.state]
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap="xsmall"):
            st.markdown(f"**{words.plain(run.name)}** :{colour}-badge[{state}]")
            st.caption(words.plain(run.damage or " · ".join(_facts(run, with_kind=with_kind))))
        if not run.damage:
            st.button("Open", key=f"open_{run.id}", on_click=session.remember_job, args=(Job.of(run),))
        with st.popover("", icon=":material/more_horiz:", key=f"more_{run.id}"):
            st.text_input("Name", run.name, max_chars=MAX_NAME, key=f"name_{run.id}")
            st.button(
                "Rename",
                icon=":material/edit:",
                key=f"rename_{run.id}",
                on_click=_rename,
                args=(queue, run),
                width="stretch",
            )
            st.caption("Deleting takes its results and uploaded files. Pictures in folders on the server stay.")
            deletion.for_good("this run", session.remove_job, Job.of(run), key=run.id)


def _facts(run: Run, *, with_kind: bool) -> list[str]:
    """Kind, begin, duration, checkpoint and images of a run, as short texts."""
    begun = words.moment(run.created, st.context.timezone)
    judged = f"{run.done:,} of {words.count(run.total, 'picture')}"
    images = words.count(run.total, "picture") if run.state in (DONE, QUEUED, RUNNING) else judged
    facts = [begun, words.duration(run.seconds) if run.seconds else "", run.checkpoint, images]
    return [fact for fact in ([_KINDS.get(run.kind, run.kind)] if with_kind else []) + facts if fact]


def _rename(queue: JobQueue, run: Run) -> None:
    name = str(st.session_state[f"name_{run.id}"])  # what the field holds now: it may have been left for this button
    if clean := " ".join(name.split())[:MAX_NAME]:
        try:
            queue.store.update(run.id, name=clean)
        except StoreError as error:
            st.toast(words.plain(str(error)), icon=":material/error:")
