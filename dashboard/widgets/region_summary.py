"""Which regions decide over a whole run, group by group."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import charts
from dashboard.widgets import appearance
from model.region_summary import region_summary

LIMIT = 2.0  # log-odds at full colour


def region_panel(predictions: pd.DataFrame, by: str, *, key: str) -> None:
    """Mean log-odds per facial region and group of a finished run, as chart and table.

    Parameters
    ----------
    predictions : DataFrame
        A table of results; see `model.region_summary.region_summary`.
    by : str
        Column that names the groups, such as the generator's.
    """
    try:
        frame = region_summary(predictions, by)
    except ValueError:
        st.info("This run was made by a version without ledgers of these regions.", icon=":material/info:")
        return
    if frame.empty:
        st.info("No face was examined in this run.", icon=":material/info:")
        return
    st.plotly_chart(
        charts.region_heatmap(frame, LIMIT, appearance.colours()),
        config=charts.CONFIG,
        key=key,
        alt="Mean log-odds per facial region and group",
    )
    st.caption(
        "Mean log-odds that each part of the face adds to the score: blue toward real, orange toward AI-generated, "
        f"full colour at {LIMIT:g}. Point at a field for how often that part decides. The largest groups are shown."
    )
    with st.expander("In numbers", icon=":material/table_rows:"):
        st.dataframe(
            frame.drop(columns="region").assign(share=100 * frame["share"], decides=100 * frame["decides"]),
            hide_index=True,
            key=f"{key}_table",
            column_config={
                "group": "Group",
                "images": "Images",
                "label": "Region",
                "log_odds": st.column_config.NumberColumn("Mean log-odds", format="%+.3f"),
                "share": st.column_config.NumberColumn("Share of evidence", format="%.1f %%"),
                "decides": st.column_config.NumberColumn(
                    "Decides",
                    format="%.1f %%",
                    help="Images where no other region speaks louder for the side that the probability fell on.",
                ),
            },
            alt="Mean log-odds, share of evidence and how often each region decides, per group",
        )
