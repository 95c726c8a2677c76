"""Plain HTTP: probes, information, metrics, and refusals."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from http import HTTPStatus
from typing import Any, cast

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler as Answer
from aiohttp.typedefs import Middleware

from streamer.access import QUERY_NAME, Credential, Door, ForbiddenHost, Hosts, find_credential
from streamer.errors import StreamerError, brief
from streamer.runtime.address_budgets import AddressBudgets
from streamer.runtime.admission import TooMany
from streamer.runtime.budget import TOO_MUCH_OF_ADDRESS
from streamer.runtime.lifecycle import Lifecycle
from streamer.runtime.meter import Meter
from streamer.telemetry.observer import Observer, Subsystem
from streamer.transports.wire import HTTP_STATUS

Handler = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]

UNFORESEEN = StreamerError("internal server error")
"""Error for a client after an unexpected error of the server."""

log = logging.getLogger(__name__)

_REQUEST_S = 0.0002
"""CPU time that aiohttp itself takes for a request, an estimate: it is spent where it cannot be measured."""
_JSON = "application/json"
_WEBSOCKET = "websocket"
"""Name of the transport by which its refusals are counted."""


class ModelInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """The served model; `sample_rate` in Hz. `word_times`: see `models.contract.BaseModel`."""

    name: str
    sample_rate: int
    word_times: str = ""


class Info(msgspec.Struct, frozen=True):
    """Body of `/api/v2/info`."""

    version: str
    model: ModelInfo
    modes: Sequence[str]
    dialects: Sequence[str]
    encodings: Sequence[str]
    limits: dict[str, float]


class _Status(msgspec.Struct, frozen=True, omit_defaults=True):
    status: str
    reason: str = ""


class _Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    code: str
    message: str
    retryable: bool
    retry_after_s: float | None = None


def host_check(hosts: Hosts, observer: Observer) -> list[Middleware]:
    """Return the middlewares that refuse requests for other hosts; none if every host is accepted."""

    @web.middleware
    async def check(request: web.Request, handler: Answer) -> web.StreamResponse:
        try:
            for host in request.headers.getall("Host", ()):
                hosts.check(host)
        except ForbiddenHost as error:
            # The log limits repeated messages.
            log.warning(
                "a request for the host %s was refused: add it to server.hosts if it is a name of this server",
                brief(host),
            )
            if "Upgrade" in request.headers:
                observer.refused(_WEBSOCKET, error.code, request.remote or "unknown")
            return refusal(error)
        return await handler(request)

    return [check] if hosts.checked else []


def budget_check(addresses: AddressBudgets) -> Middleware:
    """Return the middleware that charges requests to the work budget of their address, and refuses beyond it."""

    @web.middleware
    async def check(request: web.Request, handler: Answer) -> web.StreamResponse:
        wait_s = addresses.wait_s(request.remote)
        if wait_s > 0:
            response: web.StreamResponse = refusal(TooMany(TOO_MUCH_OF_ADDRESS, retry_after_s=wait_s))
            response.force_close()
            return response
        meter = Meter(addresses.clock.cpu)
        try:
            return await meter.run(cast("Coroutine[Any, Any, web.StreamResponse]", handler(request)))
        finally:
            if "Upgrade" not in request.headers:  # whose cost is known when its session ends
                addresses.charge(request.remote, meter.spent_s + _REQUEST_S)

    return check


def credential_of(request: web.Request) -> Credential | None:
    """Return the credential of a plain request, from its header or its URL."""
    return find_credential(request.headers.get("Authorization"), (), request.query.get(QUERY_NAME))


def needs_credential(handler: Handler, door: Door) -> Handler:
    """Return a handler that requires a key or token, if authentication is enabled; otherwise it answers 401."""

    async def ask(request: web.Request) -> web.StreamResponse:
        try:
            door.show(credential_of(request))
        except StreamerError as error:
            return refusal(error)
        return await handler(request)

    return ask


def probes(lifecycle: Lifecycle, observer: Observer) -> list[web.RouteDef]:
    """Return the routes for orchestrators and load balancers, which never need a credential."""

    def get(path: str, handler: Handler) -> web.RouteDef:
        return web.get(path, watched(handler, observer, Subsystem.API_ROUTING))

    async def health(_: web.Request) -> web.Response:
        return _json(_Status("healthy"))

    async def live(_: web.Request) -> web.Response:
        now = lifecycle.alive
        return _json(_Status("alive")) if now.ready else failure("broken", now.reason)

    async def ready(_: web.Request) -> web.Response:
        now = lifecycle.readiness
        return _json(_Status("ready")) if now.ready else failure("not ready", now.reason)

    return [get("/api/v1/health", health), get("/livez", live), get("/readyz", ready)]


def info_route(info: Info, observer: Observer, door: Door | None) -> web.RouteDef:
    """Return the route of the server's information. `door`: require a credential; None: public."""

    async def describe(_: web.Request) -> web.StreamResponse:
        return _json(info)

    handler = needs_credential(describe, door) if door else describe
    return web.get("/api/v2/info", watched(handler, observer, Subsystem.API_ROUTING))


def watched(handler: Handler, observer: Observer, where: Subsystem) -> Handler:
    """Return a handler that counts polls and errors."""

    async def watched(request: web.Request) -> web.StreamResponse:
        try:
            return await observer.task(where, handler(request))
        except web.HTTPException:
            raise
        except Exception as error:
            log.exception("%s failed", request.path)
            observer.broken(where, error)
            return refusal(UNFORESEEN)

    return watched


def failure(status: str, reason: str) -> web.Response:
    """Return a 503 for a probe."""
    return _json(_Status(status, reason), status=503)


def refusal(error: StreamerError) -> web.Response:
    """Return the HTTP answer of an error before the upgrade: status, code and message in JSON, and a retry time."""
    body = _Refusal(error.code, error.message, error.retryable, error.retry_after_s)
    response = _json(body, status=HTTP_STATUS[error.code])
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if response.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _json(body: msgspec.Struct, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type=_JSON)
