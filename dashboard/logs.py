"""The server's log: one line per event, and nothing in it of what visitors sent.

Messages of errors often hold names of files, which name people; so an error is written as its type and where it was
raised, unless the setting `log_details` asks for its message.
"""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
from pathlib import Path
from types import TracebackType

from dashboard.settings import Settings

_RUN = re.compile(r"([?&](?:run|other)=)[\w-]+", re.ASCII)
_OURS = ("dashboard", "model", "pages")
_BARE_MODE = "streamlit.runtime.scriptrunner_utils.script_run_context"


class LineFormatter(logging.Formatter):
    """Log records as text or as JSON objects, each on one line.

    Parameters
    ----------
    as_json : bool
    details : bool
        Write messages and full tracebacks of errors.
    """

    def __init__(self, *, as_json: bool, details: bool) -> None:
        super().__init__()
        self.as_json = as_json
        self.details = details

    def format(self, record: logging.LogRecord) -> str:
        """One line, or with details in text form a line and a traceback."""
        message = _RUN.sub(r"\1…", record.getMessage() if self._speaks(record) else str(record.msg))
        entry: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname,
            "logger": record.name,
            "message": "".join(character if character.isprintable() else " " for character in message),
        }
        error, trace = (record.exc_info[1], record.exc_info[2]) if record.exc_info else (None, None)
        if error is not None:
            entry["error"] = type(error).__name__
            entry["at"] = place(trace)
        full = "".join(traceback.format_exception(error)) if error is not None and self.details else ""
        if self.as_json:
            return json.dumps(entry | ({"traceback": full} if full else {}), ensure_ascii=False)
        text = " ".join(str(entry[name]) for name in ("time", "level", "logger", "message"))
        text += f" [{entry['error']} at {entry['at']}]" if error is not None else ""
        return f"{text}\n{full}".rstrip()

    def _speaks(self, record: logging.LogRecord) -> bool:
        """Whether a record's values may be written: those of a record about an error may be the visitor's."""
        return self.details or not (record.exc_info or record.levelno >= logging.ERROR) or not record.args


def place(trace: TracebackType | None) -> str:
    """Module and line of the innermost frame of ours, or of all; `?` without a traceback."""
    frames = traceback.extract_tb(trace) if trace else []
    ours = [frame for frame in frames if Path(frame.filename).parts[-2:-1] and _top(frame.filename) in _OURS]
    chosen = (ours or list(frames))[-1:]
    return f"{_top(chosen[0].filename)}/{Path(chosen[0].filename).name}:{chosen[0].lineno}" if chosen else "?"


def configure(settings: Settings) -> None:
    """Give every log handler of this process our form."""
    formatter = LineFormatter(as_json=settings.log_format == "json", details=settings.log_details)
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler())
    for name in [None, *list(logging.root.manager.loggerDict)]:
        for handler in logging.getLogger(name).handlers:
            handler.setFormatter(formatter)
    logging.getLogger(_BARE_MODE).setLevel(logging.ERROR)  # it warns of cached resources asked for outside of a page


def _top(filename: str) -> str:
    """The package of ours that a file is in, or else its folder."""
    parts = Path(filename).parts
    return next((part for part in parts if part in _OURS), parts[-2] if len(parts) > 1 else "")
