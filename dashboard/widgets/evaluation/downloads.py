"""What leaves the page: the same figures as the command writes, and those at the visitor's own threshold."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import tasks
from dashboard.measured import Measured
from dashboard.tasks import EvaluationResult


def downloads(measured: Measured) -> None:
    """Report, figures and predictions as the command writes them; made when they are asked for."""
    result = measured.result
    st.subheader("Take it with you")
    with st.container(horizontal=True):
        _button("Report", lambda: tasks.report_bytes(result), "report.html", "text/html", ":material/description:")
        _button("metrics.json", lambda: _json(result), "metrics.json", "application/json")
        _button("Predictions as CSV", lambda: tasks.csv_bytes(result.predictions), "predictions.csv", "text/csv")
        _button(
            "Predictions as Parquet",
            lambda: tasks.parquet_bytes(result.predictions),
            "predictions.parquet",
            "application/vnd.apache.parquet",
        )
    st.caption(
        f"The same files that `reality-check evaluate` writes, at the run's own threshold "
        f"{measured.figures['threshold']:.6g}. The report is one file that asks nothing of the network and prints well."
    )


def _json(result: EvaluationResult) -> bytes:
    from dashboard.evaluation import json_text  # scikit-learn: slow to import

    return json_text(result.metrics).encode()


def _button(label: str, make: Any, name: str, kind: str, icon: str = ":material/download:") -> None:
    st.download_button(label, data=make, file_name=name, mime=kind, icon=icon, on_click="ignore")
