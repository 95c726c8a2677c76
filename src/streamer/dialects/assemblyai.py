"""AssemblyAI: the WebSocket `/v3/ws` of its streaming protocol v3, and temporary tokens for it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from aiohttp import web

from streamer.access import Carriers
from streamer.dialects.assemblyai_tokens import token_routes
from streamer.dialects.dialect import DialectContext, MountedDialect
from streamer.endpoints import message_limits
from streamer.errors import StreamerError
from streamer.protocols.assemblyai import CODES, AssemblyAi, TurnPolicy, read_request
from streamer.protocols.opening import Accepted, Opening
from streamer.session.events import Mode
from streamer.transports import http
from streamer.transports.handshake import Endpoint
from streamer.transports.websocket import WebSocketFrame

PATH = "/v3/ws"
CARRIERS = Carriers(schemes=("", "bearer"), parameters=("token",))
PATIENCE = 10
"""Idle time-out as a multiple of the server's: push-to-talk clients are silent for minutes."""


def mount(context: DialectContext) -> MountedDialect:
    """Return the endpoint of AssemblyAI's protocol."""
    settings, dialects = context.session(Mode.SEGMENTED), context.settings.dialects
    limits = replace(settings.limits, idle_timeout_s=PATIENCE * settings.limits.idle_timeout_s)
    policy = TurnPolicy(
        float(dialects.min_silence_ms),
        max(limits.max_redemption_ms, settings.vad.redemption_time_ms),
        settings.vad.negative_speech_threshold,
        settings.containers,
        dialects.unsupported_parameters == "refuse",
        limits.max_stream_s,
    )

    def accept(opening: Opening) -> Accepted[WebSocketFrame]:
        model = context.model_of(opening, dict(opening.query).get("speech_model", ""))
        chosen = replace(policy, model_options=model.known_options)
        plan = read_request(opening.query, chosen, model.name)
        codec = AssemblyAi(plan, opening, chosen, model.name, model.sample_rate, **message_limits(limits))
        return Accepted(codec, ignored=plan.ignored, model=model.name)

    endpoint = Endpoint(
        PATH,
        replace(settings, limits=limits),
        accept,
        (),
        carriers=CARRIERS,
        close_codes=CODES,
        refusal=refuse,
    )
    return MountedDialect((endpoint,), token_routes(context, CARRIERS, refuse))


def refuse(error: StreamerError) -> web.Response:
    """Return the HTTP answer of an error before the upgrade, in AssemblyAI's form."""
    response = http.refusal(error)
    response.body = msgspec.json.encode({"error": error.message})
    return response
