"""A background job as it goes: progress, rate, time left, counts, pause, cancel."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from dashboard import session, words
from dashboard.jobs import CANCELLED, FAILED, PAUSED, QUEUED, Job, JobQueue, Progress
from dashboard.widgets import deletion

POLL_SECONDS = 1.0


def watch(queue: JobQueue, job: Job, below: Callable[[Progress], None] = lambda _: None) -> None:
    """Show a job that waits or runs, and what `below` shows of it; the page runs again once when it ends."""

    @st.fragment(run_every=POLL_SECONDS)
    def panel() -> None:
        now = queue.progress(job)
        if now.finished:
            st.rerun()
        with st.container(border=True):
            if now.state == QUEUED:
                st.markdown(f"**{words.plain(job.title)}** is waiting: {now.ahead} before it.")
                st.progress(0.0)
            else:
                st.markdown(f"**{words.plain(job.title)}**")
                stage = f"Others have their turn, {now.ahead} before it" if now.resting else now.stage
                if job.asked is not None:
                    stage = "Pausing …" if job.asked == PAUSED else "Stopping …"
                st.progress(now.share, text=f"{stage}: {now.done:,} of {now.total:,}")
                with st.container(horizontal=True):
                    rate = f"{now.rate:.1f} / s" if now.rate else "…"
                    left = words.duration(now.seconds_left) if now.seconds_left is not None else "…"
                    st.metric("Images per second", rate, width=150)
                    st.metric("Time left", left, width=150)
                    for verdict, look in words.VERDICTS.items():
                        if now.counts.get(verdict):
                            st.metric(look.short, f"{now.counts[verdict]:,}", width=150)
                    if now.counts.get("errors"):
                        st.metric("Broken files", f"{now.counts['errors']:,}", width=150)
                judged_before(now)
            with st.container(horizontal=True):
                st.button(
                    "Pause",
                    icon=":material/pause:",
                    key=f"pause_{job.id}",
                    on_click=queue.pause,
                    args=(job,),
                    disabled=job.asked is not None,
                    help="Stops after the images in hand and gives its turn to others, until you choose to continue.",
                )
                st.button(
                    "Cancel",
                    icon=":material/cancel:",
                    key=f"cancel_{job.id}",
                    on_click=queue.cancel,
                    args=(job,),
                    disabled=job.asked is not None,
                    help="Stops after the images in hand. What was judged is kept: the run can be continued later.",
                )
        st.caption("You may leave or reload this page: the address keeps the run.")
        below(now)

    panel()


def judged_before(now: Progress) -> None:
    """Say how many images earlier runs had judged; nothing when there are none."""
    if now.known:
        st.caption(f"{now.known:,} of {now.total:,} were judged before, and their results taken over.")


def ended_badly(queue: JobQueue, job: Job) -> None:
    """Say so when a job was paused or cancelled, or failed."""
    now = queue.progress(job)
    if now.state == PAUSED:
        st.info(f"Paused after {now.done:,} of {now.total:,} images.", icon=":material/pause_circle:")
    elif now.state == CANCELLED:
        st.warning(f"Cancelled after {now.done:,} of {now.total:,} images.", icon=":material/cancel:")
    elif now.state == FAILED:
        st.error(f"The run failed: {words.plain(now.error or 'unknown reason')}", icon=":material/error:")


def ended(queue: JobQueue, job: Job, *, again: str) -> None:
    """What stands above the results of a run: how it ended, its name, `again` for a new one, and its removal."""
    ended_badly(queue, job)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{words.plain(job.title)}**", width="content")
        st.button(again, icon=":material/add:", on_click=session.forget_job, args=(job.kind,))
        with st.popover("Delete this run", icon=":material/delete:"):
            st.markdown("Deletes its results and uploaded files from the server. This cannot be undone.")
            deletion.for_good("this run", session.remove_job, job, key=job.id)
    judged_before(queue.progress(job))
