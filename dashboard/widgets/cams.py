"""The Grad-CAM family beside the evidence map."""

from __future__ import annotations

import numpy as np
import streamlit as st
from PIL import Image

from dashboard import overlay, words
from model.detector import Detector
from model.results import FaceResult


@st.cache_data(max_entries=64, show_spinner=False, scope="session")
def _maps(key: str, checkpoint_sha256: str, _detector: Detector, _crop: Image.Image) -> dict[str, np.ndarray]:
    from model.cam import METHODS, class_activation_map  # slow to import, needed only here

    return {title: class_activation_map(_detector, _crop, method) for method, title in METHODS.items()}


def comparison(detector: Detector, crop: Image.Image, face: FaceResult, *, key: str) -> None:
    """Evidence map and class activation maps of one crop, side by side.

    Parameters
    ----------
    key : str
        Identifies the crop, so that maps are computed once per session.
    """
    assert face.evidence is not None
    with st.skeleton(height=240):
        maps = _maps(key, detector.checkpoint.sha256, detector, crop)
        with st.grid(4, min_column_width=180):
            st.image(
                overlay.overlay(crop, face.evidence),
                caption="Evidence (signed, fixed scale)",
                width="stretch",
                alt="Signed evidence map over the face",
            )
            for title, values in maps.items():
                st.image(
                    overlay.overlay_cam(crop, values),
                    caption=f"{title} (stretched)",
                    width="stretch",
                    alt=f"{title} over the face",
                )
    st.caption(words.CAM_CAVEAT)
