"""Plain HTTP: probes, information, metrics, and refusals."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler as Answer
from aiohttp.typedefs import Middleware

from streamer.access import (
    QUERY_NAME,
    Authenticator,
    Credential,
    ForbiddenHost,
    Hosts,
    Proxies,
    ProxyHeader,
    extract_credential,
)
from streamer.connection.address_budgets import AddressBudgets
from streamer.connection.admission import QuotaExceeded
from streamer.connection.budget import TOO_MUCH_OF_ADDRESS
from streamer.connection.lifecycle import Lifecycle
from streamer.connection.meter import Meter
from streamer.connection.model_pool import ModelPool, UnknownModel
from streamer.errors import StreamerError, brief
from streamer.telemetry.observer import Observer, Subsystem
from streamer.transports.status_codes import HTTP_STATUS

Handler = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]

UNEXPECTED = StreamerError("internal server error")
"""Error for a client after an unexpected error of the server."""

log = logging.getLogger(__name__)

_REQUEST_S = 0.0002
"""CPU time that aiohttp itself takes for a request, an estimate: it is spent where it cannot be measured."""
_JSON = "application/json"
_WEBSOCKET = "websocket"
"""Name of the transport by which its refusals are counted."""


class HttpLog(logging.LoggerAdapter[logging.Logger]):
    """The log of aiohttp's server, without errors of clients that do not speak HTTP, which would fill the log."""

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        if isinstance(kwargs.get("exc_info"), HttpProcessingError):
            self.debug(msg, *args)
        else:
            super().exception(msg, *args, **kwargs)


class ServedModelInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """The served model; rates in Hz. `output_sample_rate` is left out for a model that answers without audio.

    `word_times`: see `models.contract.BaseModel`.
    """

    name: str
    sample_rate: int
    output_sample_rate: int | None = None
    word_times: str = ""


class Info(msgspec.Struct, frozen=True, omit_defaults=True):
    """Body of `/api/v2/info`. `models`: several models by name, of which `model` is the default; else left out.

    `ports`: of the dialects that have one of their own.
    """

    version: str
    model: ServedModelInfo
    modes: Sequence[str]
    dialects: Sequence[str]
    encodings: Sequence[str]
    limits: dict[str, float]
    models: Sequence[ServedModelInfo] = ()
    ports: Mapping[str, int] = {}


class _Status(msgspec.Struct, frozen=True, omit_defaults=True):
    status: str
    reason: str = ""
    models: Mapping[str, str] = {}


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
                observer.on_refused(_WEBSOCKET, error.code, request.remote or "unknown")
            return refusal(error)
        return await handler(request)

    return [check] if hosts.is_checked else []


def forwarded(proxies: Proxies) -> list[Middleware]:
    """Return the middleware by which `request.remote` is the address of a trusted proxy's client."""

    @web.middleware
    async def find_client(request: web.Request, handler: Answer) -> web.StreamResponse:
        peer = request.remote
        if peer is not None and proxies.trusts(peer):
            client = proxies.client_of(peer, request.headers.getall(proxies.header, ()))
            request = request.clone(remote=client)
        return await handler(request)

    return [find_client] if proxies and proxies.header is not ProxyHeader.PROXY_PROTOCOL else []


def budget_check(addresses: AddressBudgets) -> Middleware:
    """Return the middleware that charges requests to the work budget of their address, and refuses beyond it."""

    @web.middleware
    async def check(request: web.Request, handler: Answer) -> web.StreamResponse:
        wait_s = addresses.wait_s(request.remote)
        if wait_s > 0:
            response: web.StreamResponse = refusal(QuotaExceeded(TOO_MUCH_OF_ADDRESS, retry_after_s=wait_s))
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
    return extract_credential(request.headers.get("Authorization"), (), request.query.get(QUERY_NAME))


def needs_credential(handler: Handler, authenticator: Authenticator) -> Handler:
    """Return a handler that requires a key or token, if authentication is enabled; otherwise it answers 401."""

    async def ask(request: web.Request) -> web.StreamResponse:
        try:
            await authenticator.verify(credential_of(request))
        except StreamerError as error:
            return refusal(error)
        return await handler(request)

    return ask


def probes(lifecycle: Lifecycle, observer: Observer, models: ModelPool | None = None) -> list[web.RouteDef]:
    """Return the routes for orchestrators and load balancers, which never need a credential.

    `models`: several models, whose states are named and of which `/readyz?model=NAME` asks; None for one model.
    """

    def get(path: str, handler: Handler) -> web.RouteDef:
        return web.get(path, observe_errors(handler, observer, Subsystem.API_ROUTING))

    async def health(_: web.Request) -> web.Response:
        return _json(_Status("healthy"))

    async def live(_: web.Request) -> web.Response:
        now = lifecycle.alive
        return _json(_Status("alive")) if now.ready else failure("broken", now.reason)

    async def ready(request: web.Request) -> web.Response:
        now = lifecycle.readiness
        states = models.states if models is not None else {}
        if now.ready and models is not None and (name := request.query.get("model")):
            try:
                now = models.named(name).readiness
            except UnknownModel as error:
                return refusal(error)
        return _json(_Status("ready", models=states)) if now.ready else failure("not ready", now.reason, states)

    return [get("/api/v1/health", health), get("/livez", live), get("/readyz", ready)]


def info_route(info: Info, observer: Observer, authenticator: Authenticator | None) -> web.RouteDef:
    """Return the route of the server's information. `authenticator`: require a credential; None: public."""

    async def describe(_: web.Request) -> web.StreamResponse:
        return _json(info)

    handler = needs_credential(describe, authenticator) if authenticator else describe
    return web.get("/api/v2/info", observe_errors(handler, observer, Subsystem.API_ROUTING))


def observe_errors(handler: Handler, observer: Observer, where: Subsystem) -> Handler:
    """Return a handler that counts polls and errors."""

    async def watched(request: web.Request) -> web.StreamResponse:
        try:
            return await observer.instrument_task(where, handler(request))
        except web.HTTPException:
            raise
        except Exception as error:
            log.exception("%s failed", request.path)
            observer.unexpected_error(where, error)
            return refusal(UNEXPECTED)

    return watched


def failure(status: str, reason: str, models: Mapping[str, str] | None = None) -> web.Response:
    """Return a 503 for a probe."""
    return _json(_Status(status, reason, models or {}), status=503)


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
