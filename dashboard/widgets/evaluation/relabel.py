"""Correct labels and groups in the page. What is saved is a new manifest or a new run, never the visitor's files."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import resources, session, words
from dashboard.intake import IntakeError
from dashboard.jobs import Busy, Job
from dashboard.relabel import CHOICES, Correction, copy_run, corrected, manifest_csv
from dashboard.settings import get_settings
from dashboard.start import check_room
from dashboard.store import StoreError
from dashboard.tasks import EvaluationResult

PAGE = 100
_TITLES = dict(zip(CHOICES, ("Real photograph", "AI-generated", "Leave out"), strict=True))


@st.fragment
def relabel(job: Job, result: EvaluationResult) -> None:
    """A table of labels to correct, opened on request."""
    box = st.expander(
        "Correct labels and groups", icon=":material/edit_note:", key=f"relabel_{job.id}", on_change="rerun"
    )
    if not box.open:
        return
    with box:
        st.caption(
            "A wrong label counts as an error of the detector. Corrections make a new manifest or a new run; your "
            "files, and this run, stay as they are."
        )
        changes: dict[str, Correction] = st.session_state.setdefault(f"corrections_{job.id}", {})
        _editor(job, result, changes)
        _save(job, result, changes)


def _editor(job: Job, result: EvaluationResult, changes: dict[str, Correction]) -> None:
    frame = result.labelled.frame[["name", "label_name", "group"]].copy()
    scores = result.bulk.images.set_index("name")["p_fake"]
    frame["p_fake"] = scores.reindex(frame["name"]).to_numpy()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input("Name contains", type="search", key=f"relabel_text_{job.id}", width=240)
        doubtful = st.toggle(
            "Most contradicted first",
            value=True,
            key=f"relabel_doubtful_{job.id}",
            help="Where the detector is surest that the label is wrong: look there first, and at the picture, not at "
            "the score. Correcting only these would flatter the figures.",
        )
    if text:
        frame = frame[frame["name"].str.contains(text, case=False, regex=False)]
    if doubtful:
        against = (frame["label_name"] == "fake") - frame["p_fake"]
        frame = frame.loc[against.abs().sort_values(ascending=False, na_position="last", kind="stable").index]
    pages = max(1, -(-len(frame) // PAGE))
    number = st.pagination(pages, key=f"relabel_page_{job.id}") if pages > 1 else 1
    shown = frame.iloc[(min(number, pages) - 1) * PAGE :][:PAGE].reset_index(drop=True)
    now = [changes.get(name, Correction()) for name in shown["name"]]
    table = pd.DataFrame(
        {
            "Picture": shown["name"],
            "Label": [_TITLES[entry.label or label] for entry, label in zip(now, shown["label_name"], strict=True)],
            "Group": [
                group if entry.group is None else entry.group for entry, group in zip(now, shown["group"], strict=True)
            ],
            "Probability AI": shown["p_fake"].clip(*words.UNCERTAIN),
        }
    )
    edited = st.data_editor(
        table,
        hide_index=True,
        disabled=["Picture", "Probability AI"],
        key=f"relabel_table_{job.id}_{number}_{text}_{doubtful}_{st.session_state.get(_round(job), 0)}",
        column_config={
            "Label": st.column_config.SelectboxColumn(options=list(_TITLES.values()), required=True),
            "Probability AI": st.column_config.NumberColumn(format="percent"),
        },
        alt="Pictures with their labels and groups, to be corrected",
    )
    _note(edited, shown, changes)


def _round(job: Job) -> str:
    return f"relabel_round_{job.id}"


def _note(edited: pd.DataFrame, shown: pd.DataFrame, changes: dict[str, Correction]) -> None:
    """Take over what differs from the set."""
    labels = {title: name for name, title in _TITLES.items()}
    rows = zip(shown["name"], shown["label_name"], shown["group"], edited["Label"], edited["Group"], strict=True)
    for name, label, group, new_label, new_group in rows:
        picked = labels.get(str(new_label), label)
        # Only what somebody typed is put in order: the set's own names stay as they are.
        written = group if new_group == group else " ".join(str(new_group or "").split())
        found = Correction(None if picked == label else picked, None if written == group else written)
        if found == Correction():
            changes.pop(name, None)
        else:
            changes[name] = found


def _save(job: Job, result: EvaluationResult, changes: dict[str, Correction]) -> None:
    if not changes:
        st.caption("Nothing is corrected yet.")
        return
    try:
        labelled = corrected(result.labelled, changes)
    except ValueError as error:
        st.warning(str(error), icon=":material/error:")
        return
    counts = labelled.counts
    st.markdown(
        f"**{words.count(len(changes), 'correction')}**: {counts['real']:,} real and {counts['fake']:,} AI-generated "
        "would be measured."
    )
    with st.container(horizontal=True):
        st.download_button(
            "Manifest as CSV",
            data=lambda: manifest_csv(labelled),
            file_name="manifest.csv",
            mime="text/csv",
            icon=":material/download:",
            on_click="ignore",
            help="For `reality-check evaluate manifest.csv --root FOLDER`, with the folder that the paths begin in.",
        )
        again = st.button(
            "Measure again with these labels",
            icon=":material/play_arrow:",
            key=f"relabel_run_{job.id}",
            disabled=not session.person().may_run,
            help="A new run beside this one. The pictures are not judged again.",
        )
        st.button("Undo all", icon=":material/undo:", key=f"relabel_undo_{job.id}", on_click=_undo, args=(job, changes))
    if again:
        _measure_again(job, result, changes)


def _undo(job: Job, changes: dict[str, Correction]) -> None:
    changes.clear()
    st.session_state[_round(job)] = st.session_state.get(_round(job), 0) + 1


def _measure_again(job: Job, result: EvaluationResult, changes: dict[str, Correction]) -> None:
    queue = resources.job_queue()
    try:
        run = queue.store.get(job.id, owner=session.owner())
        if run is None:
            raise StoreError("This run is gone.")
        check_room(queue, session.person(), get_settings())
        copy = copy_run(queue.store, run, result, corrected(result.labelled, changes))
        try:
            new: Any = resources.enqueue(queue, copy)
        except BaseException:  # as in `dashboard.start`: a run that cannot begin must not wait for ever
            with suppress(StoreError):
                queue.store.discard(copy.id)
            raise
    except (StoreError, Busy, IntakeError) as error:
        st.error(words.plain(str(error)), icon=":material/error:")
        return
    session.remember_job(new)
    st.rerun()
