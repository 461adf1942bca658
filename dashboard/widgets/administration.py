"""For administrators: how the server does, and the runs of all people, without their names, pictures or results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import TypeVar

import pandas as pd
import streamlit as st

from dashboard import memory, session, words
from dashboard.jobs import JobQueue
from dashboard.settings import Settings
from dashboard.store import QUEUED, RUNNING, Run, StoreError
from dashboard.widgets import deletion

PAGE = 25
_T = TypeVar("_T")


def server_state(queue: JobQueue, settings: Settings) -> None:
    """Room, queue and visitors in figures; a dash for what a store in trouble cannot tell."""
    runs, free = _if_known(queue.runs), _if_known(queue.store.free)
    waiting = None if runs is None else sum(run.state in (QUEUED, RUNNING) for run in runs)
    with st.grid(5, min_column_width=140):
        st.metric("Runs kept", None if runs is None else f"{len(runs):,}", border=True)
        st.metric("In the queue", None if waiting is None else f"{waiting} of {settings.max_queued_jobs}", border=True)
        st.metric("Tabs", f"{len(memory.tabs):,}", border=True)
        st.metric("Uploads in memory", words.size(memory.held()), border=True)
        st.metric("Free disk", None if free is None else words.size(free), border=True)


def all_runs(queue: JobQueue) -> None:
    """Facts about every run, and its deletion."""
    try:
        runs = queue.runs()
    except (StoreError, OSError) as error:
        lost = f"The runs cannot be read ({error.strerror})." if isinstance(error, OSError) else str(error)
        st.error(words.plain(lost), icon=":material/heart_broken:")
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
        key=f"administration_runs_{_digest(shown)}",  # places in a list: good for no other list
        alt="Runs of all people: owner, kind, state, begin, pictures",
    )
    _deletion([shown[row] for row in chosen["selection"]["rows"]])


def _deletion(runs: Sequence[Run]) -> None:
    """The button that deletes the selected runs, once that is confirmed for these very runs."""
    count = words.count(len(runs), "run")
    with st.popover(f"Delete {count}", icon=":material/delete:", disabled=not runs):
        st.markdown("Deletes the selected runs with their pictures and results. This cannot be undone.")
        deletion.for_good(count, session.remove_runs, runs, key=_digest(runs), enabled=bool(runs))


def _digest(runs: Iterable[Run]) -> str:
    """Short text that is another one for other runs, or the same in another order."""
    return sha256(" ".join(run.id for run in runs).encode()).hexdigest()[:16]


def _if_known(ask: Callable[[], _T]) -> _T | None:
    """What the store answers; None where it cannot."""
    try:
        return ask()
    except (StoreError, OSError):
        return None


def _facts(run: Run) -> dict[str, object]:
    return {
        "Owner": (run.owner or "nobody")[-8:],
        "Kind": run.kind,
        "State": run.damage or run.state,
        "Begun": words.moment(run.created, st.context.timezone),
        "Pictures": run.total,
        "Purpose": run.purpose or "",
    }
