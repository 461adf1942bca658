"""Deletion for good: nothing goes before its checkbox is ticked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st


def for_good(what: str, delete: Callable[..., None], *args: Any, key: str, enabled: bool = True) -> None:
    """A checkbox, and the button that it lets delete.

    Parameters
    ----------
    what : str
        Names what goes on both, such as `2 runs`.
    delete : callable
        Called back with `args`.
    key : str
        Another one for other things: a tick holds for none but these.
    """
    sure = st.checkbox(f"I want {what} deleted", key=f"sure_{key}")
    st.button(
        f"Delete {what} for good",
        type="primary",
        icon=":material/delete_forever:",
        key=f"delete_{key}",
        disabled=not (enabled and sure),
        on_click=delete,
        args=args,
    )
