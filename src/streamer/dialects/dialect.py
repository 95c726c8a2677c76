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
from streamer.errors import BadRequest
from streamer.parts import AppParts, ServedModel
from streamer.protocols.opening import Opening
from streamer.session.events import Mode
from streamer.session.settings import SessionSettings
from streamer.transports.handshake import Endpoint


@dataclass(frozen=True, slots=True)
class DialectContext:
    """The server that a dialect is mounted into.

    `parts`: with the models. `session`: returns the settings of the sessions of a mode, which a dialect may change by
    `dataclasses.replace`. `shared`: other processes listen on the same ports (see `listening_sockets`).
    """

    settings: Settings
    parts: AppParts
    session: Callable[[Mode], SessionSettings]
    manager: ConnectionManager
    admission: Admission
    door: Authenticator
    shared: bool = False

    @property
    def model(self) -> ServedModel:
        """The only model, or the default one of several."""
        return self.parts.model

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """All models that return transcripts, the default one first."""
        others = (each for each in self.parts.served.values() if each.word_times and each != self.model)
        return (self.model, *others)

    def model_of(self, opening: Opening, name: str = "") -> ServedModel:
        """Return the model of a request. Its name belongs into `Accepted.model`.

        `name`: that of the dialect's own parameter. Clients name the models of their service (`nova-3`), so a name that
        is not served selects nothing: the router selects the model, or it is the default. Raises BadRequest for a model
        that returns no transcripts, and the router's StreamerErrors.
        """
        model = self.parts.model_of(opening, name if name in self.parts.served else "")
        if not model.word_times:
            expected = f"a model that returns transcripts ({', '.join(each.name for each in self.models)})"
            raise BadRequest(field="model", expected=expected, got=model.name)
        return model


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
