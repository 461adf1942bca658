"""The page of a visitor who has to sign in first."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st


def sign_in(providers: Sequence[str | None]) -> None:
    """Say that signing in is needed, with a button for every identity provider.

    Parameters
    ----------
    providers : sequence of str or None
        Names of `[auth.NAME]` in the secrets; None for the only one.
    """
    st.title("Please sign in")
    st.markdown("This server knows its visitors by name, so that nobody sees the pictures of somebody else.")
    if not providers:
        st.error(
            "No way of signing in is set up: the operator has to configure `[auth]` in secrets.toml, or let visitors "
            "in by the proxy's sign-in alone.",
            icon=":material/lock:",
        )
    for provider in providers:
        st.button(
            f"Sign in with {provider}" if provider else "Sign in",
            type="primary",
            icon=":material/login:",
            key=f"sign_in_{provider}",
            on_click=st.login,
            args=(provider,) if provider else (),
        )
