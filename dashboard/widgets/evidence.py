"""The evidence for a verdict: the heatmap over the face, its legend, and the ledger by facial region."""

from __future__ import annotations

import streamlit as st
from PIL import Image

from dashboard import charts, overlay, words
from dashboard.widgets import appearance
from model.results import FaceResult

WIDTH = 440  # px of a single heatmap; narrower where the page is


@st.fragment
def evidence_panel(crop: Image.Image, face: FaceResult, *, key: str, side_by_side: bool = False) -> None:
    """The heatmap over the crop with its legend and controls.

    A fragment: sliding the opacity redraws only this.
    """
    assert face.evidence is not None
    rows, columns = face.evidence.shape
    controls = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    picture = st.container()
    legend = st.container()
    opacity = controls.slider(
        "Heatmap opacity", 0, 100, round(overlay.OPACITY * 100), step=5, format="%d %%", key=f"{key}_opacity", width=240
    )
    style = controls.segmented_control(
        "Shown as",
        ["Smooth", "Cells"],
        default="Smooth",
        required=True,
        key=f"{key}_style",
        help=f"The network weighs {rows} × {columns} cells; smooth interpolates between them.",
    )
    painted = overlay.overlay(crop, face.evidence, opacity=opacity / 100, smooth=style == "Smooth")
    big = painted.resize((painted.width * 2, painted.height * 2), Image.Resampling.NEAREST)
    alt = f"Evidence over the face: {_direction(face)}"
    if side_by_side:
        left, right = picture.columns(2)
        plain = crop.resize(big.size, Image.Resampling.LANCZOS)
        left.image(plain, caption="What the network saw", width="stretch", alt="Face crop as the network saw it")
        right.image(big, caption="Evidence", width="stretch", alt=alt)
    else:
        picture.image(big, width=WIDTH, alt=alt)
    legend.plotly_chart(
        charts.evidence_legend(face.evidence.shape, appearance.colours()),
        config=charts.CONFIG,
        key=f"{key}_legend",
        width="stretch" if side_by_side else WIDTH,
        alt="Colour scale: blue is evidence toward real, orange toward AI-generated, transparent is none",
    )
    legend.caption(
        f"Log-odds per cell; {rows} × {columns} cells. The scale is the same for every picture; colourless "
        "is what is usual at that place in the faces of the training data."
    )


def _direction(face: FaceResult) -> str:
    regions = {name: value for name, value in face.ledger.items() if name != "bias"}
    toward_fake = sum(value for value in regions.values() if value > 0)
    toward_real = sum(value for value in regions.values() if value < 0)
    return f"{toward_fake:+.1f} log-odds toward AI-generated, {toward_real:+.1f} toward real"


def strongest(face: FaceResult, count: int = 2) -> str:
    """A sentence on the regions that moved the score most."""
    frame = charts.ledger_frame(face.ledger, face.regions_share)
    frame = frame[frame["name"] != "bias"]
    top = frame.reindex(frame["log_odds"].abs().sort_values(ascending=False).index).head(count)
    parts = [
        f"**{row.region.lower()}** ({row.log_odds:+.2f}, toward {'AI' if row.log_odds > 0 else 'real'})"
        for row in top.itertuples()
    ]
    return "Strongest evidence: " + " and ".join(parts) + "."


def ledger_chart(face: FaceResult, *, key: str) -> None:
    """Log-odds per region as bars."""
    frame = charts.ledger_frame(face.ledger, face.regions_share)
    st.plotly_chart(
        charts.ledger_bars(frame, appearance.colours()),
        config=charts.CONFIG,
        key=key,
        alt="Bar chart of log-odds per facial region; " + strongest(face).replace("*", ""),
    )


def ledger_sum(face: FaceResult) -> str:
    """The line that shows that the ledger is complete: regions + bias = logit."""
    regions = sum(value for name, value in face.ledger.items() if name != "bias")
    logit = face.logit or 0.0
    return f"Regions **{regions:+.3f}** and usual face **{face.ledger['bias']:+.3f}** make the logit **{logit:+.3f}**"


def ledger_table(face: FaceResult, *, key: str) -> None:
    """The ledger in numbers."""
    frame = charts.ledger_frame(face.ledger, face.regions_share).drop(columns="name")
    st.dataframe(
        frame,
        hide_index=True,
        height="content",
        key=key,
        column_config={
            "region": st.column_config.TextColumn("Region"),
            "log_odds": st.column_config.NumberColumn(
                "Log-odds", format="%+.3f", help="Positive: toward AI-generated. The column sums to the logit."
            ),
            "share": st.column_config.NumberColumn(
                "Share of evidence", format="percent", help="Part of all evidence, whatever its direction."
            ),
            "area": st.column_config.NumberColumn(
                "Share of area", format="percent", help="Part of the face crop that the region covers."
            ),
        },
        alt="Log-odds, share of evidence and share of area per facial region",
    )
    st.caption(words.NOT_A_LIE_DETECTOR)
