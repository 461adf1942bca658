"""What a person states before a run begins, where the administrator asks for it."""

from __future__ import annotations

import streamlit as st

from dashboard.settings import Settings

MIN_LENGTH, MAX_LENGTH = 10, 300


def confirm_purpose(settings: Settings, *, key: str) -> tuple[bool, str | None]:
    """Ask for the purpose of a run; returns whether it may begin, and the purpose.

    Nothing is asked unless the setting `confirm_purpose` says so.
    """
    if not settings.confirm_purpose:
        return True, None
    with st.container(border=True):
        text = st.text_input(
            "What is this run for?",
            max_chars=MAX_LENGTH,
            key=f"{key}_purpose",
            placeholder="For example: check pictures sent in for the story on …",
            help="Kept with the run.",
        )
        sure = st.checkbox(
            "I may process these pictures of people for this purpose, and nobody will be judged by a verdict alone.",
            key=f"{key}_sure",
        )
    purpose = " ".join(text.split())
    return sure and is_stated(purpose), purpose or None


def is_stated(purpose: str | None) -> bool:
    """Whether a text can be a purpose."""
    return purpose is not None and MIN_LENGTH <= len(purpose) <= MAX_LENGTH
