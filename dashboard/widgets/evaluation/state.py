"""How this tab looks at each evaluation; kept while the visitor is on other pages, and in the page's address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboard.view import PARAMETERS, Selection, View

_VIEWS = "evaluation_views"


def view(job_id: str) -> View:
    """The view of a run: the one this tab had last, else that of the address."""
    views: dict[str, View] = st.session_state.setdefault(_VIEWS, {})
    if job_id not in views:
        views[job_id] = View.from_params(st.query_params.to_dict())
    return views[job_id]


def change(job_id: str, **changes: object) -> None:
    """Change the view of a run; see `View.but`. Called back by widgets."""
    new = view(job_id).but(**changes)
    st.session_state[_VIEWS][job_id] = new


def publish(job_id: str) -> None:
    """Put the view of a run into the address, for a reload, a bookmark or a colleague."""
    wanted = {"run": job_id} | view(job_id).to_params()
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)


def leave() -> None:
    """Take the view out of the address, so that another run does not begin with it."""
    for name in PARAMETERS & set(st.query_params):
        del st.query_params[name]


def on_click(job_id: str, key: str, select: Callable[[Any], dict[str, object] | None]) -> Callable[[], None]:
    """What a chart with this key calls when something in it was clicked.

    Parameters
    ----------
    select : callable
        From the `customdata` of what was clicked to changes of the view; None for nothing.

    Notes
    -----
    Plotly reports a second click on the same mark as no selection. It takes back what the first click chose; if the
    visitor has chosen something else meanwhile, it chooses again.
    """

    def called() -> None:
        points = st.session_state[key]["selection"]["points"]
        last = f"{key}_last"
        if points:
            st.session_state[last] = _data(points[0].get("customdata"))
        changes = select(st.session_state[last]) if st.session_state.get(last) is not None else None
        if changes is None:
            return
        if not points and changes.get("selection") == view(job_id).selection:
            changes = {"selection": Selection()}
        change(job_id, **changes)

    return called


def _data(value: Any) -> Any:
    """Custom data of a point, whether it comes as one value, a list or a mapping of positions."""
    if isinstance(value, dict):
        value = list(value.values())
    return value[0] if isinstance(value, list) and len(value) == 1 else value
