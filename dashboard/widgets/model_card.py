"""A checkpoint as a card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import words
from dashboard.widgets.evaluation.figures import card, with_interval
from model.accuracy import APART, NOT_SETS, TEST_PICTURES, is_own, leave_one_out, unseen_fake, unseen_real
from model.checkpoint import CheckpointInfo


def model_card(info: CheckpointInfo, *, default: bool, active: bool, choose: Callable[[str | None], None]) -> None:
    """Identity, figures, thresholds, training data and licence of one checkpoint."""
    header = info.header
    with st.container(border=True):
        st.subheader(words.plain(info.name), anchor=False)
        with st.container(horizontal=True, vertical_alignment="center"):
            if default:
                st.badge("Default", icon=":material/star:", color="gray")
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
    """Measured figures as a table, one row per set of pictures: those that we know from mild to harsh, then others.

    Parameters
    ----------
    metrics : mapping
        The header's: name of a set -> figures as in `metrics.json`; what is known of unseen sources is left out here.
    """
    rows = []
    known = [name for name in _SETS if name in metrics]
    for name in (*known, *(name for name in metrics if name not in _SETS)):
        figures = metrics[name]
        if name in NOT_SETS or not isinstance(figures, Mapping):
            continue
        row: dict[str, object] = {"Measured on": _SETS.get(name, name.replace("_", " ").capitalize())}
        if "n_real" in figures and "n_fake" in figures:
            row["Pictures"] = figures["n_real"] + figures["n_fake"]
        row |= {title: _said(_entry(figures, key), title) for key, title in _FIGURES.items()}
        rows.append(row)
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def folds_of(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Leave-one-out figures, one row per fold, worst first: what the recipe does on what it never saw."""
    folds = [(name, fold) for name, fold in (metrics.get(LEAVE_ONE_OUT) or {}).items() if isinstance(fold, Mapping)]
    rows = [
        {
            "Never seen in training": name.replace("_", " "),
            **{title: _said(_entry(fold, key), title) for key, title in _FOLDS.items()},
            "Real": fold.get("n_real"),
            "AI-generated": fold.get("n_fake"),
        }
        for name, fold in sorted(folds, key=lambda entry: _rank(_entry(entry[1], "roc_auc")))
    ]
    return pd.DataFrame(rows)


def unseen_of(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Error rates on sources that were left out of training, one row per kind of error and delivery."""
    rows = [
        {
            "Never seen in training": f"{kind}, of {words.count(found['sources'], 'source')}",
            "Delivery": tier,
            "Mean of sources": with_interval(found["mean"]),
            "Worst source": with_interval(found["worst"]),
            "Which": str(found["worst"].get("of", "")).replace("_", " "),
        }
        for kind, tiers in (
            ("Photographs flagged as AI-generated", unseen_real(metrics)),
            ("AI-generated called real", unseen_fake(metrics)),
        )
        for tier, found in (tiers or {}).items()
    ]
    return pd.DataFrame(rows)


LEAVE_ONE_OUT = "leave_one_out"
_SETS = {
    "test": "Other pictures of the training sources",
    "test_web": "The same, as the web delivers them",
    "test_hard": "The same, badly degraded",
}
_FIGURES = {
    "roc_auc": "ROC AUC",
    "tpr_at_fpr/0.01": "Found at 1 % false alarms",
    "recall": "AI found",
    "specificity": "Real not flagged",
    "accuracy": "Accuracy",
    "ece": "Calibration error",
}
_FOLDS = {"roc_auc": "ROC AUC", "tpr_at_1_percent_fpr": "Found at 1 % false alarms"}


def _entry(figures: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    """A figure with its interval; older headers have a bare number."""
    entry: Any = figures
    for part in key.split("/"):
        entry = entry.get(part) if isinstance(entry, Mapping) else None
    return {"value": entry} if isinstance(entry, int | float) else entry


def _said(entry: Mapping[str, Any] | None, title: str) -> str | None:
    return None if entry is None else with_interval(entry, share=title != "ROC AUC")


def _rank(entry: Mapping[str, Any] | None) -> float:
    """The value to order by; what is not defined comes last."""
    value = None if entry is None else entry.get("value")
    return float("inf") if value is None else float(value)


def _figures(metrics: Mapping[str, Any]) -> None:
    sets, folds, unseen = rows_of(metrics), folds_of(metrics), unseen_of(metrics)
    if sets.empty and folds.empty and unseen.empty:
        st.caption("No measured figures are stored in this checkpoint.")
        return
    over = leave_one_out(metrics)
    if over is not None:
        st.markdown("**On generators and photographs it never saw**")
        with st.grid(4, min_column_width=140):
            for key, title in _FOLDS.items():
                card(f"{title}, mean", over[key]["mean"], "Each row below counts the same.", share=title != "ROC AUC")
                card(f"{title}, worst", over[key]["worst"], "The lowest row below.", share=title != "ROC AUC")
        _table(folds, "Leave-one-out figures with 95 % intervals, worst first")
        st.caption(
            "This is what to expect in the wild: each row was left out of training, then tested. The intervals are for "
            "other pictures of these generators; other generators can lie outside them."
            + ("" if over["together"] else f" {APART}")
        )
    else:
        st.caption(
            ":material/info: Not measured on generators and photographs it never saw. Expect less there than the "
            "figures below, and do not compare these with figures on unseen ones."
        )
    if not unseen.empty:
        st.markdown("**At its own thresholds, on sources left out of training**")
        _table(unseen, "Error rates on unseen sources with 95 % intervals")
        st.caption(
            "The threshold was set on these very photographs: their rates check it and do not test it. Expect more "
            "false alarms on others."
        )
    if not sets.empty:
        st.markdown("**On sources it knows**")
        _table(sets, "Measured figures with 95 % intervals per set of pictures")
        own = f" {TEST_PICTURES}" if is_own(_entry(metrics, "test/groups") or ()) else ""
        st.caption(f"In brackets the 95 % interval: {words.SAME_SOURCE}{own}")


def _table(frame: pd.DataFrame, alt: str) -> None:
    config = {name: st.column_config.NumberColumn(format="localized") for name in frame.select_dtypes("number").columns}
    st.dataframe(frame, hide_index=True, height="content", placeholder=words.NOTHING, column_config=config, alt=alt)


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
    if not training:
        st.caption("Not recorded.")
        return
    with st.container(horizontal=True):
        for key, title in (("train", "For fitting"), ("val", "For thresholds")):
            if isinstance(training.get(key), int):
                st.metric(title, f"{training[key]:,}", width="content")
    counts = pd.DataFrame(training.get("counts") or [])
    if not counts.empty:
        with st.popover(f"{len(counts)} sources and generators", icon=":material/dataset:"):
            st.dataframe(
                counts.rename(columns=lambda name: str(name).capitalize()),
                hide_index=True,
                alt="Training pictures per label, source and generator",
            )
    if training.get("digest"):
        st.caption(f"Digest of the content `{str(training['digest'])[:16]}`")


def _details(info: CheckpointInfo) -> None:
    framing = info.framing
    header = info.header
    facts = {
        "Architecture": f"{words.plain(str(header['architecture']))}, {framing.side} × {framing.side} px",
        "Licence": words.plain(str(header["licence"])),
        "Created": words.plain(str(header["created"])),
        "Calibration": f"temperature {header['temperature']:.3f}, bias {words.signed(header['calibration_bias'], 3)}",
        "File": f"{words.plain(info.path.name)}, {words.size(info.path.stat().st_size)}",
        "SHA-256": f"`{info.sha256}`",
    }
    with st.expander("Details and full card", icon=":material/description:"):
        st.table(facts, border="horizontal", alt="Details of the checkpoint")
        if info.card.is_file():
            st.markdown(info.card.read_text(encoding="utf-8"))
        else:
            st.caption("No model card lies beside this checkpoint.")
