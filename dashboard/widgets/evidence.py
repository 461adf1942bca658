"""The evidence for a verdict: the map over the face, its scale, and the ledger by facial region."""

from __future__ import annotations

import streamlit as st

from dashboard import charts, overlay, words
from dashboard.examination import Examination
from dashboard.face_map import cell_zones, evidence_scale, face_map, region_zones, scale
from dashboard.widgets import appearance, cams
from model.results import FaceResult

WIDTH = 440  # px of a single map; narrower where the page is
EVIDENCE, GRAD_CAM = "Evidence", "Grad-CAM, rescaled"


@st.fragment
def evidence_panel(found: Examination, index: int, *, key: str, side_by_side: bool = False) -> None:
    """The map over an examined face with its scale and controls, if asked for beside the plain picture.

    A fragment: sliding the opacity redraws only this.
    """
    face, crop, regions = found.result.faces[index], found.crops[index], found.regions(index)
    assert face.evidence is not None and crop is not None
    rows, columns = face.evidence.shape
    controls = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    pictures = st.grid(2, min_column_width=230) if side_by_side else st.container(width=WIDTH)
    shown = controls.segmented_control(
        "Map",
        [EVIDENCE, GRAD_CAM],
        default=EVIDENCE,
        required=True,
        key=f"{key}_map",
        help="Evidence is signed and on the same scale for every picture. Grad-CAM is stretched to its own maximum on "
        "each picture and knows no evidence toward real: it is here for comparison.",
    )
    numbers = controls.segmented_control(
        "Numbers for",
        ["Parts", "Cells"],
        default="Parts",
        required=True,
        key=f"{key}_numbers",
        help=f"The network weighs {rows} × {columns} cells. Cells shows them as they are; parts of the face are sums "
        "over cells.",
    )
    lines = controls.toggle("Outlines", value=True, key=f"{key}_outlines", help="Draw the parts of the face.")
    opacity = controls.slider(
        "Opacity", 0, 100, round(overlay.OPACITY * 100), step=5, format="%d %%", key=f"{key}_opacity", width=150
    )
    raw, outlined = numbers == "Cells", regions if lines else None
    if shown == GRAD_CAM:
        title = "stretched to its own maximum, without evidence toward real"
        layer = overlay.colourise_cam(cams.activation_map(found, index, "grad_cam"))
        legend = scale(overlay.CAM_STOPS, ("none", "strongest on this picture"))
    else:
        title = _direction(face)
        layer = overlay.colourise(face.evidence, crop.width, smooth=not raw)
        legend = evidence_scale(face.evidence.shape)
    with pictures:
        if side_by_side:
            st.html(face_map(crop, "The face as the network saw it", outlined=outlined))
        st.html(
            face_map(
                crop,
                f"{shown} over the face: {title}",
                layer=layer,
                opacity=opacity / 100,
                pixelated=raw,
                outlined=outlined,
                zones=cell_zones(face, regions) if raw else region_zones(face, regions),
                hint=f"Point at the face for the log-odds of {'a cell' if raw else 'a part'}.",
                legend=legend,
            )
        )
    st.caption(
        words.CAM_CAVEAT
        if shown == GRAD_CAM
        else "Blue speaks for a real photograph, orange for an AI-generated one, colourless for what is usual at that "
        f"place. Scale: log-odds per cell, {rows} × {columns} cells, the same for every picture: a faint map is weak "
        "evidence."
    )


def _direction(face: FaceResult) -> str:
    regions = {name: value for name, value in face.ledger.items() if name != "bias"}
    toward_fake = sum(value for value in regions.values() if value > 0)
    toward_real = sum(value for value in regions.values() if value < 0)
    return f"{words.signed(toward_fake, 1)} log-odds toward AI-generated, {words.signed(toward_real, 1)} toward real"


def strongest(face: FaceResult, count: int = 2) -> str:
    """A sentence on the regions that moved the score most."""
    frame = charts.ledger_frame(face.ledger, face.regions_share)
    frame = frame[frame["name"] != "bias"]
    top = frame.reindex(frame["log_odds"].abs().sort_values(ascending=False).index).head(count)
    parts = [
        f"**{row.region.lower()}** ({words.signed(row.log_odds)}, toward {'AI' if row.log_odds > 0 else 'real'})"
        for row in top.itertuples()
    ]
    return "Strongest evidence: " + " and ".join(parts) + "."


def ledger_chart(found: Examination, index: int, *, key: str) -> None:
    """Log-odds per region as bars, over what is usual for a real face."""
    face = found.result.faces[index]
    frame = charts.ledger_frame(face.ledger, face.regions_share)
    st.plotly_chart(
        charts.ledger_bars(frame, appearance.colours(), found.usual),
        config=charts.CONFIG,
        key=key,
        alt="Bar chart of log-odds per facial region; " + strongest(face).replace("*", ""),
    )


def ledger_sum(face: FaceResult) -> str:
    """The line that shows that the ledger is complete: regions + bias = logit."""
    regions = sum(value for name, value in face.ledger.items() if name != "bias")
    logit = face.logit or 0.0
    parts, usual, whole = (words.signed(value, 3) for value in (regions, face.ledger["bias"], logit))
    return f"Regions **{parts}** and usual face **{usual}** make the logit **{whole}**"


def unusual(found: Examination, index: int) -> None:
    """Which regions are unusual for a real face, in plain words; nothing where that was not measured."""
    if found.usual is not None:
        st.markdown(words.unusual(found.usual, found.result.faces[index].ledger))


def ledger_table(found: Examination, index: int, *, key: str) -> None:
    """The ledger in numbers, beside what is usual for either kind of face."""
    face = found.result.faces[index]
    frame = charts.ledger_frame(face.ledger, face.regions_share, found.usual).drop(columns="name")
    frame["density"] = frame["share"] / frame["area"].where(frame["area"] > 0)
    frame = frame.dropna(axis="columns", how="all")
    frame[["share", "area"]] *= 100
    st.dataframe(
        frame,
        hide_index=True,
        height="content",
        key=key,
        placeholder=words.NOTHING,
        column_config={
            "region": st.column_config.TextColumn("Region", pinned=True),
            "log_odds": st.column_config.NumberColumn(
                "Log-odds", format="%+.3f", help="Positive: toward AI-generated. The column sums to the logit."
            ),
            "real": st.column_config.TextColumn(
                "Real faces", help="What is usual: the median, and between which values nine in ten real faces lie."
            ),
            "fake": st.column_config.TextColumn("AI-generated faces", help="The same of AI-generated faces."),
            "share": st.column_config.NumberColumn(
                "Share of evidence", format="%.1f %%", help="Part of all evidence, whatever its direction."
            ),
            "area": st.column_config.NumberColumn(
                "Share of area", format="%.1f %%", help="Part of the face crop that the region covers."
            ),
            "density": st.column_config.NumberColumn(
                "Share per area",
                format="%.1f ×",
                help="Share of evidence by share of area: above 1, the part says more than its size.",
            ),
        },
        alt="Log-odds, what is usual, share of evidence, share of area and their ratio per facial region",
    )
    st.caption(words.NOT_A_LIE_DETECTOR)
