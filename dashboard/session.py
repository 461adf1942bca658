"""What one browser tab remembers: every key of `st.session_state` that is not a widget's, in one place."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dashboard import memory, words
from dashboard.examination import Examination, Picture, examine
from dashboard.jobs import Job
from dashboard.people import LOCAL, Person, Visit, identify
from dashboard.resources import detector as shared_detector
from dashboard.resources import forget_result, job_queue
from dashboard.settings import get_settings
from dashboard.store import Run, StoreError
from model.detector import Detector

PICTURE = "picture"
EXAMINATION = "examination"
CHECKPOINT = "checkpoint"
EXPORT = "export"
_NUMBER = "picture_number"
_INPUT_KEYS = 4
_TAB, _ADOPTED, _DELETIONS, _DELETION, _VISITOR = "tab", "adopted", "deletions", "deletion", "visitor"


def initialise() -> None:
    """Called by the router before every page."""
    st.session_state.setdefault(PICTURE, None)
    st.session_state.setdefault(EXAMINATION, None)
    st.session_state.setdefault(CHECKPOINT, None)
    st.session_state.setdefault(_NUMBER, 0)
    st.session_state.setdefault(_TAB, secrets.token_urlsafe(16))


class SignInNeeded(RuntimeError):
    """The visitor is nobody yet."""


def person() -> Person:
    """Whoever sits at this tab.

    Raises
    ------
    SignInNeeded
        If that is known only after signing in; the router lets nobody past without.
    """
    headers = st.context.headers
    forwarded = any(name in headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-Ip"))
    settings = get_settings()
    header = settings.proxy_user_header
    found = identify(
        Visit(
            user=st.user.to_dict(),
            provider=bool(providers()),
            proxy_name=None if header is None else (headers.get(header) or "").strip(),
            cookies=st.context.cookies.to_dict(),
            alone=st.get_option("server.address") in ("127.0.0.1", "::1", "localhost") and not forwarded,
            tab=st.session_state.setdefault(_TAB, secrets.token_urlsafe(16)),
        ),
        settings,
    )
    if found is None:
        raise SignInNeeded
    return found


def owner() -> str | None:
    """Whose runs this visitor may see; None stands for everybody's."""
    return None if get_settings().shared_runs else person().key


def providers() -> list[str | None]:
    """Names of the configured identity providers; [None] for one without a name, [] without any."""
    try:
        section = st.secrets.get("auth")
    except StreamlitSecretNotFoundError:
        return []
    if not section:
        return []
    return ([None] if "client_id" in section else []) + [
        str(name) for name in section if hasattr(section[name], "keys") and "client_id" in section[name]
    ]


def can_sign_out() -> bool:
    """Whether this visitor signed in here, and not at the proxy."""
    return bool(providers()) and bool(st.user.to_dict().get("is_logged_in"))


def admit() -> bool:
    """Called by the router before every page: False for a visitor who has to sign in first."""
    try:
        visitor = person()
    except SignInNeeded:
        return False
    if st.session_state.setdefault(_VISITOR, visitor.key) != visitor.key:
        _clear()  # somebody else signed in, and the tab connected again
        visitor = person()
        st.session_state[_VISITOR] = visitor.key
    context = get_script_run_ctx()
    deletions = memory.tabs.seen(context.session_id if context else "", visitor.key)
    if st.session_state.setdefault(_DELETIONS, deletions) != deletions:
        _clear()  # another tab of the same person had everything deleted
        st.session_state[_DELETIONS] = deletions
    if visitor.key == LOCAL and not st.session_state.get(_ADOPTED):
        st.session_state[_ADOPTED] = True
        try:
            job_queue().store.adopt(LOCAL)
        except StoreError as error:
            st.error(words.plain(str(error)), icon=":material/heart_broken:")
    return True


def detector() -> Detector:
    """The detector of the checkpoint this tab has chosen."""
    return shared_detector(st.session_state.get(CHECKPOINT))


def keep_picture(name: str, data: bytes) -> Picture:
    """Make a picture the one that Classify and Explain look at."""
    kept = Picture(name, data, hashlib.sha256(data).hexdigest())
    st.session_state[PICTURE] = kept
    return kept


def drop_picture() -> None:
    """Forget the picture and everything learnt from it, and empty the inputs it came from."""
    st.session_state[PICTURE] = None
    st.session_state[EXAMINATION] = None
    st.session_state[_NUMBER] += 1


def input_key(name: str) -> str:
    """Widget key of a picture input; it changes when the picture is dropped, which empties the widget.

    The keys come round again, by when the widget is long empty: of each new one Streamlit keeps a note for good.
    """
    return f"{name}_{st.session_state[_NUMBER] % _INPUT_KEYS}"


def picture() -> Picture | None:
    """The picture of this tab."""
    return st.session_state.get(PICTURE)


def examination() -> Examination | None:
    """The picture's examination, computed when the picture or the checkpoint changed."""
    current = picture()
    if current is None:
        return None
    judge = detector()
    kept: tuple[tuple[str, str, str], Examination] | None = st.session_state.get(EXAMINATION)
    key = (current.sha256, current.name, judge.checkpoint.sha256)
    if kept is None or kept[0] != key:
        kept = (key, examine(judge, current))
        st.session_state[EXAMINATION] = kept
    return kept[1]


def remember_job(job: Job) -> None:
    """Put a run into the page's address and into this tab."""
    st.session_state[f"job_{job.kind}"] = job.id
    st.query_params["run"] = job.id


def current_job(kind: str) -> Job | None:
    """The run of the page's address, or without one the run this tab opened last; None when it is not of this kind.

    Raises
    ------
    dashboard.store.StoreError
        If the run is damaged.
    """
    asked = st.query_params.get("run")
    job = job_queue().get(asked or st.session_state.get(f"job_{kind}"), owner=owner())
    if job is None or job.kind != kind:
        return None
    remember_job(job)
    return job


def forget_job(kind: str) -> None:
    """Leave a run; it goes on until it is deleted."""
    st.session_state.pop(f"job_{kind}", None)
    st.query_params.pop("run", None)


def keep_export(run_id: str, made: Any) -> None:
    """Hold what was exported of a run until the next export, or until the run is deleted here."""
    st.session_state[EXPORT] = (run_id, made)


def export(run_id: str) -> Any:
    """What was exported last, if it was of this run."""
    kept, made = st.session_state.get(EXPORT) or (None, None)
    return made if kept == run_id else None


def remove_job(job: Job) -> None:
    """Delete a run with its results and files, leave it, and say what was deleted."""
    queue = job_queue()
    try:
        deleted = queue.remove(job)
    except StoreError as error:
        st.toast(words.plain(str(error)), icon=":material/error:", duration="long")
        return
    forget_result()
    if export(job.id) is not None:
        st.session_state[EXPORT] = None
    if job.id in (st.session_state.get(f"job_{job.kind}"), st.query_params.get("run")):
        forget_job(job.kind)
    if deleted is not None:
        st.toast(
            f"Deleted **{words.plain(deleted.name)}**: {words.count(deleted.uploads, 'uploaded file')}, "
            f"{words.count(deleted.others, 'file')} of results, {words.size(deleted.size)}. Pictures in folders on the "
            "server were not touched.",
            icon=":material/delete:",
            duration="long",
        )


def remove_runs(runs: Iterable[Run]) -> None:
    """Delete runs of other people, as an administrator, without naming them."""
    if not person().administers:
        return
    deletion = _delete(runs)
    st.toast(words.plain(deletion.sentence()), icon=":material/delete:", duration="long")


@dataclass
class Deletion:
    """What a deletion took with it."""

    runs: int = 0
    uploads: int = 0
    others: int = 0
    size: int = 0
    memory: int = 0
    problems: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        """What was deleted, and what could not be."""
        text = (
            f"Deleted {words.count(self.runs, 'run')} with {words.count(self.uploads, 'uploaded file')} and "
            f"{words.count(self.others, 'file')} of results ({words.size(self.size)}), and "
            f"{words.size(self.memory)} of uploads in memory."
        )
        if self.problems:
            text += f" {words.count(len(self.problems), 'run')} could not be deleted: {self.problems[0]}"
        return text


def delete_my_data() -> None:
    """Delete all runs of this visitor, and all that any tab of theirs holds in memory.

    A run that is being worked on stops first; its files go within seconds. Other tabs of the same visitor forget their
    picture when they are used next.
    """
    visitor = person()
    deletion = _delete(job_queue().store.runs(owner=visitor.key))
    deletion.memory = memory.forget(memory.tabs.delete(visitor.key))
    _clear()
    st.session_state[_DELETION] = deletion


def last_deletion() -> Deletion | None:
    """What `delete_my_data` deleted, to be said once."""
    return st.session_state.pop(_DELETION, None)


def _delete(runs: Iterable[Run]) -> Deletion:
    queue, total = job_queue(), Deletion()
    for run in runs:
        try:
            deleted = queue.remove(Job.of(run))
        except StoreError as error:
            total.problems.append(str(error))
            continue
        if deleted is not None:
            total.runs += 1
            total.uploads += deleted.uploads
            total.others += deleted.others
            total.size += deleted.size
    forget_result()
    return total


def _clear() -> None:
    """Forget all that this tab holds. Inputs get new keys, which empties them in the browser too."""
    number = st.session_state.get(_NUMBER, 0) + 1
    for name in list(st.session_state):
        del st.session_state[name]
    st.cache_data.clear()  # small pictures and maps, by tab
    st.query_params.clear()
    initialise()
    st.session_state[_NUMBER] = number


def choose_checkpoint(name: str | None) -> None:
    """Use another bundled checkpoint in this tab; None returns to the default."""
    st.session_state[CHECKPOINT] = name
