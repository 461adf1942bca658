"""What was measured, and the figures that head the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard import words
from dashboard.measured import Measured
from dashboard.tasks import EvaluationResult
from dashboard.widgets.evaluation.figures import card, figure_text


def provenance(result: EvaluationResult) -> None:
    """How many images of which kind, judged by what, and the digest of the set."""
    figures = result.metrics
    left_out = [(figures["not_applicable"], "without a face to judge"), (figures["errors"], "unreadable")]
    more = "".join(f", {count:,} {what}" for count, what in left_out if count)
    st.markdown(
        f"**{words.count(figures['images'], 'picture')}**: {figures['n_real']:,} real and {figures['n_fake']:,} "
        f"AI-generated were scored{more}."
    )
    made = figures.get("detector", {})
    delivery = str(figures["protocol"].get("tier", "clean"))
    facts = [f"checkpoint {name}" for name in made.get("checkpoint", [])]
    facts += [f"SHA-256 {digest[:12]} …" for digest in made.get("checkpoint_sha256", [])]
    facts.append(f"pictures as tier {delivery}")
    if digest := figures["protocol"].get("data_digest"):
        facts.append(f"set {digest[:12]} …")
    st.caption(words.plain(" · ".join(facts)))


def whatever_the_threshold(figures: Mapping[str, Any]) -> None:
    """Figures that no threshold moves."""
    st.subheader("Whatever the threshold")
    if not (figures["n_real"] and figures["n_fake"]):
        there, missing = ("real", "AI-generated") if figures["n_real"] else ("AI-generated", "real")
        st.markdown(
            f":material/info: Only {there} pictures were scored. Curves need both classes; every figure that needs "
            f"{missing} pictures is undefined. {words.ONE_CLASS}"
        )
    nothing = {"value": None, "reason": "not computed"}
    with st.grid(6, min_column_width=150):
        card(
            "ROC AUC",
            figures["roc_auc"],
            "Chance that a random AI-generated picture scores above a random real one.",
            share=False,
        )
        for target in ("0.01", "0.005"):
            entry = figures["tpr_at_fpr"].get(target, nothing)
            limit = words.rate(float(target))
            note = f" {entry['note']}." if entry.get("note") else ""
            card(f"Found at {limit} FPR", entry, f"Recall where at most {limit} of the real are flagged.{note}")
        card("Equal error rate", figures["eer"], "Where false alarms and misses are equally frequent.")
        card("Average precision", figures["average_precision"], "Area under precision over recall.", share=False)
        card(
            "Calibration error",
            figures["ece"],
            f"Mean gap between stated probability and observed share (ECE). {words.HALF_AND_HALF}",
        )
    st.caption(f"Below each figure its 95 % interval: {words.SAME_SOURCE}")


def at_threshold(measured: Measured, at: Mapping[str, Any]) -> None:
    """The two error rates as a sentence, then what is made of them."""
    (tn, fp), (fn, tp) = at["confusion_matrix"]
    parts = []
    if tn + fp:
        parts.append(f"Of **{tn + fp:,}** real photographs **{fp:,}** were flagged: {_rate(at['fpr'])}.")
    if fn + tp:
        parts.append(f"Of **{fn + tp:,}** AI-generated pictures **{tp:,}** were found: {_rate(at['recall'])}.")
    st.markdown(" ".join(parts))
    prevalence = at["ppv"].get("prevalence")
    where = f" where {words.rate(prevalence)} are AI" if prevalence is not None else ""
    with st.grid(5, min_column_width=150):
        card("AI-generated found", at["recall"], "Recall: flagged among the AI-generated.")
        card("False alarms", at["fpr"], "False positive rate: flagged among the real photographs.")
        card(
            "Specificity",
            at["specificity"],
            "Real photographs that were not flagged, inconclusive ones included: 1 less the false alarms.",
        )
        card("Balanced accuracy", at["balanced_accuracy"], "Mean of recall and specificity; a coin gives 50 %.")
        card("Accuracy", at["accuracy"], "Right answers; depends on the mix of this set.")
        card("F1", at["f1"], "Harmonic mean of precision and recall; depends on the mix of this set.")
        card("Precision", at["precision"], "AI-generated among the flagged, in this set with its own mix.")
        card(
            "PPV in use",
            at["ppv"],
            f"Chance that a flagged picture is AI-generated{where}: Bayes' rule on both error rates.",
        )
        card(
            "NPV in use",
            at["npv"],
            f"Chance that a picture that was not flagged is real{where}.",
        )
        card(
            "Mean cost", at["cost"]["at_threshold"], "Per picture, at the costs and the prevalence above.", share=False
        )


def _rate(entry: Mapping[str, Any]) -> str:
    value, interval = figure_text(entry)
    return f"{value} (95 %: {interval})"
