"""Whether the verdict holds for the same picture after eight deliveries."""

from __future__ import annotations

import streamlit as st

from dashboard import charts, words
from dashboard.examination import Examination
from dashboard.widgets import appearance
from model import quality
from model.deliveries import DELIVERIES
from model.redelivery import holds


def redelivery(found: Examination, *, key: str) -> None:
    """The strip of scores, on a button: each delivery is judged like a picture of its own."""
    if not found.has("redelivered"):
        st.markdown(
            f"The same picture saved, shrunk, cut and captured in {len(DELIVERIES)} usual ways, and judged each time."
        )
        if not st.button("Pass it on", icon=":material/forward_to_inbox:", key=f"{key}_start"):
            return
        bar = st.progress(0.0, "Preparing …")
        found.redelivered(lambda done, title: bar.progress(done / len(DELIVERIES), f"Judged after: {title}"))
        st.rerun()
    said, result = holds(found.redelivered()), found.result
    deliveries = [entry for entry in found.redelivered() if entry.made]
    icon = ":material/verified:" if all(entry.held for entry in deliveries) else ":material/warning:"
    st.markdown(f"{icon} **{said}**")
    rows = [("As it is", result.p_fake, result.verdict)]
    rows += [(entry.title, entry.p_fake, entry.verdict) for entry in deliveries]
    st.plotly_chart(
        charts.delivery_strip(rows, result.thresholds, appearance.colours()),
        config=charts.CONFIG,
        key=f"{key}_strip",
        alt=f"{said} Probabilities: "
        + ", ".join(f"{entry.title} {words.percent(entry.p_fake)}" for entry in deliveries if entry.p_fake is not None),
    )
    for entry in deliveries:
        if entry.p_fake is None:
            st.caption(f"{entry.title}: {quality.explain(entry.reason)}")
