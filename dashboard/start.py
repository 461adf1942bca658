"""From what a visitor chose to a running job. Problems are shown where the visitor stands, not raised."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import streamlit as st

from dashboard import memory, resources, session, tasks, words
from dashboard.intake import IntakeError, allowed, from_uploads, zip_limits
from dashboard.jobs import Busy, Job, JobQueue
from dashboard.people import Person
from dashboard.settings import Settings, get_settings
from dashboard.store import BULK, EVALUATION, Run, StoreError
from dashboard.widgets.many_input import Chosen
from dashboard.widgets.purpose import is_stated
from model.dataset import MANIFEST_SUFFIXES, LabelError, LabelledSet, from_manifest, from_source_set
from model.detector import Detector
from model.sources import SourceError, SourceSet, from_folder, from_zip

UNLABELLED = "not_applicable"


def sources_of(chosen: Chosen, settings: Settings, *, folder: Path | None = None) -> SourceSet:
    """The images that were chosen; uploads are written to `folder` when there is one.

    Raises
    ------
    IntakeError, SourceError
        With a message for the visitor.
    """
    if chosen.place is None:
        return from_uploads(chosen.uploads, settings, folder=folder)
    path = allowed(chosen.place.path, settings)
    return _pictures_in(path, path.stat().st_mtime_ns, settings)


def labelled_of(chosen: Chosen, settings: Settings, *, folder: Path | None = None) -> LabelledSet:
    """The labelled set that was chosen.

    Raises
    ------
    IntakeError, SourceError, LabelError
        With a message for the visitor.
    """
    if chosen.place is None:
        return from_source_set(_with_an_answer(from_uploads(chosen.uploads, settings, folder=folder)))
    path = allowed(chosen.place.path, settings)
    return _labels_in(path, path.stat().st_mtime_ns, settings)


# A page asks at every click, and once more to start; a large folder takes seconds to read. What was found serves for a
# moment, to every visitor who may look there, unless the place itself was changed. Nobody changes what is returned.


@st.cache_resource(ttl="30s", max_entries=2, show_spinner="Looking for pictures …")
def _pictures_in(path: Path, changed: int, _settings: Settings) -> SourceSet:  # `changed` is part of the key
    return from_folder(path) if path.is_dir() else from_zip(path, zip_limits(_settings))


@st.cache_resource(ttl="30s", max_entries=2, show_spinner="Reading the labels …")
def _labels_in(path: Path, changed: int, _settings: Settings) -> LabelledSet:
    if path.suffix.lower() in MANIFEST_SUFFIXES and path.is_file():
        return from_manifest(path)
    return from_source_set(_with_an_answer(_pictures_in(path, changed, _settings)))


def _with_an_answer(found: SourceSet) -> SourceSet:
    """The set without folders named `not_applicable`: pictures that have no face have no label either."""
    kept = [source for source in found if UNLABELLED not in source.name.split("/")[:-1]]
    left = [(source.name, "has no face to judge") for source in found if UNLABELLED in source.name.split("/")[:-1]]
    return SourceSet(kept, [*found.skipped, *left], root=found.root)


def describe(chosen: Chosen, settings: Settings) -> SourceSet | None:
    """What a bulk run would check; None, with a message, when it cannot be used."""
    try:
        return sources_of(chosen, settings)
    except (IntakeError, SourceError, OSError) as error:
        _explain(error, chosen)
        return None


def describe_labels(chosen: Chosen, settings: Settings) -> LabelledSet | None:
    """What an evaluation would measure on; None, with a message, when labels cannot be told."""
    try:
        return labelled_of(chosen, settings)
    except (IntakeError, SourceError, LabelError, OSError) as error:
        _explain(error, chosen)
        return None


def start_bulk(
    queue: JobQueue, detector: Detector, chosen: Chosen, settings: Settings, *, purpose: str | None = None
) -> Job | None:
    """Queue a bulk run for a stated purpose; None, with a message, when it cannot start."""
    return _start(
        BULK,
        queue,
        detector,
        chosen,
        settings,
        lambda run: sources_of(chosen, settings, folder=run.uploads),
        purpose=purpose,
    )


def start_evaluation(
    queue: JobQueue,
    detector: Detector,
    chosen: Chosen,
    settings: Settings,
    *,
    delivery: str = "clean",
    purpose: str | None = None,
) -> Job | None:
    """Queue an evaluation on images as tier `delivery` brings them; None, with a message, when it cannot start."""
    return _start(
        EVALUATION,
        queue,
        detector,
        chosen,
        settings,
        lambda run: labelled_of(chosen, settings, folder=run.uploads),
        delivery=delivery,
        purpose=purpose,
    )


def _start(
    kind: str,
    queue: JobQueue,
    detector: Detector,
    chosen: Chosen,
    settings: Settings,
    read: Callable[[Run], SourceSet | LabelledSet],
    *,
    delivery: str = "clean",
    purpose: str | None = None,
) -> Job | None:
    store = queue.store
    run = None
    try:
        person = session.person()
        if settings.confirm_purpose and not is_stated(purpose):
            raise IntakeError("State what this run is for.")
        store.tidy(settings.keep_days)
        check_room(queue, person, settings)
        run = store.create(
            kind,
            chosen.title,
            checkpoint=detector.checkpoint.name,
            checkpoint_sha256=detector.checkpoint.sha256,
            settings=tasks.recipe(detector, settings, delivery=delivery),
            origin=None if chosen.place is None else str(chosen.place.path.resolve()),
            owner=person.key,
            purpose=purpose,
        )
        inputs = read(run)
        tasks.keep_inputs(run, inputs)
        run = store.update(run.id, total=len(inputs)) or run
        job = resources.enqueue(queue, run)
    except BaseException as error:  # whatever it was: a run that cannot begin must not wait for ever
        if run is not None:
            with suppress(StoreError):  # out of sight all the same
                store.discard(run.id)
        if not isinstance(error, (IntakeError, SourceError, LabelError, StoreError, Busy, OSError)):
            raise
        _explain(error, chosen)
        return None
    memory.release(chosen.uploads)  # the run's folder has them
    return job


def check_room(queue: JobQueue, person: Person, settings: Settings) -> None:
    """See that a person may begin a run, and that there is room for it.

    Raises
    ------
    IntakeError
        If the person's role is too low, or too much of theirs is kept.
    Busy
        If too many runs of theirs wait.
    StoreError
        If the disk is nearly full.
    """
    if not person.may_run:
        raise IntakeError("Your role lets you look at runs and examine single pictures, and not begin runs.")
    store = queue.store
    if store.free() < settings.min_free_mb * 2**20:
        raise StoreError("The server's disk is nearly full. Delete runs you no longer need, or tell the operator.")
    check_turn(queue, person, settings)
    if store.stored(person.key) >= settings.owner_stored_mb * 2**20:
        raise IntakeError(
            f"Your runs take more than {settings.owner_stored_mb:,} MB on this server. Delete some of them first."
        )


def check_turn(queue: JobQueue, person: Person, settings: Settings) -> None:
    """See that not too many runs of a person wait already; `Busy` otherwise."""
    if queue.unfinished(person.key) >= settings.owner_queued_jobs:
        raise Busy(
            f"{settings.owner_queued_jobs} runs of yours wait or run already. Wait for one of them, or pause or cancel "
            "it."
        )


def go_on(queue: JobQueue, job: Job) -> None:
    """Continue a run that was stopped; says why when it cannot be."""
    run, person = queue.store.get(job.id, owner=session.owner()), session.person()
    try:
        if run is not None and person.may_run:
            check_turn(queue, person, get_settings())
            resources.enqueue(queue, run)
    except (Busy, StoreError) as error:
        st.toast(words.plain(str(error)), icon=":material/error:")


def _explain(error: Exception, chosen: Chosen) -> None:
    text = str(error)
    if isinstance(error, OSError):
        why = error.strerror or "the disk does not say why"
        text = (
            f"The pictures could not be read or stored ({why}). Delete runs that are no longer needed and try again, "
            "or tell whoever runs this server."
        )
    if chosen.place is not None:
        # The server's own layout is not the visitor's business.
        text = text.replace(str(chosen.place.path.resolve()), chosen.place.label).replace(
            str(chosen.place.path), chosen.place.label
        )
    st.error(words.plain(text), icon=":material/error:")
