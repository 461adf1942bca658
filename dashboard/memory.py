"""What the server's memory holds of visitors' files: how much, whose, and how it is let go.

Streamlit keeps an upload until its session is evicted, which it looks at only when something else happens. Here uploads
go as soon as they were taken, when their tab has been closed for a while, or when their owner wants them deleted.
What was freed goes back to the operating system, where the C library does not see to that by itself.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections import Counter
from collections.abc import Iterable

import anyio
from streamlit import runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx

SWEEP_SECONDS = 15.0


class Tabs:
    """Which browser tabs belong to whom, and how often their owner had everything deleted."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}  # session -> owner
        self._deletions: Counter[str] = Counter()
        self._lock = threading.Lock()

    def seen(self, session: str, owner: str) -> int:
        """Note a tab; returns how often its owner had everything deleted."""
        with self._lock:
            self._owners[session] = owner
            return self._deletions[owner]

    def delete(self, owner: str) -> list[str]:
        """Have every tab of an owner forget what it holds; returns these tabs."""
        with self._lock:
            self._deletions[owner] += 1
            return [session for session, other in self._owners.items() if other == owner]

    def keep(self, sessions: set[str]) -> None:
        """Forget all tabs but these."""
        with self._lock:
            self._owners = {session: owner for session, owner in self._owners.items() if session in sessions}
            alive = set(self._owners.values())
            self._deletions = Counter({owner: count for owner, count in self._deletions.items() if owner in alive})

    def __contains__(self, session: object) -> bool:
        """Whether a tab is that of a visitor who was let in."""
        return session in self._owners

    def __len__(self) -> int:
        """Count of the tabs."""
        return len(self._owners)


tabs = Tabs()


def held() -> int:
    """Bytes of uploads in memory."""
    return sum(_sizes().values())


def forget(sessions: list[str]) -> int:
    """Drop the uploads of these tabs from memory; returns their bytes."""
    manager = _manager()
    if manager is None:
        return 0
    sizes = _sizes()
    for session in sessions:
        manager.remove_session_files(session)
    return sum(sizes.get(session, 0) for session in sessions)


def release(uploads: Iterable[object]) -> None:
    """Drop single uploads of this tab that are kept elsewhere by now; what was not uploaded is passed over.

    Without it a tab that is worked in all day holds every file that it was ever given, up to its quota.
    """
    manager, context = _manager(), get_script_run_ctx()
    if manager is None or context is None:
        return
    for upload in uploads:
        if file_id := getattr(upload, "file_id", None):
            manager.remove_file(session_id=context.session_id, file_id=file_id)


async def sweep(keep_seconds: float) -> None:
    """Drop, for as long as the server runs, the uploads of tabs that were closed `keep_seconds` ago; then `trim`."""
    closed: dict[str, float] = {}
    while True:
        await anyio.sleep(SWEEP_SECONDS)
        closed = swept(closed, keep_seconds)
        await anyio.to_thread.run_sync(trim)


def swept(closed: dict[str, float], keep_seconds: float) -> dict[str, float]:
    """One round of `sweep`: takes and returns when each closed tab was first found closed."""
    if not runtime.exists():
        return {}
    server, now = runtime.get_instance(), time.monotonic()
    known = set(_sizes()) | set(tabs._owners)
    active = {session for session in known if server.is_active_session(session)}
    closed = {session: closed.get(session, now) for session in known - active}
    over = [session for session, since in closed.items() if now - since >= keep_seconds]
    forget(over)
    tabs.keep(known - set(over))
    return {session: since for session, since in closed.items() if session not in over}


def trim() -> bool:
    """Give freed memory back to the operating system; returns whether there was any, and a way to do it (glibc's).

    Pictures and networks leave holes in the heaps of many threads; glibc gives back only what is free at a heap's end.
    """
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False


def _manager() -> MemoryUploadedFileManager | None:
    manager = runtime.get_instance().uploaded_file_mgr if runtime.exists() else None
    return manager if isinstance(manager, MemoryUploadedFileManager) else None


def _sizes() -> dict[str, int]:
    """Bytes of uploads by tab."""
    manager = _manager()
    if manager is None:
        return {}
    # Copies: other threads add and remove files meanwhile.
    return {
        session: sum(len(file.data) for file in list(files.values()))
        for session, files in list(manager.file_storage.items())
    }
