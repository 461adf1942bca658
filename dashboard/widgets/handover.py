"""What a reviewer gets: the one-page report and the evidence packet, and how to check them."""

from __future__ import annotations

from pathlib import PurePath

import streamlit as st

from dashboard.examination import Examination
from model.packet import plain_name
from model.results import ImageResult


def handover(found: Examination) -> None:
    """Downloads, made when they are asked for."""
    stem = PurePath(plain_name(found.picture.name)).stem or "picture"
    with st.container(horizontal=True):
        for title, kind, mime, icon in (
            ("Report (PDF)", "pdf", "application/pdf", ":material/picture_as_pdf:"),
            ("Report (HTML)", "html", "text/html", ":material/description:"),
        ):
            st.download_button(
                title,
                data=lambda kind=kind: found.report(kind),  # type: ignore[misc]
                file_name=f"{stem}-report.{kind}",
                mime=mime,
                icon=icon,
                on_click="ignore",
            )
        st.download_button(
            "Evidence packet (ZIP)",
            data=found.packet,
            file_name=f"{stem}-packet.zip",
            mime="application/zip",
            icon=":material/inventory_2:",
            on_click="ignore",
            help="The original file with all its metadata, crop, map, ledger, settings, versions and hashes.",
        )
    st.caption(
        f"{_held(found.result)} The report prints the digest of the packet; make both after the last test. **The "
        "packet holds the picture itself**, with all its metadata."
    )
    with st.expander("How a reviewer checks the packet", icon=":material/verified_user:"):
        st.code("reality-check verify PACKET.zip --digest DIGEST_ON_THE_REPORT", language="bash", wrap_lines=True)
        st.markdown(
            "This hashes everything anew, judges the original again and says item by item what agrees, what differs "
            "and within what tolerance. It needs Reality Check with the same checkpoint, no network and no account. A "
            "packet that agrees shows that this detector says this of this file; it does not show who made it, or when."
        )


def _held(result: ImageResult) -> str:
    if len(result.faces) < 2 or result.deciding_face is None:
        return "Report and packet hold the tests that were made on this page so far."
    return (
        f"Report and packet hold the tests of the picture, and of face {result.deciding_face + 1}, which decides, that "
        "were made on this page so far; tests of other faces are not in them."
    )
