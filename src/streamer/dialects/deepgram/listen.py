"""Live audio: the WebSockets at `/v1/listen` and `/v2/listen`."""

from __future__ import annotations

from collections.abc import Callable

from streamer.dialects.deepgram.answers import (
    CARRIERS,
    LISTEN_CLOSE_CODES,
    LISTEN_CLOSE_REASONS,
    REQUEST_ID,
    identity_of,
    policy_of,
    refuse,
)
from streamer.dialects.dialect import DialectContext
from streamer.endpoints import message_limits
from streamer.protocols.deepgram.flux import Flux
from streamer.protocols.deepgram.flux_query import read_flux
from streamer.protocols.deepgram.listen import Listen
from streamer.protocols.deepgram.query import read_listen
from streamer.protocols.opening import Accepted, Opening
from streamer.session.events import Mode
from streamer.session.settings import SessionSettings
from streamer.transports.handshake import Endpoint
from streamer.transports.websocket import WebSocketFrame

LISTEN = "/v1/listen"
FLUX = "/v2/listen"


def listen_endpoint(context: DialectContext) -> Endpoint:
    """Return the endpoint of live audio."""
    settings = context.session(Mode.SEGMENTED)
    policies = {model.name: policy_of(context, model) for model in context.models}

    def accept(opening: Opening) -> Accepted[WebSocketFrame]:
        model = context.model_of(opening, dict(opening.query).get("model", ""))
        request = read_listen(opening.query, policies[model.name])
        identity = identity_of(opening.id, opening.at, model.name)
        codec = Listen(request, identity, model.sample_rate, **message_limits(settings.limits))
        return Accepted(codec, {REQUEST_ID: opening.id}, request.ignored, model.name)

    return _endpoint(LISTEN, settings, accept)


def flux_endpoint(context: DialectContext) -> Endpoint:
    """Return the endpoint of turns (Flux)."""
    settings = context.session(Mode.SEGMENTED)
    policies = {model.name: policy_of(context, model) for model in context.models}

    def accept(opening: Opening) -> Accepted[WebSocketFrame]:
        model = context.model_of(opening, dict(opening.query).get("model", ""))
        request = read_flux(opening.query, policies[model.name])
        identity = identity_of(opening.id, opening.at, model.name)
        codec = Flux(request, identity, model.sample_rate, **message_limits(settings.limits))
        return Accepted(codec, {REQUEST_ID: opening.id}, request.ignored, model.name)

    return _endpoint(FLUX, settings, accept)


def _endpoint(path: str, settings: SessionSettings, accept: Callable[[Opening], Accepted[WebSocketFrame]]) -> Endpoint:
    return Endpoint(
        path,
        settings,
        accept,
        CARRIERS.pairs,
        carriers=CARRIERS,
        close_codes=LISTEN_CLOSE_CODES,
        close_reasons=LISTEN_CLOSE_REASONS,
        refusal=refuse,
    )
