"""The bundled checkpoints: measured figures, thresholds, training data, licence."""

import streamlit as st

from dashboard import resources, session
from dashboard.widgets import model_card
from dashboard.widgets.notices import detector_or_stop

st.title("Models")
st.caption("What judges the pictures. Every figure was measured and is stored in the checkpoint itself.")
active = detector_or_stop(session.detector)
default = detector_or_stop(resources.detector)

for info in resources.checkpoints():
    model_card.model_card(
        info,
        default=info.sha256 == default.checkpoint.sha256,
        active=info.sha256 == active.checkpoint.sha256,
        choose=session.choose_checkpoint,
    )
