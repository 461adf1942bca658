"""Why: the evidence map, the regional ledger that sums to the score, how good they are, and what a reviewer gets."""

import streamlit as st

from dashboard import from_run, session, words
from dashboard.settings import sample_dir
from dashboard.widgets import cams, evidence, handover, quality, redelivery, verdict, what_if
from dashboard.widgets.notices import detector_or_stop
from dashboard.widgets.picture_input import picture_input

st.title("Why this verdict?")
st.caption("What sets this face apart from the usual one, part by part, in log-odds. The parts add up to the score.")
detector_or_stop(session.detector)
from_run.picture_of_run()

if session.picture() is None:
    st.markdown("Choose a picture to explain, or check one on the Classify page first.")
    picture_input(session.keep_picture, session.input_key, sample_dir())
    st.stop()

slot = st.container()
with slot.skeleton(height=320):
    found = session.examination()
assert found is not None
result = found.result

with slot.container(horizontal=True, vertical_alignment="center"):
    st.markdown(f"**{words.plain(result.name)}**", width="content")
    st.button("Another picture", icon=":material/restart_alt:", on_click=session.drop_picture)

verdict.verdict_line(result)
if result.deciding is None:
    st.caption("Without an examined face there is no score, and nothing to explain.")
    handover.handover(found)
    st.stop()

index = verdict.face_picker(result, key="explain_face")
face = result.faces[index]
quality.margin_warning(found, index)

picture_side, ledger_side = st.columns([6, 5], gap="large")
with picture_side:
    st.subheader("Evidence map")
    evidence.evidence_panel(found, index, key="explain", side_by_side=True)
with ledger_side:
    st.subheader("Regional ledger")
    st.markdown(evidence.strongest(face))
    evidence.ledger_chart(found, index, key="explain_ledger")
    with st.container(border=True):
        st.markdown(evidence.ledger_sum(face))
    evidence.unusual(found, index)

with st.expander("The ledger in numbers", icon=":material/table_rows:"):
    evidence.ledger_table(found, index, key="explain_table")

st.subheader("Is this explanation any good?")
quality.where_strip(found, index)
quality.map_test(found, index)

st.subheader("Does the verdict hold when the picture is passed on?")
redelivery.redelivery(found, key="explain_delivery")

st.subheader("What if a part were not there?")
what_if.what_if(found, index)

comparison = st.expander(
    "Compare with Grad-CAM, HiResCAM and Grad-CAM++",
    icon=":material/compare:",
    on_change="rerun",
    key="explain_cams",
)
if comparison.open:
    with comparison:
        cams.comparison(found, index)

st.subheader("For the reviewer")
handover.handover(found)
st.caption(words.NOT_A_LIE_DETECTOR)
