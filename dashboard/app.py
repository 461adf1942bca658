"""The server: what guards it, whether it is ready, and the preloaded network, around `main.py`.

`reality-check app`, `streamlit run dashboard/app.py` and `uvicorn dashboard.app:app` all start this application.
`streamlit run dashboard/main.py` works too, without what is added here.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from dashboard import logs, memory
from dashboard.guards import (
    BodyLimit,
    ClosedRoutes,
    SameOrigin,
    SecurityHeaders,
    UploadQuota,
    VisitorCookie,
    VisitorLimit,
)
from dashboard.settings import Settings, get_settings, unknown_variables
from dashboard.store import StoreError
from model.imaging import decoding_by
from model.sandbox import Sandbox

CHECK_SECONDS = 10.0
_log = logging.getLogger(__name__)


async def ready(request: Request) -> JSONResponse:
    """200 when a visitor's picture can be judged and a run be kept; 503 with the reason otherwise.

    For load balancers and health checks: the network is loaded, the worker of the queue lives, the run folder takes
    writes, and its disk has room.
    """
    reason = app.state.get("error") or (None if app.state.get("ready") else "starting")
    if reason is None:
        try:
            with anyio.fail_after(CHECK_SECONDS):
                reason = await anyio.to_thread.run_sync(_unable, abandon_on_cancel=True)
        except TimeoutError:
            reason = "the run folder does not answer"
    if reason is not None:
        return JSONResponse({"ready": False, "reason": reason}, status_code=503)
    return JSONResponse({"ready": True, "checkpoint": app.state["checkpoint"]})


def _unable() -> str | None:
    """Why the server cannot do its work just now; None when it can."""
    from dashboard import resources

    queue = resources.job_queue()
    if not queue.working:
        return "the queue has ended"
    try:
        queue.store.check()
        if queue.store.free() < get_settings().min_free_mb * 2**20:
            return "the disk is nearly full"
    except (StoreError, OSError):
        _log.exception("the run folder cannot be used")
        return "the run folder cannot be used"
    return None


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[dict[str, Any]]:
    """Load the network before the first visitor; at shutdown stop the queue, whose runs the next start resumes."""
    from dashboard import resources  # cached functions are decorated once the runtime is up

    settings = get_settings()
    logs.configure(settings)
    for name, nearest in unknown_variables(os.environ).items():
        _log.warning("%s is no setting and has no effect; the nearest one is %s", name, nearest)
    state: dict[str, Any] = {"ready": False, "error": None, "checkpoint": None}
    if settings.preload:
        try:
            loaded = await anyio.to_thread.run_sync(resources.detector)
            state |= {"ready": True, "checkpoint": loaded.checkpoint.name}
        except Exception as error:  # noqa: BLE001 - the pages explain it; a dead server could not
            _log.exception("the default checkpoint could not be loaded")
            state["error"] = f"{type(error).__name__}: the default checkpoint could not be loaded"
    else:
        state |= {"ready": True}
    decoders = ExitStack()
    if settings.isolate_decoding:
        sandbox = decoders.enter_context(Sandbox(seconds=settings.decode_seconds, memory_mb=settings.decode_mb))
        decoders.enter_context(decoding_by(sandbox))
    queue = resources.job_queue()
    gc.collect()
    gc.freeze()  # Streamlit has garbage collected after every run of a page: not among what stays for good
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(memory.sweep, float(st.get_option("server.disconnectedSessionTTL") or 60))
            yield state
            tasks.cancel_scope.cancel()
    finally:
        await anyio.to_thread.run_sync(queue.close)
        decoders.close()


def middleware(settings: Settings) -> list[Middleware]:
    """What every request passes, the outermost first."""
    return [
        Middleware(SecurityHeaders),
        *([] if settings.open_metrics else [Middleware(ClosedRoutes)]),
        Middleware(SameOrigin),
        Middleware(VisitorCookie),
        Middleware(VisitorLimit, max_visitors=settings.max_visitors),
        Middleware(BodyLimit),
        Middleware(
            UploadQuota,
            max_files=settings.session_upload_files,
            max_bytes=settings.session_upload_mb * 2**20,
            max_file_bytes=settings.max_upload_mb * 2**20,
            max_held_bytes=settings.total_upload_mb * 2**20,
            held=memory.held,
            known=memory.tabs.__contains__,
            deadline_seconds=settings.upload_seconds,
        ),
    ]


app = st.App(
    Path(__file__).resolve().parent / "main.py",
    routes=[Route("/api/ready", ready)],
    middleware=middleware(get_settings()),
    lifespan=lifespan,
)

if __name__ == "__main__":
    app.run()
