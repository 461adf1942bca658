"""The pictures of a bulk run as cards, with their evidence on request."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import from_run, words
from dashboard.review import BROKEN, Groups, Review
from dashboard.widgets import pictures

PAGE = 24


def gallery(
    run_id: str,
    review: Review,
    rows: np.ndarray,
    *,
    groups: Groups | None,
    show_group: Callable[[str], None],
    heatmaps: bool,
) -> None:
    """One page of pictures, each with its verdict, its probability and a way to its explanation.

    Parameters
    ----------
    rows : ndarray of shape (M,)
        Rows of the review that this page shows.
    groups : Groups, optional
        Where given, a picture says how many others it stands for.
    show_group : callable
        Called with the name of a picture whose group is asked for.
    heatmaps : bool
        Lay the evidence over the faces, one picture after the other.
    """
    slots = []
    with st.grid("auto", min_column_width=150):
        for row, entry in zip(rows.tolist(), review.frame.iloc[rows].itertuples(), strict=True):
            with st.container(border=True, gap="xsmall", height="stretch"):
                slot = _card(run_id, review, entry)
                if groups is not None:
                    group_button(
                        groups.others(row), partial(show_group, str(entry.name)), key=f"group_{run_id}_{entry.position}"
                    )
            if pd.notna(entry.p_fake):  # others have no face that was examined
                slots.append((int(entry.position), str(entry.name), slot))
    if heatmaps and pictures.heatmaps(run_id, review.result, slots):
        st.caption(pictures.LEGEND)


def badge(kind: str) -> str:
    """A verdict, or that there is none, as coloured Markdown."""
    look = words.VERDICTS.get(kind)
    return ":gray-badge[Broken file]" if look is None else f":{look.colour}-badge[{look.title}]"


def group_button(others: int, show: Callable[[], None], *, key: str) -> None:
    """Say how many others a picture stands for, and lead to them; nothing if it is alone."""
    if others:
        st.button(f"and {others:,} alike", icon=":material/photo_library:", type="tertiary", key=key, on_click=show)


def _card(run_id: str, review: Review, entry: Any) -> DeltaGenerator:
    """One picture; returns where it is."""
    name, kind = str(entry.name), str(entry.kind)
    position, p_fake = int(entry.position), float(entry.p_fake)
    title = "Broken file" if kind == BROKEN else words.VERDICTS[kind].title
    slot = st.empty()
    pictures.show(slot, run_id, position, review.result, f"{title}: {name}")
    chance = "" if np.isnan(p_fake) else f"  \n**{words.percent(p_fake)}**"
    st.markdown(badge(kind) + chance)
    st.caption(words.plain(str(entry.file)), help=words.plain(name))
    st.page_link(
        "../pages/explain.py",
        label="Explain",
        icon=":material/visibility:",
        query_params=from_run.address(run_id, position, {}),
    )
    return slot
