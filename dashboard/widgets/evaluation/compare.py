"""Two runs on the same images: other checkpoints, other deliveries, other days."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import pandas as pd
import streamlit as st

from dashboard import charts, from_run, resources, session, tasks, words
from dashboard.jobs import Job
from dashboard.measured import DRAWN, Measured
from dashboard.store import DONE, EVALUATION, Run, StoreError
from dashboard.view import View
from dashboard.widgets import appearance, pictures
from dashboard.widgets.evaluation import state
from dashboard.widgets.evaluation.figures import with_interval
from model import metrics
from model.dataset import LABELS

SHOWN = 500  # images in the list of disagreements
_DIFFERENCES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "recall": "AI-generated found",
    "fpr": "False alarms",
    "roc_auc": "ROC AUC",
    "average_precision": "Average precision",
    "tpr_at_fpr 0.01": "Found at 1 % false alarms",
    "eer": "Equal error rate",
    "ece": "Calibration error",
    "brier": "Brier score",
    "aurc": "AURC",
}
_KINDS = {
    "apart": "Flagged by one alone",
    "a": "Only this run right",
    "b": "Only the other right",
    "neither": "Both wrong",
}


@st.fragment
def compare(job: Job, measured: Measured) -> None:
    """Choose a second run; curves side by side, a paired test, and the images they disagree on."""
    st.subheader("Compare with another run")
    try:
        runs = resources.job_queue().store.runs(kind=EVALUATION, owner=session.owner())
    except StoreError as error:
        st.error(words.plain(str(error)), icon=":material/heart_broken:")
        return
    own = next((run for run in runs if run.id == job.id), None)
    done = [run for run in runs if run.state == DONE and not run.damage and run.id != job.id]
    if own is None or not done:
        st.caption(
            "Run the same set again with another checkpoint (Models page) or as another kind of delivery: both "
            "runs are then set side by side here."
        )
        return
    same = [run for run in done if run.digest and run.digest == own.digest]
    labels = measured.result.labelled.frame["label"].tolist()
    alike = [run for run in same if tasks.labels_of(run) == labels]
    relabelled = [run for run in same if run not in alike]
    names = _checkpoints([own, *done])
    if alike:
        _tiers([own, *alike], names)
    notes = {run.id: " · same pictures" for run in alike} | {run.id: " · other labels" for run in relabelled}
    done = [*alike, *relabelled, *(run for run in done if run not in same)]
    titles = {run.id: _title(run, names[run.id]) + notes.get(run.id, "") for run in done}
    view, key = state.view(job.id), f"other_{job.id}"
    st.session_state[key] = view.other if view.other in titles else None
    st.selectbox(
        "Second run",
        list(titles),
        index=None,
        format_func=titles.__getitem__,
        placeholder="Choose a run",
        key=key,
        on_change=lambda: state.change(job.id, other=st.session_state[key] or ""),
        width=560,
    )
    other = next((run for run in done if run.id == view.other), None)
    if other is not None:
        _side_by_side(job, measured, own, other, view, _names(own, other, names))
    state.publish(job.id)


def _checkpoints(runs: Sequence[Run]) -> dict[str, str]:
    """What the checkpoint of each run is called, by the run's id: by name, where that is one file's alone."""
    files: dict[str, set[str]] = {}
    for run in runs:
        files.setdefault(run.checkpoint, set()).add(run.checkpoint_sha256)
    return {
        run.id: run.checkpoint
        if len(files[run.checkpoint]) == 1
        else f"{run.checkpoint} ({run.checkpoint_sha256[: words.DIGEST]} …)"
        for run in runs
    }


def _title(run: Run, checkpoint: str) -> str:
    begun = words.moment(run.created, st.context.timezone)
    tier = run.settings.get("tier", "clean")
    return f"{run.name} · {checkpoint} · tier {tier} · {begun}"


def _tiers(runs: Sequence[Run], checkpoints: Mapping[str, str]) -> None:
    """Runs on the same pictures and labels, with their own figures: what a delivery or another checkpoint changes."""
    rows = []
    for run in runs:
        try:
            figures = json.loads(run.metrics.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        rows.append(
            {
                "Run": run.name,
                "Checkpoint": checkpoints[run.id],
                "Tier": run.settings.get("tier", "clean"),
                "Threshold": figures["threshold"],
                **{
                    title: with_interval(figures[name])
                    for name, title in (("recall", "Found"), ("fpr", "False alarms"))
                },
                "ROC AUC": with_interval(figures["roc_auc"], share=False),
                "EER": with_interval(figures["eer"]),
            }
        )
    st.markdown("**Runs on exactly these pictures, with the same labels**")
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={"Threshold": st.column_config.NumberColumn(format="%.4f")},
        alt="Runs on the same pictures and labels with their checkpoint, delivery and error rates",
    )


def _side_by_side(job: Job, measured: Measured, own: Run, other: Run, view: View, names: tuple[str, str]) -> None:
    try:
        second = Job.of(other)
        theirs = resources.measured_of(second)
        shared = st.segmented_control(
            "Thresholds",
            ["own", "shared"],
            default="own",
            required=True,
            format_func={"own": "Each run's own", "shared": "The one chosen above for both"}.__getitem__,
            key=f"compare_threshold_{job.id}",
        )
        own_cut, their_cut = (float(run.figures["threshold"]) for run in (measured, theirs))
        if shared == "shared":
            own_cut = their_cut = measured.threshold(view)
        found = resources.comparison_of(job, second, own_cut, their_cut)
    except (StoreError, metrics.MetricsError) as error:
        st.error(words.plain(str(error)), icon=":material/error:")
        return
    figures = found.figures
    if not figures["n"]:
        st.warning("No picture was scored in both runs.", icon=":material/link_off:")
        return
    st.markdown(
        f"**{words.count(figures['n'], 'picture')}** scored in both, matched by "
        f"{'content' if figures['matched_by'] == 'sha256' else 'name'}. A is **{words.plain(names[0])}** at "
        f"{own_cut:.4f}, B is **{words.plain(names[1])}** at {their_cut:.4f}."
    )
    _left_out(figures["left_out"])
    _verdict(figures)
    if found.images["label"].nunique() == len(LABELS):
        _curves(job.id, found.images)
    with st.expander("Every difference, A less B", icon=":material/table_rows:"):
        rows = [
            {"Figure": title, **_difference(figures["differences"][name])}
            for name, title in _DIFFERENCES.items()
            if name in figures["differences"]
        ]
        st.dataframe(
            pd.DataFrame(rows), hide_index=True, height="content", alt="Differences of all figures with 95 % intervals"
        )
        st.caption(words.plain(figures["protocol"]["differences"]) + ".")
    _disagreements(job, measured, found.images, view)


def _names(own: Run, other: Run, checkpoints: Mapping[str, str]) -> tuple[str, str]:
    """What to call two runs beside each other: by what sets them apart."""
    tiers = (own.settings.get("tier", "clean"), other.settings.get("tier", "clean"))
    if own.checkpoint_sha256 != other.checkpoint_sha256:
        return checkpoints[own.id], checkpoints[other.id]
    if tiers[0] != tiers[1]:
        return f"tier {tiers[0]}", f"tier {tiers[1]}"
    return own.name, other.name


def _left_out(left_out: Mapping[str, Any]) -> None:
    titles = {
        "only_in_a": "only in A",
        "only_in_b": "only in B",
        "labels_differ": "with different labels",
        "unscored": "without a score",
    }
    found = [f"{left_out[name]['count']:,} {title}" for name, title in titles.items() if left_out[name]["count"]]
    if found:
        st.caption("Not compared: " + ", ".join(found) + ".")


def _verdict(figures: Mapping[str, Any]) -> None:
    """Who is right where, and which run errs less often."""
    with st.grid(4, min_column_width=130):
        for name, title in (
            ("both_right", "Both right"),
            ("only_a", "Only A right"),
            ("only_b", "Only B right"),
            ("neither", "Both wrong"),
        ):
            st.metric(title, f"{figures['agreement'][name]:,}", border=True)
    outcome, why = words.errs_less(figures)
    st.markdown((f"**{outcome}** " if outcome else "") + words.plain(why))


def _difference(entry: Mapping[str, Any]) -> dict[str, str]:
    if entry["value"] is None:
        return {"A less B": "undefined", "95 % interval": words.reason(entry)}
    value = words.signed(entry["value"], 4)
    if entry["low"] is None:
        return {"A less B": value, "95 % interval": words.reason(entry, "no interval")}
    return {"A less B": value, "95 % interval": f"{words.signed(entry['low'], 4)} to {words.signed(entry['high'], 4)}"}


def _curves(job_id: str, images: pd.DataFrame) -> None:
    """Curves of both runs, of the images that both scored."""
    colours = appearance.colours()
    labels, both = images["label"], (images["p_a"], images["p_b"])
    a, b = (metrics.thin_along(metrics.roc_frame(labels, p), "fpr", "tpr", DRAWN) for p in both)
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**ROC**")
        titles = ("False alarms", "AI-generated found")
        st.plotly_chart(
            charts.two_curves(a, b, "fpr", "tpr", titles, colours, ("A", "B")),
            config=charts.CONFIG,
            key=f"compare_roc_{job_id}",
            alt="ROC curves of both runs",
        )
    with right:
        st.markdown("**Precision and recall**")
        titles = ("AI-generated found", "Precision")
        a, b = (metrics.thin_along(metrics.pr_frame(labels, p), "recall", "precision", DRAWN) for p in both)
        st.plotly_chart(
            charts.two_curves(a, b, "recall", "precision", titles, colours, ("A", "B")),
            config=charts.CONFIG,
            key=f"compare_pr_{job_id}",
            alt="Precision-recall curves of both runs",
        )


def _disagreements(job: Job, measured: Measured, images: pd.DataFrame, view: View) -> None:
    st.markdown("**Where they differ**")
    masks = {"apart": images["disagree"]} | {name: images["right"] == name for name in ("a", "b", "neither")}
    titles = {name: f"{title} ({int(masks[name].sum()):,})" for name, title in _KINDS.items()}
    kind = st.segmented_control(
        "Pictures",
        list(titles),
        default="apart",
        required=True,
        format_func=titles.__getitem__,
        label_visibility="collapsed",
        key=f"compare_kind_{job.id}_{view.other}",
    )
    shown = images[masks[kind or "apart"]].head(SHOWN).reset_index(drop=True)
    if shown.empty:
        st.caption("None.")
        return
    of_these = crc32("\n".join(shown["path"]).encode(errors="backslashreplace"))
    table, detail = st.columns([7, 3], gap="medium")
    with table:
        picked = st.dataframe(
            pd.DataFrame(
                {
                    "Picture": shown["path"],
                    "Truth": [{"real": "Real", "fake": "AI-generated"}[LABELS[label]] for label in shown["label"]],
                    "A": shown["p_a"].clip(*words.UNCERTAIN),
                    "B": shown["p_b"].clip(*words.UNCERTAIN),
                    "Right": shown["right"].map({"a": "A", "b": "B", "both": "both", "neither": "neither"}),
                }
            ),
            hide_index=True,
            height=min(420, 36 * len(shown) + 40),
            key=f"compare_table_{job.id}_{view.other}_{of_these:x}",
            on_select="rerun",
            selection_mode="single-row-required",
            selection_default={"selection": {"rows": [0]}},
            column_config={
                name: st.column_config.ProgressColumn(
                    f"Probability AI, {name}", format="percent", min_value=0.0, max_value=1.0
                )
                for name in ("A", "B")
            },
            alt="Pictures with the probabilities of both runs",
        )
    rows = picked["selection"]["rows"]
    name = str(shown["path"].iloc[rows[0] if rows and rows[0] < len(shown) else 0])
    place = {source.name: position for position, source in enumerate(measured.result.bulk.sources)}.get(name)
    with detail, st.container(border=True):
        if place is not None:
            pictures.show(st.empty(), job.id, place, measured.result.bulk, f"The picture {name}")
        st.caption(words.plain(name))
        if place is not None:
            st.page_link(
                "../pages/explain.py",
                label="Explain",
                icon=":material/visibility:",
                query_params=from_run.address(job.id, place, view.to_params()),
            )
