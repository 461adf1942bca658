"""Who a visitor is, what that person may do, and whose runs are whose.

A run belongs to the person who began it. People are known, strongest first, by signing in with an identity provider, by
the name that a trusted proxy passes on, or by the secret cookie of their browser. Only a hash of any of these is kept
with a run: from the store alone nobody can pass for its owner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dashboard.guards import token_of
from dashboard.settings import ADMINISTRATOR, ANALYST, Role, Settings

LOCAL = "local"


@dataclass(frozen=True)
class Person:
    """Whoever sits at the other end.

    Attributes
    ----------
    key : str
        Owner of this person's runs, as the run store keeps it.
    name : str or None
        Of somebody who signed in; not kept anywhere.
    role : {"viewer", "analyst", "administrator"}
        A viewer examines single pictures and looks at own runs; an analyst also begins runs; an administrator also
        sees that runs of others exist, without their names and pictures, and may delete them.
    """

    key: str
    name: str | None
    role: Role

    @property
    def may_run(self) -> bool:
        """Whether this person may begin and continue runs."""
        return self.role in (ANALYST, ADMINISTRATOR)

    @property
    def administers(self) -> bool:
        """Whether this person may look after the runs of others."""
        return self.role == ADMINISTRATOR


@dataclass(frozen=True)
class Visit:
    """What a connection tells about the visitor.

    Attributes
    ----------
    user : mapping
        Claims of the identity provider (`st.user`).
    provider : bool
        An identity provider is configured.
    proxy_name : str or None
        The name that a trusted proxy vouches for; '' when it gives none, None without such a proxy.
    cookies : mapping
    alone : bool
        The server listens on this machine alone and no proxy stands before it.
    tab : str
        Random text of this browser tab, for a visitor of whom nothing else is known.
    """

    user: Mapping[str, Any]
    provider: bool
    proxy_name: str | None
    cookies: Mapping[str, str]
    alone: bool
    tab: str


def identify(visit: Visit, settings: Settings) -> Person | None:
    """The person of a visit; None for one who has to sign in first."""
    if visit.provider and settings.sign_in is not False:
        if not visit.user.get("is_logged_in"):
            return None
        issuer, subject = str(visit.user.get("iss", "")), str(visit.user.get("sub") or visit.user.get("email") or "")
        if not subject:
            return None
        trusted = visit.user.get("email_verified") in (True, "true")  # some providers let people state any address
        address = str(visit.user.get("email") or "") if trusted else ""
        shown = str(visit.user.get("name") or visit.user.get("email") or "signed in")
        return Person(_key("person", issuer, subject), shown, _role(address, settings))
    if visit.proxy_name is not None:
        name = visit.proxy_name
        return Person(_key("proxy", name), name, _role(name, settings)) if name else None
    if settings.sign_in:
        return None
    role = settings.default_role
    if token := token_of(dict(visit.cookies)):
        return Person(_key("visitor", token), None, role)
    return Person(LOCAL if visit.alone else _key("tab", visit.tab), None, role)


def _key(kind: str, *parts: str) -> str:
    digest = hashlib.sha256("\0".join((kind, *parts)).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{kind}-{digest[:40]}"


def _role(address: str, settings: Settings) -> Role:
    listed = {name.casefold(): role for name, role in settings.roles.items()}
    return listed.get(address.casefold(), settings.default_role) if address else settings.default_role
