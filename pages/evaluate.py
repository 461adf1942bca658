"""Measure the detector on pictures whose answer is known: labels first, then figures that one threshold moves."""

import streamlit as st

from dashboard import session
from dashboard.resources import job_queue, result_of
from dashboard.settings import get_settings
from dashboard.start import describe_labels, start_evaluation
from dashboard.store import EVALUATION
from dashboard.widgets import evaluation, labels, progress, run_list
from dashboard.widgets.many_input import many_input
from dashboard.widgets.notices import detector_or_stop
from dashboard.widgets.purpose import confirm_purpose

st.title("How good is it?")
st.caption("Measure the detector on your own pictures, where you know which are real and which are AI-generated.")
detector = detector_or_stop(session.detector)
queue = job_queue()
settings = get_settings()
job = run_list.opened(queue, EVALUATION)

if job is None:
    evaluation.forget_view()
if job is None and not session.person().may_run:
    st.info(
        "Your role lets you look at your runs and examine single pictures, and not begin runs.", icon=":material/lock:"
    )
    run_list.run_list(queue, EVALUATION)
    st.stop()

if job is None:
    entry, advice = st.columns([3, 2], gap="large")
    with entry:
        chosen = many_input(settings, key="evaluate", labelled=True)
    with advice, st.container(border=True):
        labels.layout_help()
    if chosen is not None:
        with entry:
            found = describe_labels(chosen, settings)
            if found is not None:
                labels.labels_read(found)
                ready, purpose = confirm_purpose(settings, key="evaluate")
                delivery = labels.tier_choice()
                if st.button("Run the evaluation", type="primary", icon=":material/play_arrow:", disabled=not ready):
                    started = start_evaluation(queue, detector, chosen, settings, delivery=delivery, purpose=purpose)
                    if started is not None:
                        session.remember_job(started)
                        st.rerun()
    run_list.run_list(queue, EVALUATION)
    st.stop()

if not queue.progress(job).finished:
    progress.watch(queue, job)
    st.stop()

progress.ended(queue, job, again="New evaluation")
run_list.continue_button(queue, job)
if result_of(job) is not None:
    evaluation.evaluation(job)
