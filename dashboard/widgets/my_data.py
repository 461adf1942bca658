"""What the server keeps of a visitor, and the button that deletes it."""

from __future__ import annotations

import streamlit as st

from dashboard import session, words
from dashboard.jobs import JobQueue
from dashboard.settings import Settings
from dashboard.store import StoreError

NOT_DELETED = (
    "Not deleted: pictures in folders on the server, which were never copied; files you downloaded; backups that the "
    "operator made."
)


def my_data(queue: JobQueue, settings: Settings) -> None:
    """Who the visitor is to the server, what is kept, for how long, and how to delete it."""
    person = session.person()
    if person.name:
        st.markdown(f"Signed in as **{words.plain(person.name)}** ({person.role}).")
        if session.can_sign_out():
            st.button("Sign out", icon=":material/logout:", on_click=st.logout)
    else:
        st.markdown(
            "You are not signed in. A random cookie of this browser tells your runs from those of others; it holds "
            "nothing about you."
        )
    try:
        runs = queue.store.runs(owner=person.key)
    except StoreError as error:
        st.error(words.plain(str(error)), icon=":material/heart_broken:")
        return
    days = f"for at most {settings.keep_days:g} days" if settings.keep_days else "until you delete them"
    st.markdown(
        f"- **{words.count(len(runs), 'run')}** of yours {'is' if len(runs) == 1 else 'are'} on this server, with the "
        f"pictures you sent for {'it' if len(runs) == 1 else 'them'}, {words.size(queue.store.stored(person.key))} in "
        f"all. They are kept {days}.\n"
        "- With a run are small copies of its pictures, to show them and to find near-duplicates.\n"
        "- Single pictures are in memory only, until you leave.\n"
        "- Nothing leaves this server."
    )
    with st.popover("Delete my data", icon=":material/delete_forever:"):
        st.markdown(
            "Deletes your runs with their pictures and results, and everything this server holds of you in memory. "
            "This cannot be undone."
        )
        sure = st.checkbox("I want all of it deleted", key="delete_sure")
        st.button(
            "Delete everything",
            type="primary",
            icon=":material/delete_forever:",
            disabled=not sure,
            on_click=session.delete_my_data,
        )
    deletion = session.last_deletion()
    if deletion is not None:
        shown = st.success if not deletion.problems else st.error
        shown(words.plain(deletion.sentence()), icon=":material/delete:")
        st.caption(NOT_DELETED)
