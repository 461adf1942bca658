"""The images behind a figure: filtered, searched, ordered and paged, with heatmaps on request."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from dashboard import from_run, words
from dashboard.measured import Measured, Rows
from dashboard.view import CELLS, Selection, View
from dashboard.widgets import pictures
from dashboard.widgets.evaluation import state

PAGE = 12
CELL_TITLES = {"FP": "False alarms", "FN": "Missed AI", "TP": "AI found", "TN": "Real not flagged"}
_ALL = "all"
_ORDERS = {
    "wrong": "Most wrong first",
    "certain": "Most certain first",
    "unsure": "Least certain first",
    "name": "By name",
}


def images(job_id: str, measured: Measured, view: View) -> None:
    """The images that the view selects."""
    (tn, fp), (fn, tp) = measured.scored.confusion(measured.threshold(view)).tolist()
    counts = {"FP": fp, "FN": fn, "TP": tp, "TN": tn, _ALL: len(measured.scored)}
    cell, text, ordered = (f"{name}_{job_id}" for name in ("cell", "text", "order"))
    st.session_state[cell] = view.selection.cell or _ALL
    st.session_state[text] = view.selection.text
    st.session_state[ordered] = view.order

    def choose_cell() -> None:
        name = "" if st.session_state[cell] == _ALL else st.session_state[cell]
        order = "certain" if name else "wrong"
        state.change(job_id, selection=replace(state.view(job_id).selection, cell=name), order=order)

    def search() -> None:
        state.change(job_id, selection=replace(state.view(job_id).selection, text=st.session_state[text]))

    st.segmented_control(
        "Pictures",
        [_ALL, *CELLS],
        required=True,
        format_func=lambda name: f"{CELL_TITLES.get(name, 'All')} ({counts[name]:,})",
        label_visibility="collapsed",
        wrap=True,
        key=cell,
        on_change=choose_cell,
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input("Name contains", type="search", key=text, on_change=search, width=180)
        st.selectbox(
            "Order",
            list(_ORDERS),
            format_func=_ORDERS.__getitem__,
            key=ordered,
            on_change=lambda: state.change(job_id, order=st.session_state[ordered]),
            width=190,
        )
        st.toggle("Heatmaps", key=f"heatmaps_{job_id}", help="Runs the network on the pictures of this page.")
    _conditions(job_id, view.selection)
    chosen = measured.rows(view)
    _cards(job_id, measured, view, chosen)


def _conditions(job_id: str, selection: Selection) -> None:
    """What else narrows the images, each with a button that takes it back."""
    found: list[tuple[str, Selection]] = []
    if selection.truth:
        title = "AI-generated" if selection.truth == "fake" else "Real"
        found.append((title, replace(selection, truth="")))
    if selection.low is not None or selection.high is not None:
        low, high = selection.low or 0.0, 1.0 if selection.high is None else selection.high
        found.append((f"Probability {low:.4f} to {high:.4f}", replace(selection, low=None, high=None)))
    if selection.sure is not None:
        found.append((f"Certainty from {selection.sure:.4f}", replace(selection, sure=None)))
    if selection.column:
        title = f"{selection.column}: {selection.value}"
        found.append((words.plain(title), replace(selection, column="", value="")))
    if selection.finding:
        found.append((f"Named by {selection.finding}", replace(selection, finding="")))
    if not found:
        return
    with st.container(horizontal=True):
        for number, (title, without) in enumerate(found):
            st.button(
                title,
                icon=":material/close:",
                key=f"condition_{job_id}_{number}",
                on_click=state.change,
                args=(job_id,),
                kwargs={"selection": without},
                help="Take this condition back",
            )


def _cards(job_id: str, measured: Measured, view: View, chosen: Rows) -> None:
    if not len(chosen):
        st.info("No scored picture matches.", icon=":material/image_search:")
        return
    pages = -(-len(chosen) // PAGE)
    number = min(view.page, pages)
    place = f", page {number:,} of {pages:,}" if pages > 1 else ""
    st.caption(f"{words.count(len(chosen), 'picture')}{place}. The number is the probability of AI-generation.")
    threshold = measured.threshold(view)
    shown = chosen[(number - 1) * PAGE : number * PAGE]
    with st.grid("auto", min_column_width=132):
        slots = [(row, _card(job_id, measured, view, row, threshold)) for row in shown.tolist()]
    if pages > 1:
        key = f"page_{job_id}_{number}_{pages}"  # a new widget for every page: the view says which one is shown
        st.pagination(
            pages, default=number, key=key, on_change=lambda: state.change(job_id, page=st.session_state[key])
        )
    if st.session_state.get(f"heatmaps_{job_id}"):
        _heatmaps(job_id, measured, slots)


def _card(job_id: str, measured: Measured, view: View, row: int, threshold: float) -> st.delta_generator.DeltaGenerator:
    """One image with its score, truth and a way to its explanation; returns where its picture is."""
    name, score = str(measured.names[row]), float(measured.scored.p[row])
    fake, flagged = measured.scored.y[row] == 1, score >= threshold
    cell = {(0, 0): "TN", (0, 1): "FP", (1, 0): "FN", (1, 1): "TP"}[int(fake), int(flagged)]
    position = int(measured.positions[row])
    with st.container(border=True, gap="xsmall"):
        slot = st.empty()
        pictures.show(slot, job_id, position, measured.result.bulk, f"{CELL_TITLES[cell]}: {name}")
        mark = ":green[:material/check:]" if fake == flagged else ":red[:material/close:]"
        st.markdown(f"{mark} **{words.percent(score)}**  \n{CELL_TITLES[cell].removesuffix('s')}")
        st.caption(words.plain(name.rsplit("/", 1)[-1]), help=words.plain(name))
        st.page_link(
            "../pages/explain.py",
            label="Explain",
            icon=":material/visibility:",
            query_params=from_run.address(job_id, position, view.to_params()),
        )
    return slot


def _heatmaps(job_id: str, measured: Measured, slots: list[tuple[int, st.delta_generator.DeltaGenerator]]) -> None:
    """Replace the pictures of a page by evidence maps."""
    shown = [(int(measured.positions[row]), str(measured.names[row]), slot) for row, slot in slots]
    if pictures.heatmaps(job_id, measured.result.bulk, shown):
        tier = "" if _clean(measured) else " Maps are of the pictures as they are, not as this run's tier brought them."
        st.caption(pictures.LEGEND + tier)


def _clean(measured: Measured) -> bool:
    return measured.figures["protocol"].get("tier", "clean") == "clean"
