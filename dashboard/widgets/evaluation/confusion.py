"""The confusion matrix and the scores behind it; both can be clicked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st

from dashboard import charts
from dashboard.measured import Measured
from dashboard.view import CELLS, Selection, View
from dashboard.widgets import appearance
from dashboard.widgets.evaluation import state


def confusion(job_id: str, measured: Measured, view: View, at: Mapping[str, Any]) -> None:
    """Confusion matrix and score histogram."""
    colours = appearance.colours()
    matrix = np.array(at["confusion_matrix"])
    key = f"confusion_{job_id}"
    st.plotly_chart(
        charts.confusion(matrix, colours, chosen=view.selection.cell),
        config=charts.CONFIG,
        key=key,
        on_select=state.on_click(job_id, key, of_cell),
        selection_mode="points",
        alt=f"True negatives {matrix[0, 0]}, false positives {matrix[0, 1]}, false negatives {matrix[1, 0]}, "
        f"true positives {matrix[1, 1]}",
    )
    st.caption(":material/touch_app: Click a cell, or a bar, to see exactly its pictures.")
    key = f"scores_{job_id}"
    st.plotly_chart(
        charts.score_histogram(measured.scored.p, measured.scored.y, at["threshold"], colours),
        config=charts.CONFIG,
        key=key,
        on_select=state.on_click(job_id, key, of_bar),
        selection_mode="points",
        alt="Histogram of probabilities for real and AI-generated pictures with the threshold",
    )
    st.caption("The dashed line is the threshold. Heights are square roots, so that few pictures can be seen.")


def of_cell(name: Any) -> dict[str, object] | None:
    """The images of a cell."""
    return {"selection": Selection(cell=name), "order": "certain"} if name in CELLS else None


def of_bar(data: Any) -> dict[str, object] | None:
    """The images of one class between two scores: `data` is (label, low, high, images)."""
    if not isinstance(data, list) or len(data) < 3:
        return None
    label, low, high = (float(value) for value in data[:3])
    if high < 1:
        high = float(np.nextafter(high, 0))  # the upper edge belongs to the next bar
    return {"selection": Selection(truth="fake" if label else "real", low=low, high=high), "order": "wrong"}
