"""From what a visitor chose to a running job. Problems are shown where the visitor stands, not raised."""

from __future__ import annotations

import shutil
from pathlib import Path

import streamlit as st

from dashboard import tasks, words
from dashboard.intake import IntakeError, allowed, from_uploads, zip_limits
from dashboard.jobs import Busy, Job, JobQueue
from dashboard.settings import Settings
from dashboard.widgets.many_input import Chosen
from model.dataset import LabelError, LabelledSet, from_manifest, from_source_set
from model.detector import Detector
from model.sources import SourceError, SourceSet, from_folder, from_zip

UNLABELLED = "not_applicable"
_MANIFESTS = (".csv", ".tsv", ".parquet")


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
    return from_folder(path) if path.is_dir() else from_zip(path, zip_limits(settings))


def labelled_of(chosen: Chosen, settings: Settings, *, folder: Path | None = None) -> LabelledSet:
    """The labelled set that was chosen.

    Raises
    ------
    IntakeError, SourceError, LabelError
        With a message for the visitor.
    """
    if chosen.place is not None and chosen.place.path.suffix.lower() in _MANIFESTS:
        return from_manifest(allowed(chosen.place.path, settings))
    return from_source_set(_with_an_answer(sources_of(chosen, settings, folder=folder)))


def _with_an_answer(found: SourceSet) -> SourceSet:
    """The set without folders named `not_applicable`: pictures that have no face have no label either."""
    kept = [source for source in found if UNLABELLED not in source.name.split("/")[:-1]]
    left = [(source.name, "has no face to judge") for source in found if UNLABELLED in source.name.split("/")[:-1]]
    return SourceSet(kept, [*found.skipped, *left], root=found.root)


def describe(chosen: Chosen, settings: Settings) -> SourceSet | None:
    """What a bulk run would check; None, with a message, when it cannot be used."""
    try:
        return sources_of(chosen, settings)
    except (IntakeError, SourceError) as error:
        _explain(error, chosen)
        return None


def describe_labels(chosen: Chosen, settings: Settings) -> LabelledSet | None:
    """What an evaluation would measure on; None, with a message, when labels cannot be told."""
    try:
        return labelled_of(chosen, settings)
    except (IntakeError, SourceError, LabelError) as error:
        _explain(error, chosen)
        return None


def start_bulk(queue: JobQueue, detector: Detector, chosen: Chosen, settings: Settings) -> Job | None:
    """Queue a bulk run; None, with a message, when it cannot start."""
    folder = queue.new_folder()
    try:
        found = sources_of(chosen, settings, folder=folder)

        def task(job: Job) -> tasks.BulkResult:
            result = tasks.classify(job, detector, found, batch_size=settings.batch_size)
            result.skipped = found.skipped
            return result

        return queue.submit("bulk", chosen.title, len(found), folder, task)
    except (IntakeError, SourceError, Busy, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        _explain(error, chosen)
        return None


def start_evaluation(queue: JobQueue, detector: Detector, chosen: Chosen, settings: Settings) -> Job | None:
    """Queue an evaluation; None, with a message, when it cannot start."""
    folder = queue.new_folder()
    try:
        labelled = labelled_of(chosen, settings, folder=folder)

        def task(job: Job) -> tasks.EvaluationResult | None:
            return tasks.evaluate(job, detector, labelled, batch_size=settings.batch_size)

        return queue.submit("evaluate", chosen.title, len(labelled), folder, task)
    except (IntakeError, SourceError, LabelError, Busy, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        _explain(error, chosen)
        return None


def _explain(error: Exception, chosen: Chosen) -> None:
    text = error.strerror or "the server's disk" if isinstance(error, OSError) else str(error)
    if chosen.place is not None:
        # The server's own layout is not the visitor's business.
        text = text.replace(str(chosen.place.path.resolve()), chosen.place.label).replace(
            str(chosen.place.path), chosen.place.label
        )
    st.error(words.plain(text), icon=":material/error:")
