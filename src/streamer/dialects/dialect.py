"""Interface of a dialect: what it gets from the server, and what it adds to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from streamer.access import Authenticator
from streamer.config import Settings
from streamer.connection.admission import Admission
from streamer.connection.manager import ConnectionManager
from streamer.parts import ServedModel
from streamer.session.events import Mode
from streamer.session.settings import SessionSettings
from streamer.transports.handshake import Endpoint


@dataclass(frozen=True, slots=True)
class DialectContext:
    """The server that a dialect is mounted into.

    `session`: returns the settings of the sessions of a mode, which a dialect may change by `dataclasses.replace`.
    `shared`: other processes listen on the same ports (see `listening_sockets`).
    """

    settings: Settings
    model: ServedModel
    session: Callable[[Mode], SessionSettings]
    manager: ConnectionManager
    admission: Admission
    door: Authenticator
    shared: bool = False


class DialectListener(Protocol):
    """A port of a dialect that is not spoken over HTTP."""

    async def start(self, host: str) -> int:
        """Listen; return the port. Raises ListenFailed."""
        ...

    async def stop(self, timeout_s: float) -> None:
        """Stop listening, and end the connections that do not end within `timeout_s`."""
        ...


@dataclass(frozen=True, slots=True)
class MountedDialect:
    """Additions of a dialect to a server.

    `endpoints`: paths of WebSockets; one at `/` shares it with the page. `routes`: plain HTTP, which must authenticate
    its clients itself. `listeners`: ports of its own.
    """

    endpoints: tuple[Endpoint, ...] = ()
    routes: tuple[web.RouteDef, ...] = ()
    listeners: tuple[DialectListener, ...] = ()
