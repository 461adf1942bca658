"""For administrators: the state of the server, and the runs of all people."""

import streamlit as st

from dashboard import session
from dashboard.resources import job_queue
from dashboard.settings import get_settings
from dashboard.widgets import administration

st.title("Administration")
if not session.person().administers:
    st.error("This page is for administrators.", icon=":material/lock:")
    st.stop()
queue = job_queue()
administration.server_state(queue, get_settings())
administration.all_runs(queue)
