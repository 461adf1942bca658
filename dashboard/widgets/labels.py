"""How the labels of a set were read, shown before anything is measured on them."""

from __future__ import annotations

import streamlit as st

from dashboard.widgets import appearance
from dashboard.widgets.notices import skipped_files
from model.dataset import LabelledSet

_TIERS = {
    "clean": "as they are",
    "web": "as shared on the web: up to 768 px, JPEG 60",
    "hard": "as passed on often: up to 512 px, JPEG 40",
}
_TITLES = {"real": "Real photograph", "fake": "AI-generated"}


def layout_help() -> None:
    """What a labelled set looks like."""
    st.markdown("**How to label**")
    st.markdown("Folder names are the labels; the folder below names a group.")
    st.code("set.zip\n├── real/\n│   └── camera/a.jpg\n└── fake/\n    └── stylegan2/b.png", language=None)
    st.caption(
        "Also understood: 0 and 1, training_real and training_fake, ai, generated, deepfake … On the server a CSV or "
        "Parquet file with the columns path and label works too."
    )


def tier_choice() -> str:
    """How the pictures are brought to the detector: as they are, or as a kind of delivery would bring them."""
    return st.selectbox(
        "Judge the pictures",
        list(_TIERS),
        format_func=_TIERS.__getitem__,
        key="evaluate_tier",
        help="Sharing services shrink and compress pictures, which hides traces. Run a set under each to see the cost; "
        "the runs are then set side by side.",
        width=420,
    )


def labels_read(found: LabelledSet) -> None:
    """Which folder was taken to mean what, and what was left out."""
    counts = found.counts
    st.markdown("**This is how the labels were read**")
    with st.grid(3, min_column_width=110):
        st.metric("Real", f"{counts['real']:,}", border=True)
        st.metric("AI-generated", f"{counts['fake']:,}", border=True)
        st.metric("Left out", f"{len(found.skipped):,}", border=True)
    colours = appearance.colours()
    st.dataframe(
        {
            "Folder": found.folders["folder"].tolist(),
            "Taken as": [[_TITLES[label]] for label in found.folders["label"]],
            "Pictures": found.folders["images"].tolist(),
        },
        hide_index=True,
        height="content",
        column_config={
            "Taken as": st.column_config.MultiselectColumn(
                options=list(_TITLES.values()), color=[colours.real, colours.fake]
            )
        },
        alt="Folders and the label each was taken to mean",
    )
    groups = found.frame["group"][found.frame["group"] != ""].nunique()
    if groups:
        st.caption(f"{groups} groups, from the folders below the labels.")
    if min(counts.values()) == 0:
        st.warning("Only one class: error rates of the other, and every curve, will be undefined.")
    skipped_files(found.skipped)
