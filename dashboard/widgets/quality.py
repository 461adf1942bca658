"""Is the explanation any good? Where the evidence lies, and on request how faithful and how stable the map is."""

from __future__ import annotations

import streamlit as st

from dashboard import words
from dashboard.examination import Examination, margin_alarm
from model.faithfulness import Faithfulness, whereabouts


def margin_warning(found: Examination, index: int) -> None:
    """An alarm if the background decided on an examined face, or several parts each could; else nothing."""
    alarm = margin_alarm(found.detector, found.result.faces[index])
    if alarm is not None:
        st.warning(alarm, icon=":material/warning:")


def where_strip(found: Examination, index: int) -> None:
    """Shares of the evidence on face, boundary and background of an examined face."""
    where = whereabouts(found.result.faces[index])
    with st.grid(3, min_column_width=110):
        help_text = "Part of all evidence in the ledger, whatever its direction; the usual face is left out."
        st.metric("On the face", words.percent(where.face, 0), help=help_text)
        st.metric("Hair and neck", words.percent(where.boundary, 0))
        st.metric("Background", words.percent(where.background, 0))
    if where.alarm:
        st.caption(f"The background carries more of the evidence than the face. {words.BACKGROUND_CAVEAT}")


def map_test(found: Examination, index: int) -> None:
    """The test of the map of an examined face, on a button: it takes some 30 crops through the network."""
    if not found.has("faithfulness", index):
        st.markdown(
            "Does the map point at what moves the score, and does it stay when the picture is mirrored or saved?"
        )
        if not st.button("Test the map", icon=":material/fact_check:", key=f"test_map_{index}"):
            return
        with st.spinner("Taking parts of the face away, by this map and by others …", show_time=True):
            found.faithfulness(index)
        st.rerun()
    _outcome(found.faithfulness(index))


def _outcome(found: Faithfulness) -> None:
    with st.grid(4, min_column_width=120):
        st.metric(
            "Removal, this map",
            words.signed(found.road),
            help="ROAD, in log-odds: half of how much more the score falls when the most relevant pixels are filled "
            "in than when the least relevant ones are. About zero for a map that knows nothing.",
        )
        st.metric("Random maps", words.signed(found.road_random), help="The same by maps that know nothing.")
        st.metric("Centre map", words.signed(found.centre.road), help="By a map that only knows where faces stand.")
        st.metric(
            "Agreement",
            f"{min(found.flip, found.reencoded):.2f}",
            help="The lower of two correlations: with the map of the mirrored picture, and of the one saved as JPEG.",
        )
    st.markdown(words.map_is_faithful(found))
    st.markdown(words.map_is_stable(found))
