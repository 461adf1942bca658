"""What the audit of the set found, above the figures that it may spoil."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import words
from dashboard.view import Selection, finding_key
from dashboard.widgets.evaluation import state

_SEVERITIES = {
    "severe": ("red", "Severe", "the figures do not mean what they say"),
    "warning": ("orange", "Warning", "figures may be off"),
    "info": ("gray", "Note", "keep in mind"),
}


def findings(job_id: str, found: list[dict[str, Any]]) -> None:
    """Each finding with its code, what it means and what to do; severe ones are open."""
    st.subheader("Can these figures be trusted?")
    if not found:
        st.success(
            "The audit found none of the faults it knows, such as an imbalance, a label given away by format, size or "
            "framing, or duplicates. Overlap with the training data can only be checked where the checkpoint says what "
            "it was trained on. That proves nothing about faults the audit does not know.",
            icon=":material/verified:",
        )
        return
    counts = {name: sum(str(entry["severity"]) == name for entry in found) for name in _SEVERITIES}
    st.markdown(
        "Read the figures below with these findings: "
        + ", ".join(f"**{count} {name}** ({_SEVERITIES[name][2]})" for name, count in counts.items() if count)
        + "."
    )
    for number, finding in enumerate(found):
        colour, title, _ = _SEVERITIES.get(str(finding["severity"]), _SEVERITIES["info"])
        label = f":{colour}-badge[{finding['code']} {title}] {words.plain(finding['title'])}"
        with st.expander(label, expanded=finding["severity"] == "severe"):
            st.markdown(words.plain(finding["detail"]))
            st.markdown(f"**What to do:** {words.plain(finding['advice'])}")
            if finding.get("images"):
                st.button(
                    f"Show {words.count(len(finding['images']), 'picture')} of it",
                    icon=":material/photo_library:",
                    key=f"finding_{job_id}_{number}",
                    on_click=state.change,
                    args=(job_id,),
                    kwargs={"selection": Selection(finding=finding_key(finding)), "order": "name"},
                    help="Among those that were scored; below, beside the charts.",
                )
