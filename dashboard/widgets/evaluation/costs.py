"""What mistakes cost at every threshold, and for every mixture of costs and prevalence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard import charts
from dashboard.measured import Measured
from dashboard.view import View
from dashboard.widgets import appearance
from dashboard.widgets.evaluation import state
from dashboard.widgets.evaluation.curves import near
from dashboard.widgets.evaluation.figures import card, figure_text


def costs(job_id: str, measured: Measured, view: View, at: Mapping[str, Any]) -> None:
    """Cost over the threshold, the cost curve, predictive values and likelihood ratios."""
    colours, stakes = appearance.colours(), measured.costs(view)
    lowest, here = at["cost"]["lowest"], at["cost"]["at_threshold"]
    with st.grid(3, min_column_width=130):
        card("Mean cost here", here, "Per picture, at the costs and the prevalence set above.", share=False)
        card(
            "Lowest mean cost",
            lowest,
            "At the threshold that is cheapest on this set; chosen on the pictures it is measured on, it promises too "
            "much.",
            share=False,
        )
        card(
            "Likelihood ratio",
            at["likelihood_ratio"]["flagged"],
            "How many times more often an AI-generated picture is flagged than a real one.",
            share=False,
        )
    if not measured.both:
        st.info(f"Undefined: {figure_text(here)[1]}.", icon=":material/block:")
        return
    st.markdown("**Cost over the threshold**")
    key = f"cost_{job_id}"
    st.plotly_chart(
        charts.cost_by_threshold(
            measured.cost_by_threshold(view),
            (at["threshold"], here["value"]),
            (lowest["threshold"], lowest["value"]),
            colours,
        ),
        config=charts.CONFIG,
        key=key,
        on_select=state.on_click(job_id, key, near(measured)),
        selection_mode="points",
        alt=f"Mean cost over the threshold; {here['value']:.4g} at the chosen one, {lowest['value']:.4g} at best",
    )
    st.caption("The dot is the threshold, the diamond the cheapest one.")
    st.markdown("**Cost curve**")
    misses, alarms = stakes.of_fnr, stakes.of_fpr
    st.plotly_chart(
        charts.cost_curve(
            measured.cost_curve,
            (at["fpr"]["value"], 1 - at["recall"]["value"]),
            misses / (misses + alarms),
            colours,
        ),
        config=charts.CONFIG,
        key=f"cost_curve_{job_id}",
        alt="Expected cost for every mixture of costs and prevalence, at the best and at the chosen threshold",
    )
    st.caption(
        "To the right, misses weigh more. The dashed line is what was set above. Where a line lies above the dotted "
        "one, flagging everything or nothing would be cheaper than the detector."
    )
