"""The Grad-CAM family beside the evidence map."""

from __future__ import annotations

import numpy as np
import streamlit as st
from PIL import Image

from dashboard import overlay, words
from dashboard.examination import Examination
from model.detector import Detector


def activation_map(found: Examination, index: int, method: str) -> np.ndarray:
    """A map (S, S) in [0, 1] of an examined face by a method of `model.cam`, computed once per session."""
    crop = found.crops[index]
    assert crop is not None
    key = f"{found.picture.sha256}-{index}"
    return _map(key, found.detector.checkpoint.sha256, method, found.detector, crop)


@st.cache_data(max_entries=64, show_spinner=False, scope="session")
def _map(key: str, checkpoint_sha256: str, method: str, _detector: Detector, _crop: Image.Image) -> np.ndarray:
    from model.cam import class_activation_map  # slow to import, needed only here

    return class_activation_map(_detector, _crop, method)


def comparison(found: Examination, index: int) -> None:
    """Evidence map and class activation maps of an examined face, side by side."""
    face, crop = found.result.faces[index], found.crops[index]
    assert face.evidence is not None and crop is not None
    with st.skeleton(height=240):
        from model.cam import METHODS

        with st.grid(4, min_column_width=180):
            st.image(
                overlay.overlay(crop, face.evidence),
                caption="Evidence (signed, fixed scale)",
                width="stretch",
                alt="Signed evidence map over the face",
            )
            for method, title in METHODS.items():
                st.image(
                    overlay.overlay_cam(crop, activation_map(found, index, method)),
                    caption=f"{title} (stretched)",
                    width="stretch",
                    alt=f"{title} over the face",
                )
    st.caption(words.CAM_CAVEAT)
