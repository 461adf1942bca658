"""A visitor in a script: speaks Streamlit's protocol to a real server, as a browser does, without drawing anything."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import requests
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect

RUN_SECONDS = 120.0
_TEXT = ("markdown", "alert", "heading", "text", "metric", "exception", "button")


class VisitError(RuntimeError):
    """The server did not do what a visitor may expect."""


def _client() -> requests.Session:
    """A connection for each request: one that is used again may be closed by the server in that very moment."""
    client = requests.Session()
    client.headers["Connection"] = "close"
    return client


@dataclass
class Analyst:
    """One browser tab.

    Attributes
    ----------
    elements : dict
        What the page shows, by place.
    states : dict
        Values of widgets, by id; a browser sends all of them each time.
    """

    url: str
    elements: dict[tuple[int, ...], Any] = field(default_factory=dict)
    states: dict[str, WidgetState] = field(default_factory=dict)
    query: str = ""
    page: str = ""
    _http: requests.Session = field(default_factory=_client)
    _socket: ClientConnection | None = None
    _session: str = ""
    _kept: dict[str, ForwardMsg] = field(default_factory=dict)

    async def open(self) -> None:
        """Load the page and connect."""
        await asyncio.to_thread(self._http.get, f"{self.url}/", timeout=30)
        await asyncio.to_thread(self._http.get, f"{self.url}/_stcore/health", timeout=30)
        cookies = "; ".join(f"{name}={value}" for name, value in self._http.cookies.items())
        self._socket = await connect(
            f"{self.url.replace('http', 'ws', 1)}/_stcore/stream",
            subprotocols=["streamlit", self._token()],  # type: ignore[list-item]
            additional_headers={"Cookie": cookies, "Origin": self.url},
            max_size=None,
            open_timeout=60,
        )
        await self.run()

    async def close(self) -> None:
        """Close the tab."""
        if self._socket is not None:
            await self._socket.close()
        self._http.close()

    async def go(self, page: str, query: str = "") -> float:
        """Open a page by its name in the address; returns the seconds until it stood."""
        self.page, self.query = page, query
        self.states.clear()
        return await self.run()

    async def run(self, *, click: str | None = None) -> float:
        """Have the page run, with one button pressed if asked; returns the seconds until it stood."""
        assert self._socket is not None
        message = BackMsg()
        rerun = message.rerun_script
        rerun.page_name, rerun.query_string = self.page, self.query
        rerun.widget_states.widgets.extend(self.states.values())
        if click is not None:
            rerun.widget_states.widgets.append(WidgetState(id=click, trigger_value=True))
        start = time.monotonic()
        await self._socket.send(message.SerializeToString())
        try:
            async with asyncio.timeout(RUN_SECONDS):
                await self._until_finished()
        except TimeoutError:
            raise VisitError(f"a page did not stand within {RUN_SECONDS:g} s") from None
        for element in self.elements.values():
            if element.WhichOneof("type") == "exception":
                raise VisitError(f"a page failed: {element.exception.message[:200]}")
        return time.monotonic() - start

    async def click(self, label: str) -> float:
        """Press a button by its label; returns the seconds until the page stood."""
        for element in self.elements.values():
            if element.WhichOneof("type") == "button" and element.button.label == label:
                return await self.run(click=element.button.id)
        raise VisitError(f"there is no button {label!r}")

    async def upload(self, name: str, data: bytes) -> float:
        """Hand a file to the page's first uploader; returns the seconds until the page stood."""
        assert self._socket is not None
        start = time.monotonic()
        uploader = next(
            (e.file_uploader for e in self.elements.values() if e.WhichOneof("type") == "file_uploader"), None
        )
        if uploader is None:
            raise VisitError("there is no uploader")
        message, request = BackMsg(), uuid.uuid4().hex
        message.file_urls_request.request_id = request
        message.file_urls_request.file_names.append(name)
        message.file_urls_request.session_id = self._session
        await self._socket.send(message.SerializeToString())
        while (answer := await self._receive()).WhichOneof("type") != "file_urls_response":
            continue
        place = answer.file_urls_response.file_urls[0]
        response = await asyncio.to_thread(
            self._http.put,
            f"{self.url}{place.upload_url}",
            files={"file": (name, data)},
            headers={"X-Xsrftoken": self._token()},
            timeout=120,
        )
        if response.status_code >= 400:
            raise VisitError(f"an upload was answered with {response.status_code}")
        state = WidgetState(id=uploader.id)
        info = state.file_uploader_state_value.uploaded_file_info.add()
        info.name, info.size, info.file_id = name, len(data), place.file_id
        info.file_urls.CopyFrom(place)
        self.states[uploader.id] = state
        await self.run()
        return time.monotonic() - start

    @property
    def text(self) -> str:
        """All text of the page."""
        parts = []
        for element in self.elements.values():
            kind = element.WhichOneof("type")
            if kind in _TEXT:
                shown = getattr(element, kind)
                parts += [str(getattr(shown, name)) for name in ("body", "label", "message") if hasattr(shown, name)]
        return "\n".join(parts)

    @property
    def run_id(self) -> str | None:
        """The run that the address names."""
        return next(iter(parse_qs(self.query).get("run", [])), None)

    def _token(self) -> str:
        return self._http.cookies.get("_streamlit_xsrf") or ""

    async def _receive(self) -> ForwardMsg:
        assert self._socket is not None
        message = ForwardMsg()
        message.ParseFromString(bytes(await self._socket.recv()))  # type: ignore[arg-type]
        if message.WhichOneof("type") == "ref_hash":
            known = self._kept.get(message.ref_hash)
            if known is None:
                raise VisitError("the server referred to a message that was never sent")
            place = message.metadata
            message = ForwardMsg()
            message.CopyFrom(known)
            message.metadata.CopyFrom(place)
        elif message.hash:
            self._kept[message.hash] = message
        return message

    async def _until_finished(self) -> None:
        while True:
            message = await self._receive()
            kind = message.WhichOneof("type")
            if kind == "new_session":
                self._session = message.new_session.initialize.session_id or self._session
                self.elements = {}
            elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
                self.elements[tuple(message.metadata.delta_path)] = message.delta.new_element
            elif kind == "page_info_changed":
                self.query = message.page_info_changed.query_string
            elif kind == "script_finished":
                if message.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                    continue
                self._kept = dict(list(self._kept.items())[-2000:])
                return
