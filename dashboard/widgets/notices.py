"""Messages for what can go wrong before a page has anything to show."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from dashboard import words
from model.checkpoint import CheckpointError
from model.detector import Detector
from model.runtimes import RuntimeRefusedError


def detector_or_stop(load: Callable[[], Detector]) -> Detector:
    """The detector; without one the page ends here and says why."""
    try:
        return load()
    except CheckpointError as error:
        st.error(
            f"No usable checkpoint: {words.plain(str(error))}. Set `REALITY_CHECK_DEFAULT_CHECKPOINT` to a bundled "
            "name or to a file, then restart.",
            icon=":material/error:",
        )
        st.stop()
    except RuntimeRefusedError as error:
        st.error(
            f"The network cannot be computed as configured: {words.plain(str(error))} Set `REALITY_CHECK_RUNTIME` and "
            "`REALITY_CHECK_PRECISION`, then restart.",
            icon=":material/error:",
        )
        st.stop()


def skipped_files(skipped: list[tuple[str, str]]) -> None:
    """Names and reasons of what was found but not used; nothing when there is nothing to say."""
    if not skipped:
        return
    title = "1 file was left out" if len(skipped) == 1 else f"{len(skipped):,} files were left out"
    with st.expander(title, icon=":material/rule:"):
        st.dataframe(
            [{"File": name, "Reason": reason} for name, reason in skipped[:2000]],
            hide_index=True,
            alt="Files that were left out, with the reason of each",
        )
