"""The verdict on a picture: in words, as a probability between its thresholds, and face by face."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from PIL import Image

from dashboard import charts, resources, words
from dashboard.widgets import appearance
from model import quality
from model.calibration import Thresholds
from model.results import FaceResult, ImageResult

CALIBRATED = "Calibrated where half of the pictures are generated. Where fewer are, the same number means less."


def verdict_card(result: ImageResult) -> None:
    """The answer at a glance: verdict, what it says, probability, thresholds, and how often the detector errs."""
    look = words.VERDICTS[result.verdict]
    with st.container(border=True):
        st.header(f":{look.colour}[{look.icon} {look.title}]", anchor=False)
        _statement(result)
        if result.p_fake is None:
            if result.error is None:
                error_rates(result.verdict, result.thresholds, result.checkpoint_sha256)
            return
        chance = words.probability(result.p_fake, result.thresholds)
        real, fake = words.limits(result.thresholds, result.p_fake)
        st.plotly_chart(
            charts.verdict_scale(result.p_fake, result.thresholds, result.verdict, appearance.colours()),
            config=charts.CONFIG,
            key="verdict_scale",
            alt=f"Probability of AI-generation {chance}; real up to {real}, AI-generated from {fake}",
        )
        with st.grid(3, min_column_width=110):
            st.metric("Probability AI", chance, help=CALIBRATED)
            st.metric("Faces", str(len(result.faces)), help="The verdict is that of the most suspicious face.")
            st.metric("Prediction time", f"{result.elapsed_ms:,.0f} ms", help="From the file's bytes to the verdict.")
        st.caption(words.threshold_note(result.thresholds, result.p_fake))
        error_rates(result.verdict, result.thresholds, result.checkpoint_sha256)


def verdict_line(result: ImageResult) -> None:
    """The verdict of the picture in words, with its probability and how often the detector errs."""
    look = words.VERDICTS[result.verdict]
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            st.subheader(f":{look.colour}[{look.icon} {look.title}]", anchor=False, width="content")
            if result.p_fake is not None:
                chance = words.probability(result.p_fake, result.thresholds)
                st.markdown(f"Probability of AI-generated **{chance}**", width="content")
        _statement(result)
        if result.error is None:
            error_rates(result.verdict, result.thresholds, result.checkpoint_sha256)


def error_rates(verdict: str, thresholds: Thresholds, checkpoint_sha256: str) -> None:
    """How often this checkpoint errs in the way that such a verdict may be wrong, as far as it was measured."""
    info = resources.installed(checkpoint_sha256)
    gone = words.CHECKPOINT_GONE.format(digest=checkpoint_sha256[: words.DIGEST])
    text = gone if info is None else words.stated_error_rates(info, verdict, thresholds)
    st.caption(f"**{words.error_heading(verdict)}.** {words.plain(text)}")


def _statement(result: ImageResult) -> None:
    statement = words.summary(result)
    st.markdown(words.plain(statement) if result.error else statement)


def face_badge(result: FaceResult) -> str:
    """A face's verdict as coloured Markdown."""
    look = words.VERDICTS[result.verdict]
    return f":{look.colour}-badge[{look.short}]"


def face_list(result: ImageResult, crops: Sequence[Image.Image | None]) -> None:
    """Every face with its own verdict; the one that decided is named."""
    with st.grid(4, min_column_width=120):
        for index, (face, crop) in enumerate(zip(result.faces, crops, strict=True)):
            with st.container(border=True, height="stretch", gap="xsmall"):
                st.markdown(f"**Face {index + 1}**")
                if crop is not None:
                    st.image(crop, width="stretch", alt=f"Face {index + 1} as the network saw it")
                st.markdown(face_badge(face))
                if face.p_fake is None:
                    st.caption(quality.explain(face.reason))
                else:
                    decides = ", decides" if index == result.deciding_face and len(result.faces) > 1 else ""
                    st.caption(f"{words.percent(face.p_fake)} AI{decides}")


def face_picker(result: ImageResult, *, key: str) -> int:
    """Index of the face to look at: the deciding one, or the visitor's choice among the examined ones.

    Parameters
    ----------
    result : ImageResult
        With at least one examined face.
    """
    examined = [index for index, face in enumerate(result.faces) if face.p_fake is not None]
    if len(examined) == 1:
        return examined[0]
    chosen = st.segmented_control(
        "Face",
        examined,
        default=result.deciding_face,
        required=True,
        label_visibility="collapsed",
        format_func=lambda index: f"Face {index + 1} · {words.percent(result.faces[index].p_fake or 0.0)}",
        key=f"{key}_{result.sha256[:12]}",
    )
    return examined[0] if chosen is None else chosen


def file_facts(result: ImageResult) -> None:
    """Facts about the file and the detector, for the record."""
    with st.expander("About this file and this check", icon=":material/info:"):
        facts = {
            "File": words.plain(result.name),
            "Format": f"{result.format}, {result.width} × {result.height} px, {words.size(result.size_bytes)}",
            "SHA-256": f"`{result.sha256}`",
            "Checkpoint": f"{words.plain(result.checkpoint)} (`{result.checkpoint_sha256[:12]}`), {result.runtime}",
            "Version": result.version,
        }
        if result.notes:
            facts["Decoding"] = "; ".join(words.plain(note) for note in result.notes)
        if result.logit is not None:
            facts["Logit"] = f"{words.signed(result.logit, 3)} log-odds before calibration"
        st.table(facts, border="horizontal", alt="Facts about the file and the check")
