"""The outcome of an evaluation: one threshold that moves every figure, the curves, the errors, the audit, downloads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import charts, session, tasks, words
from dashboard.jobs import Job
from dashboard.tasks import EvaluationResult
from dashboard.widgets import appearance
from dashboard.widgets.notices import skipped_files
from model import metrics
from model.metrics import Rate
from model.sources import SourceError

GALLERY = 18  # pictures per page
_KINDS = {
    "FP": "False alarms",
    "FN": "Missed AI",
    "TP": "AI found",
    "TN": "Real passed",
}
_SEVERITIES = {"severe": "red", "warning": "orange", "info": "gray"}


def evaluation(job: Job) -> None:
    """Everything about a finished evaluation."""
    result: EvaluationResult = job.result
    images = _scored(result)
    _headline(result)
    if images.empty:
        st.warning("No picture could be scored, so there is nothing to measure.", icon=":material/hide_image:")
    else:
        _at_threshold(job.id, result, images)
    _findings(result.metrics["audit"])
    skipped_files(result.labelled.skipped)
    _downloads(job, result)


def _scored(result: EvaluationResult) -> pd.DataFrame:
    """One row per scored image: `name, label, group, p_fake, position`."""
    frame = metrics.image_level(result.predictions)
    order = {source.name: position for position, source in enumerate(result.bulk.sources)}
    out = pd.DataFrame(
        {
            "name": frame["path"].astype(str),
            "label": pd.to_numeric(frame["label"]).astype(int),
            "group": frame["group"].fillna("").astype(str) if "group" in frame else "",
            "p_fake": pd.to_numeric(frame["p_fake"]).astype("float64"),
        }
    )
    out["position"] = out["name"].map(order)
    return out[out["p_fake"].notna()].reset_index(drop=True)


def figure_text(entry: dict[str, Any] | Rate, *, share: bool = True) -> tuple[str, str]:
    """A figure and its interval as text; a dash and the reason where it is not defined."""
    data = entry.to_dict() if isinstance(entry, Rate) else entry
    if data.get("value") is None:
        return "–", str(data.get("reason") or "not defined")

    def show(value: float) -> str:
        return f"{value * 100:.1f} %" if share else f"{value:.3f}"

    if data.get("low") is None:
        return show(data["value"]), "no interval"
    return show(data["value"]), f"95 %: {show(data['low'])} – {show(data['high'])}"


def _metric(label: str, entry: dict[str, Any] | Rate, explanation: str, *, share: bool = True) -> None:
    value, interval = figure_text(entry, share=share)
    st.metric(
        label, value, interval, delta_color="off", delta_arrow="off", help=explanation, border=True, height="stretch"
    )


def _headline(result: EvaluationResult) -> None:
    figures = result.metrics
    st.markdown(
        f"**{words.count(figures['images'], 'picture')}**: {figures['n_real']:,} real and {figures['n_fake']:,} "
        f"AI-generated were scored; {figures['not_applicable']:,} not applicable, {figures['errors']:,} broken."
    )
    if figures["audit"]:
        codes = ", ".join(dict.fromkeys(finding["code"] for finding in figures["audit"]))
        st.caption(f":material/warning: Read these figures with the audit at the end of the page ({codes}).")
    st.subheader("Whatever the threshold")
    with st.grid(5, min_column_width=150):
        _metric(
            "ROC AUC",
            figures["roc_auc"],
            "Chance that a random AI-generated picture scores above a random real one.",
            share=False,
        )
        _metric("Average precision", figures["average_precision"], "Area under precision over recall.", share=False)
        low_fpr = figures["tpr_at_fpr"].get("0.01", {"value": None, "reason": "not computed"})
        _metric("Found at 1 % false alarms", low_fpr, "Recall at the threshold that flags 1 % of the real pictures.")
        _metric("Equal error rate", figures["eer"], "Where false alarms and misses are equally frequent.")
        _metric("Calibration error", figures["ece"], "Mean gap between stated probability and observed share (ECE).")


@st.fragment
def _at_threshold(job_id: str, result: EvaluationResult, images: pd.DataFrame) -> None:
    y, p = images["label"].to_numpy(), images["p_fake"].to_numpy()
    colours = appearance.colours()
    st.subheader("At one threshold")
    threshold = _threshold_control(job_id, float(result.metrics["threshold"]), y, p)
    matrix = metrics.confusion_at(y, p, threshold)
    rates = metrics.rates_at(y, p, threshold)
    with st.grid(5, min_column_width=150):
        _metric("AI-generated found", rates["recall"], "Recall: flagged among the AI-generated.")
        _metric("False alarms", rates["fpr"], "Flagged among the real photographs.")
        _metric("Precision", rates["precision"], "AI-generated among the flagged; depends on the mix of this set.")
        _metric("Accuracy", rates["accuracy"], "Right answers; depends on the mix of this set.")
        _metric("Specificity", rates["specificity"], "Real photographs that passed.")

    left, right = st.columns(2, gap="medium")
    with left.container(border=True, height="stretch"):
        st.markdown("**Confusion matrix**")
        st.plotly_chart(
            charts.confusion(matrix, colours),
            config=charts.CONFIG,
            key=f"confusion_{job_id}",
            on_select=_choose_cell,
            selection_mode="points",
            alt=f"True negatives {matrix[0, 0]}, false positives {matrix[0, 1]}, false negatives {matrix[1, 0]}, "
            f"true positives {matrix[1, 1]}",
        )
        st.caption("Click a cell to see its pictures below.")
    with right.container(border=True, height="stretch"):
        st.markdown("**Scores by truth**")
        st.plotly_chart(
            charts.score_histogram(p, y, threshold, colours),
            config=charts.CONFIG,
            key=f"scores_{job_id}",
            alt="Histogram of probabilities for real and AI-generated pictures with the threshold",
        )
        st.caption("The dashed line is the threshold.")
    if 0 < y.sum() < len(y):
        _curves(job_id, y, p, threshold, rates, colours)
    else:
        st.caption("Curves need both real and AI-generated pictures.")
    errors, groups, calibration = st.tabs(["Pictures", "Groups", "Calibration"], key="evaluation_tabs")
    with errors:
        _gallery(job_id, result, images, threshold)
    with groups:
        _groups(images, threshold)
    with calibration:
        _calibration(job_id, y, p, threshold, colours)


def _threshold_control(job_id: str, default: float, y: np.ndarray, p: np.ndarray) -> float:
    key = f"threshold_{job_id}"
    presets = {"Checkpoint": default}
    for target in (0.01, 0.05):
        value = metrics.threshold_at_fpr(y, p, target=target) if (y == 0).any() else None
        if value is not None and np.isfinite(value):
            presets[f"{words.rate(target)} false alarms here"] = min(1.0, float(value))

    def use() -> None:
        name = st.session_state[f"{key}_preset"]
        if name is not None:
            st.session_state[key] = round(presets[name], 4)
            st.session_state[f"{key}_preset"] = None

    st.session_state.setdefault(key, round(default, 4))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        value = st.slider(
            "Flag as AI-generated from this probability upward",
            0.0,
            1.0,
            step=0.0001,
            format="%.4f",
            key=key,
            help="Moves every figure below. Nothing is run again.",
        )
        st.pills("Set to", list(presets), key=f"{key}_preset", on_change=use)
    return float(value)


def _choose_cell() -> None:
    for key, value in st.session_state.items():
        if str(key).startswith("confusion_") and value and value["selection"]["points"]:
            cell = value["selection"]["points"][0].get("customdata")
            name = cell[0] if isinstance(cell, list) else cell
            if name in _KINDS:
                st.session_state["evaluation_cell"] = name


def _curves(
    job_id: str, y: np.ndarray, p: np.ndarray, threshold: float, rates: dict[str, Rate], colours: charts.Palette
) -> None:
    point = (rates["fpr"].value or 0.0, rates["recall"].value or 0.0)
    left, right = st.columns(2, gap="medium")
    with left.container(border=True, height="stretch"):
        st.markdown("**ROC curve**")
        st.plotly_chart(
            charts.roc(metrics.thin(metrics.roc_frame(y, p)), point, colours),
            config=charts.CONFIG,
            key=f"roc_{job_id}",
            alt=f"ROC curve; at the threshold {point[0]:.1%} false alarms and {point[1]:.1%} found",
        )
    with right.container(border=True, height="stretch"):
        st.markdown("**Precision and recall**")
        here = (point[1], rates["precision"].value if rates["precision"].value is not None else 1.0)
        st.plotly_chart(
            charts.precision_recall(metrics.thin(metrics.pr_frame(y, p)), here, float(y.mean()), colours),
            config=charts.CONFIG,
            key=f"pr_{job_id}",
            alt=f"Precision over recall; at the threshold recall {here[0]:.1%} and precision {here[1]:.1%}",
        )


def _calibration(job_id: str, y: np.ndarray, p: np.ndarray, threshold: float, colours: charts.Palette) -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Stated against observed**")
        st.plotly_chart(
            charts.reliability(metrics.reliability_frame(y, p), colours),
            config=charts.CONFIG,
            key=f"reliability_{job_id}",
            alt="Observed share of AI-generated pictures over the stated probability",
        )
        st.caption("On the dotted line a stated 80 % is right in 80 % of the cases. Bars are 95 % intervals.")
    with right:
        st.markdown("**Errors when only the certain pictures are decided**")
        st.plotly_chart(
            charts.risk_coverage(metrics.thin(metrics.risk_coverage_frame(y, p, threshold=threshold)), colours),
            config=charts.CONFIG,
            key=f"risk_{job_id}",
            alt="Error rate over the share of pictures decided",
        )
        st.caption("What abstaining buys: deciding fewer, more certain pictures should lower the error rate.")


def _groups(images: pd.DataFrame, threshold: float) -> None:
    if not images["group"].ne("").any():
        st.caption("No groups: the folder below the label (for example fake/stylegan2/) names one.")
        return
    rows = []
    for (label, group), part in images.groupby(["label", "group"]):
        flagged = part["p_fake"] >= threshold
        rate = metrics.wilson(int((flagged == bool(label)).sum()), len(part))
        rows.append(
            {
                "Group": group or "(no group)",
                "Truth": ["AI-generated" if label else "Real"],
                "Pictures": len(part),
                "Right": rate.value,
                "From": rate.low,
                "To": rate.high,
                "Median probability AI": part["p_fake"].median(),
            }
        )
    colours = appearance.colours()
    st.dataframe(
        pd.DataFrame(rows).sort_values("Right"),
        hide_index=True,
        column_config={
            "Truth": st.column_config.MultiselectColumn(
                options=["AI-generated", "Real"], color=[colours.fake, colours.real]
            ),
            "Right": st.column_config.ProgressColumn(format="percent", min_value=0.0, max_value=1.0),
            "From": st.column_config.NumberColumn(format="percent", help="Lower end of the 95 % interval (Wilson)."),
            "To": st.column_config.NumberColumn(format="percent", help="Upper end of the 95 % interval (Wilson)."),
            "Median probability AI": st.column_config.NumberColumn(format="percent"),
        },
        alt="Share of right answers per group, worst first",
    )


def _gallery(job_id: str, result: EvaluationResult, images: pd.DataFrame, threshold: float) -> None:
    flagged = images["p_fake"] >= threshold
    fake = images["label"] == 1
    cells = {"FP": flagged & ~fake, "FN": ~flagged & fake, "TP": flagged & fake, "TN": ~flagged & ~fake}
    st.session_state.setdefault("evaluation_cell", "FP" if cells["FP"].any() or not cells["FN"].any() else "FN")
    cell = st.segmented_control(
        "Pictures",
        list(_KINDS),
        required=True,
        format_func=lambda name: f"{_KINDS[name]} ({int(cells[name].sum()):,})",
        label_visibility="collapsed",
        key="evaluation_cell",
    )
    assert cell is not None  # required=True
    # The most wrong, or the most certain, first.
    chosen = images[cells[cell]].sort_values("p_fake", ascending=cell in ("FN", "TN"), kind="stable")
    if chosen.empty:
        st.caption("None at this threshold.")
        return
    pages = max(1, -(-len(chosen) // GALLERY))
    number = st.pagination(pages, key=f"gallery_{job_id}_{cell}") if pages > 1 else 1
    with st.grid("auto", min_column_width=140):
        for row in chosen.iloc[(number - 1) * GALLERY : number * GALLERY].itertuples():
            with st.container(border=True, gap="xsmall"):
                picture = _small(job_id, int(row.position), result)
                if picture is None:
                    st.caption("can no longer be read")
                else:
                    st.image(picture, width="stretch", alt=f"{_KINDS[cell]}: {row.name}")
                st.markdown(f"**{words.percent(row.p_fake)}** AI")
                st.caption(words.plain(row.name.rsplit("/", 1)[-1]))
                if st.button("Explain", key=f"explain_{job_id}_{row.position}", width="stretch"):
                    _explain(result, int(row.position))


@st.cache_data(max_entries=300, show_spinner=False, scope="session")
def _small(job_id: str, position: int, _result: EvaluationResult) -> str | None:
    try:
        return tasks.thumbnail(_result.bulk.sources[position].read(), 200)
    except (SourceError, OSError):
        return None


def _explain(result: EvaluationResult, position: int) -> None:
    try:
        session.keep_picture(*tasks.read_again(result.bulk, position))
    except (SourceError, OSError) as error:
        st.error(words.plain(f"The picture can no longer be read: {error}"))
        return
    st.switch_page("../pages/explain.py")


def _findings(findings: list[dict[str, Any]]) -> None:
    st.subheader("What could make these figures misleading")
    if not findings:
        st.caption("The audit found nothing in this set: no imbalance, no leak through format or size, no duplicates.")
        return
    for finding in findings:
        colour = _SEVERITIES.get(str(finding["severity"]).lower(), "gray")
        with st.container(border=True):
            st.markdown(f":{colour}-badge[{finding['code']}] **{words.plain(finding['title'])}**")
            st.markdown(words.plain(finding["detail"]))
            st.caption(words.plain(finding["advice"]))


def _downloads(job: Job, result: EvaluationResult) -> None:
    st.subheader("Take it with you")
    with st.container(horizontal=True):
        st.download_button(
            "Report",
            data=lambda: tasks.report_bytes(result),
            file_name="report.html",
            mime="text/html",
            icon=":material/description:",
            on_click="ignore",
            help="One self-contained HTML file that prints well.",
        )
        st.download_button(
            "metrics.json",
            data=lambda: tasks.json_bytes(result.metrics),
            file_name="metrics.json",
            mime="application/json",
            icon=":material/download:",
            on_click="ignore",
            help="Every figure with its interval, at the checkpoint's own threshold.",
        )
        st.download_button(
            "Predictions as CSV",
            data=lambda: tasks.csv_bytes(result.predictions),
            file_name="predictions.csv",
            mime="text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "Predictions as Parquet",
            data=lambda: tasks.parquet_bytes(result.predictions),
            file_name="predictions.parquet",
            mime="application/vnd.apache.parquet",
            icon=":material/download:",
            on_click="ignore",
        )
