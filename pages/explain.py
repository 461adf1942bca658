"""Why: the evidence map, the regional ledger that sums to the score, and the Grad-CAM family beside it."""

import streamlit as st

from dashboard import session, words
from dashboard.settings import sample_dir
from dashboard.widgets import cams, evidence, verdict
from dashboard.widgets.notices import detector_or_stop
from dashboard.widgets.picture_input import picture_input

st.title("Why this verdict?")
st.caption("What sets this face apart from the usual one, part by part, in log-odds. The parts add up to the score.")
detector = detector_or_stop(session.detector)

if session.picture() is None:
    st.markdown("Choose a picture to explain, or check one on the Classify page first.")
    picture_input(session.keep_picture, session.input_key, sample_dir())
    st.stop()

slot = st.container()
with slot.skeleton(height=320):
    found = session.examination()
assert found is not None
result = found.result
look = words.VERDICTS[result.verdict]

with slot.container(horizontal=True, vertical_alignment="center"):
    st.markdown(f":{look.colour}-badge[{look.icon} {look.title}]", width="content")
    if result.p_fake is not None:
        st.markdown(f"Probability AI **{words.percent(result.p_fake)}**", width="content")
    st.markdown(f":gray[{words.plain(found.picture.name)}]", width="content")
    st.button("Another picture", icon=":material/restart_alt:", on_click=session.drop_picture)

if result.deciding is None:
    st.warning(words.plain(words.summary(result)) if result.error else words.summary(result))
    st.caption("Without an examined face there is no score, and nothing to explain.")
    st.stop()

verdict.error_rates(result.verdict, result.thresholds, result.checkpoint_sha256)
index = verdict.face_picker(result, key="explain_face")
face, crop = result.faces[index], found.crops[index]
assert crop is not None

picture_side, ledger_side = st.columns([6, 5], gap="large")
with picture_side:
    st.subheader("Evidence map")
    evidence.evidence_panel(crop, face, key="explain", side_by_side=True)
    st.caption("A faint map is weak evidence. Blue speaks for a real photograph, orange for an AI-generated one.")
with ledger_side:
    st.subheader("Regional ledger")
    st.markdown(evidence.strongest(face))
    evidence.ledger_chart(face, key="explain_ledger")
    with st.container(border=True):
        st.markdown(evidence.ledger_sum(face))

tables = st.expander("The ledger in numbers", icon=":material/table_rows:")
with tables:
    evidence.ledger_table(face, key="explain_table")

comparison = st.expander(
    "Compare with Grad-CAM, HiResCAM and Grad-CAM++",
    icon=":material/compare:",
    on_change="rerun",
    key="explain_cams",
)
if comparison.open:
    with comparison:
        cams.comparison(detector, crop, face, key=f"{found.picture.sha256}-{index}")

st.caption(words.NOT_A_LIE_DETECTOR)
