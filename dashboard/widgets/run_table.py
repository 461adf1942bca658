"""The outcome of a bulk run: counts, its pictures as a table or a gallery, one of them in detail, downloads."""

from __future__ import annotations

from functools import partial
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import charts, from_run, resources, tasks, words
from dashboard.jobs import Job, Progress
from dashboard.review import BROKEN, ORDERS, Groups, Review
from dashboard.store import DONE, StoreError
from dashboard.tasks import BulkResult, ChangedError
from dashboard.widgets import appearance, run_gallery, verdict
from dashboard.widgets.notices import skipped_files
from dashboard.widgets.region_summary import region_panel
from dashboard.widgets.run_export import run_export
from model.calibration import Thresholds
from model.sources import SourceError

PAGE = 500  # rows sent to the browser at a time
TABLE, GALLERY = "Table", "Gallery"


def run_table(job: Job, elapsed: float) -> None:
    """Everything about a finished run."""
    from_run.forget()
    try:
        review = resources.review_of(job)
    except StoreError as error:
        st.error(words.plain(str(error)), icon=":material/heart_broken:")
        return
    if review is None:
        return
    _counts(review, elapsed, resources.job_queue().progress(job).known)
    _downloads(review.result, _file_name(job))
    skipped_files(review.result.skipped)
    _regions(job, review.result)
    _pictures(job, review)


def latest(now: Progress) -> None:
    """The pictures that a run judged last, while it goes on; nothing before the first."""
    judged: tuple[tasks.Judged, ...] = now.latest
    if not judged:
        return
    titles = _titles()
    st.markdown("**Judged last**")
    st.dataframe(
        pd.DataFrame(
            {
                "picture": [one.picture for one in judged],
                "name": [one.name.rpartition("/")[2] for one in judged],
                "p_fake": pd.Series([one.p_fake for one in judged], dtype="float64").clip(*words.UNCERTAIN),
                "verdict": [[titles[BROKEN if one.error else one.verdict]] for one in judged],
                "folder": [one.name.rpartition("/")[0] for one in judged],
            }
        ),
        hide_index=True,
        row_height=52,
        height="content",
        column_config=columns(appearance.colours()),
        alt="Table of the pictures that were judged last, with probability and verdict",
    )
    st.caption("All of them can be looked at when the run ends or is paused.")


def _titles() -> dict[str, str]:
    return {name: look.title for name, look in words.VERDICTS.items()} | {BROKEN: "Broken file"}


def _counts(review: Review, elapsed: float, known: int) -> None:
    counts, images = review.counts, len(review.frame)
    with st.grid(6, min_column_width=130):
        st.metric("Pictures", f"{images:,}", border=True)
        for kind, title in _titles().items():
            st.metric(title, f"{counts.get(kind, 0):,}", border=True)
    if images:
        shown = {name: look.title for name, look in words.VERDICTS.items()}
        st.plotly_chart(
            charts.verdict_bar(counts, shown, appearance.colours()),
            config=charts.CONFIG,
            key="verdict_bar",
            alt="Share of each verdict: " + ", ".join(f"{shown[k]} {v}" for k, v in counts.items() if k in shown),
        )
        judged = images - known
        pace = f", {judged / elapsed:.1f} per second" if elapsed > 0 and judged > 0 else ""
        st.caption(f"Took {words.duration(elapsed)}{pace}.")


def _file_name(job: Job) -> str:
    """What downloads of a run are called, without an ending: they may lie about long after the run is finished."""
    stem = "".join(character if character.isalnum() else "-" for character in job.title).strip("-")[:60] or "results"
    return stem if job.state == DONE else f"{stem}-partial"


def _downloads(result: BulkResult, stem: str) -> None:
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


def _regions(job: Job, result: BulkResult) -> None:
    panel = st.expander(
        "Which parts of the face decide", icon=":material/face:", on_change="rerun", key=f"regions_{job.id}"
    )
    if panel.open:
        faces = result.faces.assign(verdict=result.faces["verdict"].map(_titles()))
        with panel:
            region_panel(faces, "verdict", key=f"regions_of_{job.id}")


@st.fragment
def _pictures(job: Job, review: Review) -> None:
    """What is looked for and how it is shown, and the pictures that were found."""
    alike = review.row_of(st.session_state.get(_name("alike", job.id)))
    rows = _found(job.id, review, alike)
    with st.container(horizontal=True, vertical_alignment="center"):
        way = st.segmented_control(
            "Show as",
            [TABLE, GALLERY],
            default=TABLE,
            required=True,
            label_visibility="collapsed",
            key=_name("way", job.id),
            persist_state="session",
        )
        grouped = st.toggle(
            "Group near-duplicates",
            key=_name("grouped", job.id),
            on_change=_show_group,
            args=(job.id, None),
            help="Copies, and pictures that were resized or saved again, stand behind one of them.",
            persist_state="session",
        )
        heatmaps = way == GALLERY and st.toggle(
            "Heatmaps",
            key=_name("heatmaps", job.id),
            help="Runs the network on the pictures of this page.",
            persist_state="session",
        )
    groups = _groups(review) if grouped and alike is None else None
    if alike is not None:
        st.button(
            f"Like {words.plain(str(review.frame['file'].iat[alike]))}",
            icon=":material/close:",
            key=_name("ungroup", job.id),
            on_click=_show_group,
            args=(job.id, None),
            help="Back to all groups",
        )
    found = rows if groups is None else groups.fold(rows)
    if not len(found):
        st.caption("No picture matches.")
        return
    if way == GALLERY:
        run_gallery.gallery(
            job.id,
            review,
            _page(job.id, found, run_gallery.PAGE),
            groups=groups,
            show_group=partial(_show_group, job.id),
            heatmaps=heatmaps,
        )
    else:
        _table(job.id, review, _page(job.id, found, PAGE), groups)
    run_export(job, review, rows)


def _found(job_id: str, review: Review, alike: int | None) -> np.ndarray:
    """Rows that fit what the visitor looks for, in the order they chose; of an open group all, whatever is chosen."""
    # A tab never lets go of what its widgets call: that must not hold the run.
    titles = {kind: f"{title} ({review.counts[kind]:,})" for kind, title in _titles().items() if kind in review.counts}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kinds = st.pills(
            "Show",
            list(titles),
            selection_mode="multi",
            format_func=titles.__getitem__,
            disabled=alike is not None,
            key=_name("kinds", job_id),
            persist_state="session",
        )
        order = st.selectbox(
            "Order",
            list(ORDERS),
            key=_name("order", job_id),
            width=200,
            persist_state="session",
        )
        text = st.text_input(
            "Name or SHA-256",
            type="search",
            help="A part of the name, or the first digits of the file's SHA-256, at least six.",
            disabled=alike is not None,
            key=_name("text", job_id),
            width=220,
            persist_state="session",
        )
    return review.rows(kinds=kinds, text=text, order=order, alike=alike)


def _groups(review: Review) -> Groups:
    if review.grouped():
        groups = review.groups()
    else:
        with st.spinner("Looking for near-duplicates …"):
            groups = review.groups()
    if groups.unknown:
        st.caption(
            f":material/info: Of {words.count(groups.unknown, 'picture')} nothing was kept to compare them by, as in "
            "runs of earlier versions: there only identical files go together."
        )
    return groups


def _name(what: str, job_id: str) -> str:
    """Key of a widget, or of what the visitor chose."""
    return f"{what}_{job_id}"


def _show_group(job_id: str, name: str | None) -> None:
    """Look at the group of a picture; None goes back to all. By name: rows move when a run goes on."""
    st.session_state[_name("alike", job_id)] = name


def _page(job_id: str, rows: np.ndarray, size: int) -> np.ndarray:
    """The rows of the page that the visitor turned to; what else they choose begins at its first one."""
    pages = -(-len(rows) // size)
    if pages < 2:
        return rows
    number = st.pagination(pages, key=_name(f"page{size}_{crc32(rows.tobytes()):x}", job_id), persist_state="session")
    return rows[(number - 1) * size : number * size]


def _table(job_id: str, review: Review, rows: np.ndarray, groups: Groups | None) -> None:
    titles, thumbnails = _titles(), review.result.thumbnails
    frame = review.frame.iloc[rows].reset_index(drop=True)
    table, detail = st.columns([7, 4], gap="medium")
    with table:
        chosen = st.dataframe(
            pd.DataFrame(
                {
                    "picture": [thumbnails.get(position) for position in frame["position"].tolist()],
                    "name": frame["file"],
                    "p_fake": frame["p_fake"].clip(*words.UNCERTAIN),
                    "verdict": [[titles[kind]] for kind in frame["kind"]],
                }
                | ({} if groups is None else {"alike": groups.size[rows] - 1})
                | {"faces": frame["faces"]}
                | ({"why": frame["why"]} if frame["why"].ne("").any() else {})
                | ({"folder": frame["folder"]} if frame["folder"].ne("").any() else {})
            ),
            hide_index=True,
            row_height=52,
            height=min(640, 52 * len(frame) + 40),
            key=_name(f"table{crc32(rows.tobytes()):x}", job_id),  # what is selected is so of these rows alone
            on_select="rerun",
            selection_mode="single-row-required",
            selection_default={"selection": {"rows": [0]}},
            column_config=columns(appearance.colours()),
            alt="Table of pictures with probability, verdict and reason",
        )
    with detail:
        picked = chosen["selection"]["rows"]
        place = picked[0] if picked and picked[0] < len(frame) else 0
        _detail(job_id, review, frame.iloc[place], int(rows[place]), groups)
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
        "alike": st.column_config.NumberColumn("Alike", width=60, help="Near-duplicates that stand behind it"),
        "faces": st.column_config.NumberColumn("Faces", width=60),
        "folder": st.column_config.TextColumn("Folder", width="medium"),
    }


def _detail(job_id: str, review: Review, row: pd.Series, number: int, groups: Groups | None) -> None:
    """One picture; `number` is its row in the review."""
    result = review.result
    with st.container(border=True):
        kind = str(row["kind"])
        st.markdown(f"**{words.plain(str(row['name']))}**")
        st.markdown(run_gallery.badge(kind))
        if groups is not None:
            show_group = partial(_show_group, job_id, str(row["name"]))
            run_gallery.group_button(groups.others(number), show_group, key=f"detail_group_{row['position']}")
        try:
            name, data = tasks.read_again(result, int(row["position"]))
        except ChangedError:
            st.warning("This file has changed since it was judged: run it again.", icon=":material/difference:")
            return
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
        if row["sha256"]:
            st.caption(f"SHA-256 `{row['sha256'][:16]}` …", help=row["sha256"])
        if picture is not None and st.button(
            "Explain this", icon=":material/visibility:", type="primary", key="detail_explain"
        ):
            address = from_run.address(job_id, int(row["position"]), {})
            st.switch_page("../pages/explain.py", query_params=address)
