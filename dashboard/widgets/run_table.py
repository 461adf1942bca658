"""The outcome of a bulk run: counts, a table with thumbnails, one picture in detail, downloads."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import charts, session, tasks, words
from dashboard.jobs import Job
from dashboard.tasks import BulkResult
from dashboard.widgets import appearance, verdict
from dashboard.widgets.notices import skipped_files
from model import quality
from model.calibration import Thresholds
from model.sources import SourceError

PAGE = 1000  # rows sent to the browser at a time
BROKEN = "broken"
_ORDERS = {
    "Most suspicious": ("p_fake", False),
    "Least suspicious": ("p_fake", True),
    "Name": ("name", True),
    "As handed in": ("position", True),
}


def run_table(job: Job, elapsed: float) -> None:
    """Everything about a finished run."""
    result: BulkResult = job.result
    _counts(result, elapsed)
    _downloads(result, job.title)
    skipped_files(result.skipped)
    _table(job.id, result)


def table_of(result: BulkResult) -> pd.DataFrame:
    """One row per image as it is shown: `name, kind, p_fake, why, ...`; `kind` is the verdict or `broken`."""
    frame = result.images.copy()
    frame["position"] = range(len(frame))
    broken = frame["code"].notna() & (frame["faces"] == 0) & (frame["format"] == "")
    frame["kind"] = frame["verdict"].mask(broken, BROKEN)
    frame["why"] = [
        "" if code is None or pd.isna(code) else str(reason) if is_broken else quality.explain(str(code))
        for code, reason, is_broken in zip(frame["code"], frame["reason"], broken, strict=True)
    ]
    return frame


def _titles() -> dict[str, str]:
    return {name: look.title for name, look in words.VERDICTS.items()} | {BROKEN: "Broken file"}


def _counts(result: BulkResult, elapsed: float) -> None:
    kinds = table_of(result)["kind"].value_counts()
    with st.grid(6, min_column_width=130):
        st.metric("Pictures", f"{len(result.images):,}", border=True)
        for kind, title in _titles().items():
            st.metric(title, f"{int(kinds.get(kind, 0)):,}", border=True)
    counts = {str(kind): int(count) for kind, count in kinds.items()}
    if len(result.images):
        shown = {name: look.title for name, look in words.VERDICTS.items()}
        st.plotly_chart(
            charts.verdict_bar(counts, shown, appearance.colours()),
            config=charts.CONFIG,
            key="verdict_bar",
            alt="Share of each verdict: " + ", ".join(f"{shown[k]} {v}" for k, v in counts.items() if k in shown),
        )
        pace = f", {len(result.images) / elapsed:.1f} per second" if elapsed > 0 else ""
        st.caption(f"Took {words.duration(elapsed)}{pace}.")


def _downloads(result: BulkResult, title: str) -> None:
    stem = "".join(character if character.isalnum() else "-" for character in title).strip("-")[:60] or "results"
    with st.container(horizontal=True):
        st.download_button(
            "CSV",
            data=lambda: tasks.csv_bytes(result.faces),
            file_name=f"{stem}.csv",
            mime="text/csv",
            icon=":material/download:",
            on_click="ignore",
            help="One row per face, with scores, thresholds, ledger and checkpoint.",
        )
        st.download_button(
            "Parquet",
            data=lambda: tasks.parquet_bytes(result.faces),
            file_name=f"{stem}.parquet",
            mime="application/vnd.apache.parquet",
            icon=":material/download:",
            on_click="ignore",
        )


@st.fragment
def _table(job_id: str, result: BulkResult) -> None:
    frame = table_of(result)
    titles = _titles()
    present = [kind for kind in titles if (frame["kind"] == kind).any()]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kinds = st.pills(
            "Show",
            present,
            selection_mode="multi",
            format_func=lambda kind: f"{titles[kind]} ({int((frame['kind'] == kind).sum()):,})",
            key=f"kinds_{job_id}",
        )
        order = st.selectbox("Order", list(_ORDERS), key=f"order_{job_id}", width=200)
        needle = st.text_input("Name contains", type="search", key=f"needle_{job_id}", width=220)
    if kinds:
        frame = frame[frame["kind"].isin(kinds)]
    if needle:
        frame = frame[frame["name"].str.contains(needle, case=False, regex=False)]
    column, ascending = _ORDERS[order]
    frame = frame.sort_values(column, ascending=ascending, na_position="last", kind="stable").reset_index(drop=True)
    pages = max(1, -(-len(frame) // PAGE))
    number = st.pagination(pages, key=f"page_{job_id}") if pages > 1 else 1
    frame = frame.iloc[(number - 1) * PAGE : number * PAGE].reset_index(drop=True)
    if frame.empty:
        st.caption("No picture matches.")
        return
    table, detail = st.columns([7, 4], gap="medium")
    folders = frame["name"].str.rpartition("/")[0]
    with table:
        chosen = st.dataframe(
            pd.DataFrame(
                {
                    "picture": [result.thumbnails.get(position) for position in frame["position"]],
                    "name": frame["name"].str.rpartition("/")[2],
                    "p_fake": frame["p_fake"],
                    "verdict": [[titles[kind]] for kind in frame["kind"]],
                    "faces": frame["faces"],
                }
                | ({"why": frame["why"]} if frame["why"].ne("").any() else {})
                | ({"folder": folders} if folders.ne("").any() else {})
            ),
            hide_index=True,
            row_height=52,
            height=min(640, 52 * len(frame) + 40),
            key=f"table_{job_id}",
            on_select="rerun",
            selection_mode="single-row-required",
            selection_default={"selection": {"rows": [0]}},
            column_config=columns(appearance.colours()),
            alt="Table of pictures with probability, verdict and reason",
        )
    with detail:
        rows = chosen["selection"]["rows"]
        row = rows[0] if rows and rows[0] < len(frame) else 0
        _detail(result, frame.iloc[row])
        st.caption(":material/touch_app: Select a row to look at its picture.")


def columns(colours: charts.Palette) -> dict[str, Any]:
    """How the columns of a table of pictures are drawn."""
    titles = _titles()
    return {
        "picture": st.column_config.ImageColumn("", width=60),
        "name": st.column_config.TextColumn("Name", width="medium"),
        "p_fake": st.column_config.ProgressColumn(
            "Probability AI", format="percent", min_value=0.0, max_value=1.0, width=130
        ),
        "verdict": st.column_config.MultiselectColumn(
            "Verdict",
            options=list(titles.values()),
            color=[colours.fake, colours.real, colours.inconclusive, colours.neutral, colours.muted],
            width=140,
        ),
        "why": st.column_config.TextColumn("Reason", width="medium"),
        "faces": st.column_config.NumberColumn("Faces", width=60),
        "folder": st.column_config.TextColumn("Folder", width="medium"),
    }


def _detail(result: BulkResult, row: pd.Series) -> None:
    with st.container(border=True):
        kind = str(row["kind"])
        look = words.VERDICTS.get(kind)
        st.markdown(f"**{words.plain(str(row['name']))}**")
        st.markdown(f":{look.colour}-badge[{look.title}]" if look else ":gray-badge[Broken file]")
        try:
            name, data = tasks.read_again(result, int(row["position"]))
        except (SourceError, OSError) as error:
            st.caption(words.plain(f"The picture can no longer be read: {error}"))
            return
        picture = tasks.thumbnail(data, 420, crop=False)
        if picture is not None:
            st.image(picture, width="stretch", alt=f"The picture {name}")
        if pd.notna(row["p_fake"]):
            st.markdown(f"Probability AI **{words.percent(float(row['p_fake']))}**")
            first = result.faces.iloc[0]
            limits = Thresholds(float(first["threshold_real"]), float(first["threshold_fake"]))
            verdict.error_rates(kind, limits, str(first["checkpoint_sha256"]))
        if row["why"]:
            st.caption(words.plain(str(row["why"])))
        facts = f"{row['format']}, {row['width']} × {row['height']} px, " if row["format"] else ""
        st.caption(f"{facts}{words.size(int(row['bytes']))}")
        if picture is not None and st.button(
            "Explain this", icon=":material/visibility:", type="primary", key="detail_explain"
        ):
            session.keep_picture(name, data)
            st.switch_page("../pages/explain.py")
