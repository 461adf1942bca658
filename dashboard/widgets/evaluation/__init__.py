"""The outcome of an evaluation: the audit, one threshold that moves every figure, the images behind them, downloads."""

from __future__ import annotations

import streamlit as st

from dashboard import from_run, resources, words
from dashboard.jobs import Job
from dashboard.measured import Measured
from dashboard.store import StoreError
from dashboard.widgets.evaluation import (
    audit,
    calibration,
    compare,
    confusion,
    controls,
    costs,
    curves,
    downloads,
    groups,
    headline,
    images,
    relabel,
    state,
)
from dashboard.widgets.notices import skipped_files

_TABS = {
    "Errors": confusion.confusion,
    "Curves": curves.curves,
    "Calibration": calibration.calibration,
    "Costs": costs.costs,
    "Groups": groups.groups,
    "Regions": groups.regions,
}
forget_view = state.leave


def evaluation(job: Job) -> None:
    """Everything about a finished evaluation."""
    try:
        measured = resources.measured_of(job)
    except StoreError as error:
        st.error(words.plain(str(error)), icon=":material/heart_broken:")
        return
    result = measured.result
    from_run.forget()
    headline.provenance(result)
    audit.findings(job.id, result.metrics["audit"])
    if not len(measured.scored):
        st.warning("No picture could be scored, so there is nothing to measure.", icon=":material/hide_image:")
    else:
        headline.whatever_the_threshold(result.metrics)
        _workbench(job, measured)
    relabel.relabel(job, result)
    skipped_files(result.labelled.skipped)
    downloads.downloads(measured)


@st.fragment
def _workbench(job: Job, measured: Measured) -> None:
    """Everything that the threshold moves. A fragment: the rest of the page stays as it is."""
    job_id = job.id
    view = state.view(job_id)
    at = measured.at(view)
    st.subheader("At one threshold")
    controls.controls(job_id, measured, view, at)
    headline.at_threshold(measured, at)
    figures, pictures = st.columns([6, 5], gap="large")
    with figures:
        tabs = st.tabs(list(_TABS), key=f"tabs_{job_id}", on_change="rerun")
        for tab, show in zip(tabs, _TABS.values(), strict=True):
            if tab.open:  # charts that nobody sees are not drawn
                with tab:
                    show(job_id, measured, view, at)
    with pictures:
        images.images(job_id, measured, view)
    compare.compare(job, measured)  # inside: it may be at the threshold that is chosen here
    state.publish(job_id)
