"""Whether stated probabilities are true, and what abstaining buys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard import charts, words
from dashboard.measured import Measured
from dashboard.view import Selection, View
from dashboard.widgets import appearance
from dashboard.widgets.evaluation import state
from dashboard.widgets.evaluation.figures import card


def calibration(job_id: str, measured: Measured, view: View, at: Mapping[str, Any]) -> None:
    """Reliability diagram and risk-coverage curve with their figures."""
    colours, figures = appearance.colours(), measured.figures
    with st.grid(3, min_column_width=130):
        card(
            "Calibration error",
            figures["ece"],
            f"ECE: mean gap between stated and observed, in bins of equal mass. {words.HALF_AND_HALF}",
        )
        card(
            "Brier score",
            figures["brier"],
            f"Mean squared error of the probability; always 0.5 gives 0.25. {words.HALF_AND_HALF}",
            share=False,
        )
        card(
            "AURC, shipped threshold",
            figures["aurc"],
            f"Area under risk over coverage of the pictures that were scored, at {figures['threshold']:.4f}: mean "
            "error rate as the most certain pictures are kept.",
            share=False,
        )
    if not measured.both:
        st.info(words.ONE_CLASS, icon=":material/info:")
    st.markdown("**Stated against observed**")
    key = f"reliability_{job_id}"
    st.plotly_chart(
        charts.reliability(measured.reliability, colours),
        config=charts.CONFIG,
        key=key,
        on_select=state.on_click(job_id, key, of_bin),
        selection_mode="points",
        alt="Observed share of AI-generated pictures over the stated probability, in bins of equal mass",
    )
    st.caption(
        "On the dotted line a stated 80 % is right in 80 % of the cases. Bars are 95 % intervals. "
        f"{words.HALF_AND_HALF}"
    )
    st.markdown("**Errors when only the certain pictures are decided**")
    key = f"risk_{job_id}"
    st.plotly_chart(
        charts.risk_coverage(measured.risk_coverage(view), colours),
        config=charts.CONFIG,
        key=key,
        on_select=state.on_click(job_id, key, of_certainty),
        selection_mode="points",
        alt="Error rate over the share of pictures decided, the most certain first",
    )
    st.caption("Deciding fewer, more certain pictures should lower the error rate. Click to see what would be decided.")


def of_bin(data: Any) -> dict[str, object] | None:
    """The images of a bin: `data` is (images, lowest score, highest score)."""
    if not isinstance(data, list) or len(data) != 3:
        return None
    return {"selection": Selection(low=float(data[1]), high=float(data[2])), "order": "wrong"}


def of_certainty(confidence: Any) -> dict[str, object] | None:
    """The images that are decided down to a confidence, wrong ones first."""
    if not isinstance(confidence, int | float):
        return None
    return {"selection": Selection(sure=float(confidence)), "order": "wrong"}
