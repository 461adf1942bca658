"""Start the application with the shipped defaults: what `reality-check app` does.

Streamlit reads `.streamlit/config.toml` in the working directory and the user's home only, so an installed command
would run without our limits and theme. Here they are passed explicitly; what the user set in a file of their own or in
`STREAMLIT_...` variables still wins, but for address and port: those are the command's, whatever else names them.
"""

from __future__ import annotations

import os
import re
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamlit import config

from dashboard.settings import ROOT, Settings

_NAME = Path(".streamlit") / "config.toml"


class ServerError(RuntimeError):
    """The server cannot start; the message says what to do."""


def shipped_config() -> dict[str, Any]:
    """The shipped defaults by dotted key: inside the package when installed, else of the checkout."""
    shipped = Path(__file__).resolve().parent / "_shipped" / "config.toml"
    return _flat(_read(shipped if shipped.is_file() else ROOT / _NAME))


def configuration(settings: Settings, address: str, port: int) -> dict[str, Any]:
    """Options for Streamlit by dotted key, less those that the user set elsewhere; address and port are as given."""
    options = shipped_config() | {"server.maxUploadSize": settings.max_upload_mb}
    own: set[str] = set()
    for folder in (Path.home(), Path.cwd()):
        if folder != ROOT and (folder / _NAME).is_file():
            own |= _flat(_read(folder / _NAME)).keys()
    options = {key: value for key, value in options.items() if key not in own} | from_environment()
    return options | {"server.address": address, "server.port": port}


def from_environment() -> dict[str, Any]:
    """Streamlit's options in `STREAMLIT_...` variables by dotted key, which only its own command reads.

    Secret ones are left to Streamlit, which reads these and takes them from nowhere else.

    Raises
    ------
    ServerError
        If a variable is not of its option's type.
    """
    found: dict[str, Any] = {}
    for key, option in config._config_options_template.items():
        text = os.environ.get(_variable(key))
        if text is None or option.sensitive:
            continue
        try:
            found[key] = _parsed(text, option.type, several=option.multiple)
        except ValueError as error:
            raise ServerError(f"{_variable(key)}: {text!r} is not of the type {option.type.__name__}.") from error
    return found


def _parsed(text: str, kind: type, *, several: bool) -> Any:
    if several:
        return text.replace(",", " ").split()
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
            raise ValueError(text)
        return text.lower() in ("true", "1", "yes")
    return kind(text)


def url(address: str, port: int) -> str:
    """Where a browser on this machine finds the server.

    >>> url("0.0.0.0", 8501), url("::1", 8501)
    ('http://localhost:8501', 'http://[::1]:8501')
    """
    host = "localhost" if address in ("0.0.0.0", "::", "") else address  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_free(address: str, port: int) -> None:
    """Refuse an address that cannot be listened on.

    Raises
    ------
    ServerError
        If the port is taken or the address is not of this machine.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address or None, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ServerError(
            f"cannot listen on {address}:{port} ({reason}). Choose another --port or --address."
        ) from error


def run(settings: Settings, address: str, port: int) -> None:
    """Serve until interrupted."""
    from dashboard.app import app

    app.run(config=configuration(settings, address, port))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ServerError(f"{path}: cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ServerError(f"{path}: is not valid TOML ({error}).") from error


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'a': {'b': 1}} -> {'a.b': 1}."""
    out: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            out |= _flat(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = value
    return out


def _variable(key: str) -> str:
    """Name of the variable in which Streamlit looks for an option: server.maxUploadSize -> STREAMLIT_SERVER_MAX_..."""
    return "STREAMLIT_" + re.sub(r"([a-z])([A-Z])", r"\1_\2", key).replace(".", "_").upper()
