"""Plain HTTP beside the streams: health, readiness, what is served, metrics; and refusals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from streamer.errors import Overloaded, StreamerError
from streamer.runtime.lifecycle import Lifecycle
from streamer.transports.wire import HTTP_STATUS

_JSON = "application/json"


class ModelInfo(msgspec.Struct, frozen=True):
    """The model that is served; `sample_rate` in Hz."""

    name: str
    sample_rate: int


class Info(msgspec.Struct, frozen=True):
    """What `/api/v2/info` says."""

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


def routes(info: Info, lifecycle: Lifecycle) -> list[web.RouteDef]:
    """What answers without streaming."""

    async def health(_: web.Request) -> web.Response:
        return _json(_Status("healthy"))

    async def live(_: web.Request) -> web.Response:
        now = lifecycle.alive
        return _json(_Status("alive")) if now.ready else _json(_Status("broken", now.reason), status=503)

    async def ready(_: web.Request) -> web.Response:
        now = lifecycle.readiness
        return _json(_Status("ready")) if now.ready else _json(_Status("not ready", now.reason), status=503)

    async def describe(_: web.Request) -> web.Response:
        return _json(info)

    return [
        web.get("/api/v1/health", health),
        web.get("/livez", live),
        web.get("/readyz", ready),
        web.get("/api/v2/info", describe),
    ]


def metrics_route(registry: CollectorRegistry) -> web.RouteDef:
    """The metrics, as Prometheus text or OpenMetrics where asked for."""

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    return web.get("/metrics", metrics)


def refusal(error: StreamerError) -> web.Response:
    """A failure before the upgrade: status, code and message in JSON, and when to come back."""
    retry_after_s = error.retry_after_s if isinstance(error, Overloaded) else None
    response = _json(
        _Refusal(error.code, error.message, error.retryable, retry_after_s), status=HTTP_STATUS[error.code]
    )
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(math.ceil(retry_after_s))
    return response


def _json(body: msgspec.Struct, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type=_JSON)
