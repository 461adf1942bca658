"""Check many pictures in the background: progress, then a table to sort, filter, look into and download."""

import streamlit as st

from dashboard import session, words
from dashboard.resources import job_queue
from dashboard.settings import get_settings
from dashboard.start import describe, start_bulk
from dashboard.store import BULK
from dashboard.widgets import progress, run_list, run_table
from dashboard.widgets.many_input import many_input
from dashboard.widgets.notices import detector_or_stop, skipped_files
from dashboard.widgets.purpose import confirm_purpose

st.title("Check many pictures")
st.caption("Pictures, a ZIP file or a server folder; the work goes on in the background.")
detector = detector_or_stop(session.detector)
queue = job_queue()
settings = get_settings()
job = run_list.opened(queue, BULK)

if job is None and not session.person().may_run:
    st.info(
        "Your role lets you look at your runs and examine single pictures, and not begin runs.", icon=":material/lock:"
    )
    run_list.run_list(queue, BULK)
    st.stop()

if job is None:
    entry, advice = st.columns([3, 2], gap="large")
    with entry:
        chosen = many_input(settings, key="bulk")
    with advice, st.container(border=True):
        st.markdown("**How it works**")
        st.markdown(
            "1. Hand in pictures, best as one ZIP file.\n"
            "2. Watch the progress, or close the tab and come back to the same address.\n"
            "3. Filter by verdict, look into single pictures, download the table."
        )
        days = f", for {settings.keep_days:g} days at most" if settings.keep_days else ""
        st.caption(f"A run is kept with the pictures you sent until you delete it{days}. Nothing leaves this server.")
    if chosen is not None:
        with entry:
            found = describe(chosen, settings)
            if found is not None and len(found):
                st.markdown(f"**{words.count(len(found), 'picture')}** ready to be checked.")
                skipped_files(found.skipped)
                ready, purpose = confirm_purpose(settings, key="bulk")
                if st.button("Start", type="primary", icon=":material/play_arrow:", disabled=not ready):
                    started = start_bulk(queue, detector, chosen, settings, purpose=purpose)
                    if started is not None:
                        session.remember_job(started)
                        st.rerun()
            elif found is not None:
                st.warning("No pictures were found there.", icon=":material/hide_image:")
                skipped_files(found.skipped)
    run_list.run_list(queue, BULK)
    st.caption(words.HONEST_USE)
    st.stop()

if not queue.progress(job).finished:
    progress.watch(queue, job, run_table.latest)
    st.stop()

progress.ended(queue, job, again="New run")
run_list.continue_button(queue, job)
run_table.run_table(job, queue.progress(job).elapsed)
st.caption(words.HONEST_USE)
