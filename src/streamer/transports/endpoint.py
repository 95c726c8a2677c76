"""From a request for an upgrade to a running session: who it is, whether there is room, and the answer where not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from streamer.access import BEARER_PREFIX, QUERY_NAME, Carrier, Credential, Door, Identity, find_credential
from streamer.errors import BadRequest, StreamerError
from streamer.protocols.codec import Codec
from streamer.runtime.admission import Admission
from streamer.runtime.conductor import Conductor
from streamer.runtime.doorway import granted
from streamer.session.events import Failed
from streamer.session.messages import Auth
from streamer.session.settings import SessionSettings
from streamer.telemetry.observer import Handshake, Subsystem
from streamer.transports.http import UNFORESEEN, refusal
from streamer.transports.patience import Patience
from streamer.transports.websocket import Frame, WebSocketTransport
from streamer.transports.wire import ACCESS_CODES

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a peer may take: to say who it is, and to answer a close."""

    handshake_s: float = 5.0
    close_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address that speaks one dialect in one mode."""

    path: str
    settings: SessionSettings
    codec: Codec[Frame]
    subprotocols: tuple[str, ...]
    hears_auth: bool = False
    """The dialect has a word for a token in a first message."""


def endpoint_handler(
    endpoint: Endpoint, conductor: Conductor, admission: Admission, door: Door, timeouts: Timeouts, patience: Patience
) -> Handler:
    """The aiohttp handler of an endpoint."""
    limits = endpoint.settings.limits
    most = max(limits.max_audio_message_bytes, limits.max_control_bytes)

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = request.headers
        handshake = Handshake(conductor.services.clock.now(), headers.get("traceparent"), headers.get("tracestate"))
        transport = WebSocketTransport(request, endpoint.subprotocols, most, timeouts.close_s, patience)
        visit = Visit(transport, request, endpoint, door)
        await conductor.services.turns.take()
        try:
            admission.check()
            identity = await visit.introduced(timeouts.handshake_s)
            with admission.place(request.remote, identity):
                await transport.upgrade()
                lease = door.lease(identity, conductor.services.clock.now())
                settings = granted(endpoint.settings, identity)
                await conductor.run(transport, endpoint.codec, settings, measure=len, handshake=handshake, lease=lease)
        except StreamerError as error:
            conductor.services.observer.refused(WebSocketTransport.name, error.code, transport.peer)
            return await visit.refuse(error)
        except ConnectionError:  # gone before the upgrade was answered: nobody to tell, and no error of ours
            return web.Response(status=400)
        except web.HTTPException:
            raise  # aiohttp's own answer to a request that is no upgrade
        except Exception as error:
            log.exception("a connection to %s failed", endpoint.path)
            conductor.services.observer.broken(Subsystem.API_ROUTING, error)
            return await visit.refuse(UNFORESEEN)
        return transport.response

    return handle


class Visit:
    """One request for an upgrade, until it is answered."""

    def __init__(self, transport: WebSocketTransport, request: web.Request, endpoint: Endpoint, door: Door) -> None:
        self._transport = transport
        self._request = request
        self._endpoint = endpoint
        self._door = door

    async def introduced(self, timeout_s: float) -> Identity | None:
        """Who this is; None where nobody has to say. Upgrades where a first message is to say it."""
        offered = _offered(self._request)
        self._check_subprotocols(offered)
        headers, query = self._request.headers, self._request.query
        credential = find_credential(headers.get("Authorization"), offered, query.get(QUERY_NAME))
        origin = headers.get("Origin")
        by_message = self._door.locked and self._door.first_message and self._endpoint.hears_auth
        if credential is not None or not by_message:
            return self._door.enter(origin, credential)
        self._door.origins.check(origin)
        await self._transport.upgrade()
        return self._door.show(await self._first_message(timeout_s))

    async def refuse(self, error: StreamerError) -> web.StreamResponse:
        """Over HTTP; over the WebSocket where that is open already, or is to be opened so that browsers can read it."""
        if self._door.refuse_after_upgrade and error.code in ACCESS_CODES:
            await self._transport.upgrade()
        if not self._transport.response.prepared:
            return refusal(error)
        with suppress(ConnectionError):
            frame = self._endpoint.codec.encode(Failed(error.code, error.message, True, error.retryable))
            if frame is not None:
                await self._transport.send(frame)
            await self._transport.close(error.code, error.code)
        return self._transport.response

    def _check_subprotocols(self, offered: Sequence[str]) -> None:
        """A token among subprotocols of which none can be chosen: no browser could go on, and aiohttp would log it."""
        carried = any(word.startswith(BEARER_PREFIX) for word in offered)
        if carried and not any(word in self._endpoint.subprotocols for word in offered):
            name = self._endpoint.subprotocols[0]
            raise BadRequest(f"Sec-WebSocket-Protocol: expected {name} beside the token")

    async def _first_message(self, timeout_s: float) -> Credential | None:
        try:
            async with asyncio.timeout(timeout_s):
                frame = await self._transport.receive()
        except TimeoutError:
            return None
        message = None if frame is None else self._endpoint.codec.decode(frame)
        return Credential(message.secret, Carrier.MESSAGE) if isinstance(message, Auth) else None


def _offered(request: web.Request) -> list[str]:
    lines = request.headers.getall("Sec-WebSocket-Protocol", ())
    return [word.strip() for line in lines for word in line.split(",")]
