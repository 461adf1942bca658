"""ROC, precision-recall and DET curves. A point that is clicked shows the pictures around its threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from dashboard import charts
from dashboard.measured import Measured, around
from dashboard.view import Selection, View
from dashboard.widgets import appearance
from dashboard.widgets.evaluation import state


def curves(job_id: str, measured: Measured, view: View, at: Mapping[str, Any]) -> None:
    """The three curves of both error rates."""
    if not measured.both:
        missing = "real" if not len(measured.scored.reals) else "AI-generated"
        st.info(f"Undefined: a curve needs both classes, and no {missing} picture was scored.", icon=":material/block:")
        return
    colours = appearance.colours()
    fpr, recall, precision = (at[name]["value"] for name in ("fpr", "recall", "precision"))
    select = near(measured)
    st.caption(":material/touch_app: The dot is the threshold. Click a curve to see the pictures around that point.")
    drawn = {
        "roc": ("ROC", charts.roc(measured.roc, (fpr, recall), colours)),
        "det": (
            "Detection error trade-off",
            charts.detection_error(measured.detection_error, (fpr, 1 - recall), colours),
        ),
        "pr": (
            "Precision and recall",
            charts.precision_recall(
                measured.precision_recall, (recall, precision), measured.scored.share_of_fakes or 0.0, colours
            ),
        ),
    }
    for name, (title, figure) in drawn.items():
        st.markdown(f"**{title}**")
        key = f"{name}_{job_id}"
        st.plotly_chart(
            figure,
            config=charts.CONFIG,
            key=key,
            on_select=state.on_click(job_id, key, select),
            selection_mode="points",
            alt=f"{title}; at the threshold {fpr:.1%} false alarms and {recall:.1%} found",
        )
        if name == "det":
            st.caption(
                "Both errors on normal-deviate axes: low rates stay apart, straight lines are normal scores. A rate of "
                "0 % or 100 % has no place on them: the curve ends before it, the dot stays at the edge."
            )


def near(measured: Measured) -> Callable[[Any], dict[str, object] | None]:
    """From a threshold on a curve to the images around it."""
    ascending = measured.ascending  # alone: a tab never lets go of what its charts call

    def select(threshold: Any) -> dict[str, object] | None:
        if not isinstance(threshold, int | float):
            return None
        low, high = around(ascending, float(threshold))
        return {"selection": Selection(low=low, high=high), "order": "wrong"}

    return select
