"""What if a part of the face were not there? The score with each part filled in from its surroundings."""

from __future__ import annotations

import streamlit as st

from dashboard import charts, words
from dashboard.examination import Examination
from dashboard.widgets import appearance
from model.regions import LABELS
from model.what_if import without

SHOWN = 3  # of the filled-in faces


def what_if(found: Examination, index: int) -> None:
    """Moves of the score, on a button: each part costs one crop through the network."""
    if not found.has("without", index):
        st.markdown("Fill in each part of the face from its surroundings, and see how the score moves.")
        if not st.button("Take each part away", icon=":material/ink_eraser:", key=f"what_if_{index}"):
            return
        with st.spinner("Taking parts away …", show_time=True):
            found.without(index)
        st.rerun()
    face, crop, moves = found.result.faces[index], found.crops[index], found.without(index)
    assert crop is not None
    changed = [entry for entry in moves if entry.verdict != face.verdict]
    if changed:
        outcomes = (f"**{LABELS[entry.region].lower()}** ({words.VERDICTS[entry.verdict].title})" for entry in changed)
        st.markdown(f"The verdict would be another one without: {', '.join(outcomes)}.")
    else:
        st.markdown("The verdict stays the same, whichever one part is filled in.")
    chart, faces = st.columns([5, 6], gap="large")
    with chart:
        st.plotly_chart(
            charts.move_bars([(LABELS[entry.region], entry.move) for entry in moves], appearance.colours()),
            config=charts.CONFIG,
            key=f"what_if_chart_{index}",
            alt="How the score moves without each part: "
            + ", ".join(f"{LABELS[entry.region]} {words.signed(entry.move)}" for entry in moves),
        )
    with faces, st.grid(SHOWN, min_column_width=130):
        for entry in sorted(moves, key=lambda entry: -abs(entry.move))[:SHOWN]:
            st.image(
                without(crop, found.regions(index)[entry.region]),
                caption=f"Without {LABELS[entry.region].lower()}: {words.signed(entry.move)}, "
                f"{words.percent(entry.p_fake)} AI",
                width="stretch",
                alt=f"The face with {LABELS[entry.region].lower()} filled in",
            )
    st.caption(f":material/info: {words.INFILL_CAVEAT}")
