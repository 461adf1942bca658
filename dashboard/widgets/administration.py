"""For administrators: how the server does, and the runs of all people, without their names, pictures or results."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import memory, session, words
from dashboard.jobs import JobQueue
from dashboard.settings import Settings
from dashboard.store import QUEUED, RUNNING, Run, StoreError

PAGE = 25


def server_state(queue: JobQueue, settings: Settings) -> None:
    """Room, queue and visitors in figures."""
    runs = queue.store.runs()
    with st.grid(5, min_column_width=140):
        st.metric("Runs kept", f"{len(runs):,}", border=True)
        waiting = sum(run.state in (QUEUED, RUNNING) for run in runs)
        st.metric("In the queue", f"{waiting} of {settings.max_queued_jobs}", border=True)
        st.metric("Tabs", f"{len(memory.tabs):,}", border=True)
        st.metric("Uploads in memory", words.size(memory.held()), border=True)
        st.metric("Free disk", words.size(queue.store.free()), border=True)


def all_runs(queue: JobQueue) -> None:
    """Facts about every run, and its deletion."""
    try:
        runs = queue.store.runs()
    except StoreError as error:
        st.error(words.plain(str(error)), icon=":material/heart_broken:")
        return
    st.subheader("Runs of all people")
    st.caption("Names, pictures and results are for their owners alone. Deleting is for good.")
    if not runs:
        st.caption("There are none.")
        return
    pages = max(1, -(-len(runs) // PAGE))
    number = st.pagination(pages, key="administration_page") if pages > 1 else 1
    shown = runs[(number - 1) * PAGE : number * PAGE]
    chosen = st.dataframe(
        pd.DataFrame([_facts(run) for run in shown]),
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        key="administration_runs",
        alt="Runs of all people: owner, kind, state, begin, pictures",
    )
    rows = [shown[row] for row in chosen["selection"]["rows"] if row < len(shown)]
    st.button(
        f"Delete {words.count(len(rows), 'run')}",
        icon=":material/delete:",
        disabled=not rows,
        on_click=session.remove_runs,
        args=(rows,),
    )


def _facts(run: Run) -> dict[str, object]:
    return {
        "Owner": (run.owner or "nobody")[-8:],
        "Kind": run.kind,
        "State": run.damage or run.state,
        "Begun": words.moment(run.created, st.context.timezone),
        "Pictures": run.total,
        "Purpose": run.purpose or "",
    }
