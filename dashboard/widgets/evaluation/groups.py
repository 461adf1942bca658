"""Error rates and deciding regions by group: generator, source, or any column that the set brings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import charts, words
from dashboard.measured import MAX_GROUPS, Measured
from dashboard.view import Selection, View
from dashboard.widgets import appearance
from dashboard.widgets.evaluation import state
from dashboard.widgets.evaluation.figures import figure_text
from dashboard.widgets.region_summary import region_panel

SHOWN = 25  # bars; the table has all groups
_TRUTHS = {"real": "Real", "fake": "AI-generated", "both": "Both"}


def groups(job_id: str, measured: Measured, view: View, at: Mapping[str, Any]) -> None:
    """Bars, the worst first, with mean and extremes, and all rates as a table."""
    column = measured.column(view)
    if column is None:
        st.info(
            "No groups: the folder below the label (for example fake/stylegan2/) names one, and so does any column of "
            f"a manifest with at most {MAX_GROUPS} values.",
            icon=":material/category:",
        )
        return
    key = f"by_{job_id}"
    st.session_state[key] = column
    st.selectbox(
        "Compare by",
        measured.columns,
        key=key,
        on_change=lambda: state.change(job_id, by=st.session_state[key]),
        help="The folder below the label, or a column of the manifest. Nothing is guessed about who is in a picture.",
        width=260,
    )
    frame = measured.scored.group_frame(at["threshold"], column).sort_values("accuracy", kind="stable")
    over = measured.scored.groups(at["threshold"], column)[1]
    _summary(over)
    mean = over.get("accuracy", {}).get("mean", {}).get("value")
    key = f"groups_{job_id}_{column}"
    st.plotly_chart(
        charts.group_bars(frame.head(SHOWN), mean, appearance.colours()),
        config=charts.CONFIG,
        key=key,
        on_select=state.on_click(job_id, key, of_group(column)),
        selection_mode="points",
        alt="Share of right answers per group, worst first",
    )
    more = f" The {SHOWN} worst of {len(frame):,}." if len(frame) > SHOWN else ""
    st.caption(f":material/touch_app: Click a bar to see its pictures. Dashed: mean over groups.{more}")
    with st.expander("All rates as a table", icon=":material/table_rows:"):
        _table(frame, job_id)


def regions(job_id: str, measured: Measured, view: View, at: Mapping[str, Any]) -> None:
    """Which regions of the face decide, in the groups that the visitor compares; the same at every threshold."""
    region_panel(measured.result.predictions, measured.column(view) or "group", key=f"regions_{job_id}")


def of_group(column: str) -> Any:
    """From what a bar tells to the images of its group, wrong ones first."""

    def select(data: Any) -> dict[str, object] | None:
        name = data[0] if isinstance(data, list) and data else data
        return {"selection": Selection(column=column, value=str(name)), "order": "wrong"}

    return select


def _summary(over: Mapping[str, Any]) -> None:
    """Mean and worst group of both error rates, each group counting the same."""
    lines = []
    for name, title, worst, word in (
        ("recall", "AI-generated found", "min", "lowest"),
        ("fpr", "False alarms", "max", "highest"),
    ):
        if name not in over:
            continue
        mean, extreme, gap = over[name]["mean"], over[name][worst], over[name]["gap"]
        value, interval = figure_text(mean)
        line = f"**{title}:** mean over groups {value} ({interval})"
        if extreme.get("group") is not None:
            value, interval = figure_text(extreme)
            line += f", {word} **{value}** ({interval}) in *{words.plain(str(extreme['group']))}*"
        if gap.get("value") is not None:
            value, interval = figure_text(gap)
            line += f"; gap {value} ({interval})"
        lines.append(line + ".")
    st.markdown("  \n".join(lines))


def _table(frame: pd.DataFrame, job_id: str) -> None:
    share = st.column_config.NumberColumn(format="%.1f %%")
    shares = ["Right", *(name + end for name in ("Found", "False alarms") for end in ("", ", from", ", to"))]
    st.dataframe(
        pd.DataFrame(
            {
                "Group": frame["group"],
                "Truth": frame["label"].map(_TRUTHS),
                "Pictures": frame["n"],
                "Right": 100 * frame["accuracy"],
                "Found": 100 * frame["recall"],
                "Found, from": 100 * frame["recall_low"],
                "Found, to": 100 * frame["recall_high"],
                "False alarms": 100 * frame["fpr"],
                "False alarms, from": 100 * frame["fpr_low"],
                "False alarms, to": 100 * frame["fpr_high"],
            }
        ),
        hide_index=True,
        key=f"group_table_{job_id}",
        column_config=dict.fromkeys(shares, share),
        placeholder=words.NOTHING,
        alt="Rates per group with 95 % intervals, worst first",
    )
