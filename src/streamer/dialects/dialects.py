"""All dialects of one server: their endpoints and routes, and the start and stop of their ports."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from aiohttp import web

from streamer.dialects.dialect import DialectContext, DialectListener
from streamer.dialects.table import mount
from streamer.transports.handshake import Endpoint

log = logging.getLogger(__name__)


class Dialects:
    """The mounted dialects of a server. `ports`: of the dialects that have their own, while they listen."""

    def __init__(self, names: Sequence[str], context: DialectContext) -> None:
        """Mount dialects by their names. Raises ConfigError."""
        self.names = tuple(names)
        self.ports: dict[str, int] = {}
        self._mounted = {name: mount(name, context) for name in names}
        self._listening: list[DialectListener] = []

    @property
    def labels(self) -> tuple[str, ...]:
        """The names for people, each with its own port, if it has one."""
        return tuple(f"{name} (port {self.ports[name]})" if name in self.ports else name for name in self.names)

    @property
    def endpoints(self) -> list[Endpoint]:
        """The WebSocket endpoints, in the order in which their paths are matched."""
        return [endpoint for dialect in self._mounted.values() for endpoint in dialect.endpoints]

    @property
    def routes(self) -> list[web.RouteDef]:
        """The routes of plain HTTP."""
        return [route for dialect in self._mounted.values() for route in dialect.routes]

    async def start(self, host: str) -> None:
        """Open the ports of the dialects that have their own. Raises ListenFailed."""
        for name, dialect in self._mounted.items():
            for listener in dialect.listeners:
                self._listening.append(listener)
                self.ports[name] = await listener.start(host)
                log.info("%s is served on port %d", name, self.ports[name])

    async def stop(self, timeout_s: float) -> None:
        """Close the ports. Every listener is stopped, even if another one raises."""
        try:
            while self._listening:
                await self._listening.pop().stop(timeout_s)
        finally:
            if self._listening:
                await self.stop(timeout_s)
