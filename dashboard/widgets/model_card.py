"""A checkpoint as a card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import words
from model.checkpoint import CheckpointInfo


def model_card(
    info: CheckpointInfo, *, default: bool, active: bool, choose: Callable[[str | None], None]
) -> None:
    """Identity, figures, thresholds, training data and licence of one checkpoint."""
    header = info.header
    with st.container(border=True):
        st.subheader(words.plain(info.name), anchor=False)
        with st.container(horizontal=True, vertical_alignment="center"):
            if default:
                st.badge("Default", icon=":material/star:", color="primary")
            if active:
                st.badge("In use in this tab", icon=":material/check:", color="green")
            else:
                st.button(
                    "Use in this tab",
                    key=f"use_{info.sha256}",
                    on_click=choose,
                    args=(None if default else info.name,),
                    help="Only this browser tab; other visitors keep theirs.",
                )
        st.caption(words.plain(str(header["origin"])))
        _figures(header["metrics"])
        left, right = st.columns(2, gap="large")
        with left:
            _thresholds(info)
        with right:
            _training(header["training"])
        _details(info)


def rows_of(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Measured figures as a table, one row per protocol: every number or {value, low, high} of the header."""
    rows = []
    for protocol, figures in metrics.items():
        if not isinstance(figures, Mapping):
            continue
        row: dict[str, object] = {"Measured on": _TITLES.get(protocol, protocol.replace("_", " ").capitalize())}
        for name, title in _FIGURES.items():
            value = _number(figures, name)
            if value is not None:
                row[title] = value
        if len(row) > 1:
            rows.append(row)
    return pd.DataFrame(rows)


_TITLES = {
    "test": "Other pictures of the training sources",
    "leave_one_out": "Generators and sources never seen",
    "val": "Validation (used for calibration)",
}
_FIGURES = {
    "roc_auc": "ROC AUC",
    "auc": "ROC AUC",
    "average_precision": "Average precision",
    "tpr_at_fpr_0.01": "Found at 1 % false alarms",
    "tpr_at_1": "Found at 1 % false alarms",
    "tpr_at_fpr_0.05": "Found at 5 % false alarms",
    "tpr_at_5": "Found at 5 % false alarms",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "recall": "Recall",
    "fpr": "False alarms",
    "ece": "Calibration error",
}


def _number(figures: Mapping[str, Any], name: str) -> float | None:
    entry = figures.get(name)
    if entry is None and name.startswith("tpr_at_fpr_"):
        nested = figures.get("tpr_at_fpr")
        entry = nested.get(name.removeprefix("tpr_at_fpr_")) if isinstance(nested, Mapping) else None
    if isinstance(entry, Mapping):
        entry = entry.get("value")
    return float(entry) if isinstance(entry, int | float) and not isinstance(entry, bool) else None


def _figures(metrics: Mapping[str, Any]) -> None:
    table = rows_of(metrics)
    if table.empty:
        st.caption("No measured figures are stored in this checkpoint.")
        return
    shares = {name: st.column_config.NumberColumn(format="percent") for name in table.columns[1:] if name != "ROC AUC"}
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        column_config=shares | {"ROC AUC": st.column_config.NumberColumn(format="%.3f")},
        alt="Measured figures per protocol",
    )
    st.caption("The row on generators never seen is the honest one: pictures in the wild come from new generators.")


def _thresholds(info: CheckpointInfo) -> None:
    limits = info.thresholds
    st.markdown("**Thresholds**")
    with st.container(horizontal=True):
        st.metric("AI-generated from", words.rate(limits.fake), width="content")
        st.metric("Real up to", words.rate(limits.real), width="content")
        if limits.fpr is not None:
            st.metric("False alarms", words.rate(limits.fpr), width="content", help="What the upper one was set for.")
    st.caption(words.threshold_note(limits))


def _training(training: Mapping[str, Any]) -> None:
    st.markdown("**Training data**")
    counts: dict[str, float] = {}
    facts: dict[str, str] = {}
    for name, value in training.items():
        if isinstance(value, Mapping):
            counts |= {str(key): float(count) for key, count in value.items() if isinstance(count, int | float)}
        elif isinstance(value, str | int | float):
            facts[name.replace("_", " ").capitalize()] = words.plain(str(value))
    if facts:
        st.table(facts, border="horizontal", alt="Facts about the training data")
    if counts:
        with st.popover(f"Pictures per source ({len(counts)})", icon=":material/dataset:"):
            frame = pd.DataFrame({"Source": list(counts), "Pictures": list(counts.values())})
            st.dataframe(
                frame.sort_values("Pictures", ascending=False),
                hide_index=True,
                column_config={"Pictures": st.column_config.NumberColumn(format="%d")},
                alt="Training pictures per source",
            )


def _details(info: CheckpointInfo) -> None:
    framing = info.framing
    header = info.header
    facts = {
        "Architecture": f"{words.plain(str(header['architecture']))}, {framing.side} × {framing.side} px",
        "Licence": words.plain(str(header["licence"])),
        "Created": words.plain(str(header["created"])),
        "Calibration": f"temperature {header['temperature']:.3f}, bias {header['calibration_bias']:+.3f}",
        "File": f"{words.plain(info.path.name)}, {words.size(info.path.stat().st_size)}",
        "SHA-256": f"`{info.sha256}`",
    }
    with st.expander("Details and full card", icon=":material/description:"):
        st.table(facts, border="horizontal", alt="Details of the checkpoint")
        if info.card.is_file():
            st.markdown(info.card.read_text(encoding="utf-8"))
        else:
            st.caption("No model card lies beside this checkpoint.")
