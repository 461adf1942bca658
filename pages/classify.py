"""Check one picture: the verdict first, then the picture, the evidence and the facts."""

import streamlit as st

from dashboard import session, words
from dashboard.settings import sample_dir
from dashboard.tasks import json_bytes
from dashboard.widgets import evidence, quality, verdict
from dashboard.widgets.notices import detector_or_stop
from dashboard.widgets.picture_input import guidelines, picture_input

st.title("Is this face real?")
st.caption("Check one picture for an AI-generated face. It stays in this browser session and is not stored.")
detector_or_stop(session.detector)

picture = session.picture()
if picture is None:
    entry, advice = st.columns([3, 2], gap="large")
    with entry:
        picture_input(session.keep_picture, session.input_key, sample_dir())
    with advice, st.container(border=True):
        st.markdown("**Which pictures suit**")
        guidelines()
    st.caption(words.HONEST_USE)
    st.stop()

with st.container(horizontal=True, vertical_alignment="center"):
    st.markdown(f"**{words.plain(picture.name)}**", width="content")
    st.button(
        "Check another picture",
        icon=":material/restart_alt:",
        on_click=session.drop_picture,
        help="Removes this picture from the session.",
    )

# The verdict comes first, also where columns are stacked on a phone.
card, shown = st.columns([5, 6], gap="large")

with card.skeleton(height=320):
    found = session.examination()
assert found is not None
result = found.result

with shown:
    if found.preview is not None:
        st.image(
            found.preview,
            width="stretch" if found.preview.width >= 500 else "content",
            caption="Boxes are coloured by verdict." if result.faces else None,
            alt=f"The picture with {len(result.faces)} face boxes: {words.VERDICTS[result.verdict].title}",
        )
        if len(result.faces) > 1:
            st.markdown(f"**{len(result.faces)} faces, each judged**")
            verdict.face_list(result, found.crops)
    else:
        st.error("This file cannot be shown as a picture.", icon=":material/broken_image:")
with card:
    verdict.verdict_card(result)
    with st.container(horizontal=True):
        if result.deciding is not None and st.button("Explain this", type="primary", icon=":material/visibility:"):
            st.switch_page("../pages/explain.py")
        st.download_button(
            "Result as JSON",
            data=lambda: json_bytes(result.to_dict()),
            file_name="result.json",
            mime="application/json",
            icon=":material/download:",
            on_click="ignore",
        )

if result.deciding is not None:
    st.subheader("Where the evidence lies", anchor=False)
    index = verdict.face_picker(result, key="classify_face")
    face = result.faces[index]
    quality.margin_warning(found, index)
    heat, account = st.columns(2, gap="large")
    with heat:
        evidence.evidence_panel(found, index, key="classify")
    with account:
        st.markdown(evidence.strongest(face))
        evidence.ledger_chart(found, index, key="classify_ledger")
        st.caption(words.NOT_A_LIE_DETECTOR)
elif result.verdict == "not_applicable":
    with st.container(border=True):
        st.markdown("**What would suit**")
        guidelines()

verdict.file_facts(result)
st.caption(words.HONEST_USE)
