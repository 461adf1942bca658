"""What a verdict is and is not, in short, and what the server keeps of a visitor."""

import streamlit as st

from dashboard import session
from dashboard.resources import job_queue
from dashboard.settings import get_settings
from dashboard.widgets import my_data, responsible_use
from dashboard.widgets.notices import detector_or_stop

st.title("About")
responsible_use.responsible_use(detector_or_stop(session.detector))
st.subheader("Your data")
my_data.my_data(job_queue(), get_settings())
