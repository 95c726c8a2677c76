"""The endpoints of the native protocol versions, for one model or several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeVar

from aiohttp import web

from streamer.access import Authenticator
from streamer.config import Settings
from streamer.connection.model_pool import ModelPool
from streamer.errors import StreamerError
from streamer.parts import AppParts, ServedModel
from streamer.protocols.codec import Codec
from streamer.protocols.opening import Accepted, Opening
from streamer.protocols.v1 import V1Codec
from streamer.protocols.v2 import V2Codec
from streamer.session.events import Mode
from streamer.session.settings import Limits, SessionSettings
from streamer.telemetry.observer import Observer
from streamer.transports.handshake import Endpoint
from streamer.transports.http import credential_of, refusal
from streamer.transports.websocket import WebSocketFrame, WebSocketTransport

FrameT = TypeVar("FrameT")

MODEL_KEY = "streamer-model"
"""Metadata of a gRPC call that names one of several models."""


def session_settings(settings: Settings, model: ServedModel, mode: Mode) -> SessionSettings:
    """Return the settings of the sessions of one endpoint."""
    common = settings.for_session(
        mode,
        model=model.name,
        sample_rate=model.sample_rate,
        stateful=model.stateful,
        max_inflight=model.max_inflight,
    )
    return model.applied_to(common)


def message_limits(limits: Limits) -> dict[str, int]:
    """Return the limits that a codec checks."""
    return {"max_control_bytes": limits.max_control_bytes, "max_audio_message_bytes": limits.max_audio_message_bytes}


def accepting(
    parts: AppParts, make_codec: Callable[[int], Codec[FrameT]], name: str = "", key: str = ""
) -> Callable[[Opening], Accepted[FrameT]]:
    """Return the function that accepts requests, with the codec of the model that they get.

    `make_codec`: gets the sample rate of a model in Hz. `name`: of the model of all requests; `key`: of the header that
    names it; without both, the router selects it, or it is the default.
    """
    if parts.models is None:
        return partial(_accept, Accepted(make_codec(parts.model.sample_rate)))
    accepted = {
        each: Accepted(make_codec(model.sample_rate), model=each)
        for each, model in parts.served.items()
        if not name or each == name
    }
    return partial(_accept_by_model, accepted, parts, name, key)


def _accept(accepted: Accepted[FrameT], _: Opening) -> Accepted[FrameT]:
    return accepted


def _accept_by_model(
    accepted: Mapping[str, Accepted[FrameT]], parts: AppParts, name: str, key: str, opening: Opening
) -> Accepted[FrameT]:
    named = name or (opening.headers.get(key, "") if key else "")
    return accepted[parts.model_of(opening, named).name]


def native_endpoints(settings: Settings, parts: AppParts) -> Iterator[Endpoint]:
    """Yield the endpoints of v1 and v2: of the default model, and of each of several by its name."""
    default = parts.models.default.name if parts.models is not None and parts.models.router is None else ""
    for mode in Mode:
        yield from _of_model(settings, parts, mode, parts.model, "", checked=default)
    for name, model in parts.served.items():
        for mode in Mode:
            yield from _of_model(settings, parts, mode, model, name, checked=name)


def _of_model(
    settings: Settings, parts: AppParts, mode: Mode, model: ServedModel, name: str, *, checked: str
) -> Iterator[Endpoint]:
    """Yield the endpoints of one mode. `checked`: name of the model whose admission is checked first."""
    session = session_settings(settings, model, mode)
    place = f"models/{name}/" if name else ""
    for dialect, subprotocols in ((V1Codec, ("streamer.v1",)), (V2Codec, ("streamer.v2",))):
        make = partial(_native_codec, dialect, mode, session.limits)
        yield Endpoint(
            f"/api/{dialect.name}/{place}{mode}",
            session,
            accepting(parts, make, name),
            subprotocols,
            supports_auth_message=dialect is V2Codec,
            upload_codec=make(model.sample_rate) if dialect is V2Codec else None,
            model=checked,
        )


def _native_codec(
    dialect: type[V1Codec | V2Codec], mode: Mode, limits: Limits, sample_rate: int
) -> Codec[WebSocketFrame]:
    return dialect(mode, sample_rate, **message_limits(limits))


def unknown_model_route(models: ModelPool, door: Authenticator, observer: Observer) -> web.RouteDef:
    """Return the route of models that do not exist, whose answer names those that do."""

    async def refuse(request: web.Request) -> web.StreamResponse:
        try:
            await door.authenticate(request.headers.get("Origin"), request.headers.get("Host"), credential_of(request))
            models.named(request.match_info["name"])
            raise web.HTTPMethodNotAllowed(request.method, ["GET", "POST"])
        except StreamerError as error:
            observer.on_refused(WebSocketTransport.name, error.code, request.remote or "unknown")
            return refusal(error)

    return web.route("*", "/api/{version:v[12]}/models/{name}/{mode:simple|segmented}", refuse)
