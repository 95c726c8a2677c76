"""Speechmatics: the WebSockets `/v2` and `/v2/{language}` of its real-time protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import streamer
from streamer.access import Carriers
from streamer.dialects.dialect import DialectContext, MountedDialect
from streamer.endpoints import message_limits
from streamer.errors import BadRequest, ErrorCode
from streamer.protocols.opening import Accepted, Opening
from streamer.protocols.speechmatics import ERROR_TYPES, RecognitionPolicy, Speechmatics
from streamer.session.events import Mode
from streamer.transports.handshake import Endpoint
from streamer.transports.websocket import WebSocketFrame

PATHS = ("/v2", "/v2/", "/v2/{language}")
AGENT = "agent"
"""Path of another protocol, of the plugins for LiveKit agents and Pipecat."""
CARRIERS = Carriers(parameters=("jwt",))
SPEECHMATICS_CLOSE_CODES: Mapping[ErrorCode, int] = MappingProxyType(
    {code: close for code, (_, close) in ERROR_TYPES.items()}
)


def mount(context: DialectContext) -> MountedDialect:
    """Return the endpoints of Speechmatics' protocol."""
    settings, dialects = context.session(Mode.SEGMENTED), context.settings.dialects
    limits = settings.limits
    policy = RecognitionPolicy(
        float(dialects.min_silence_ms),
        max(limits.max_redemption_ms, settings.vad.redemption_time_ms),
        dialects.unsupported_parameters == "refuse",
        streamer.__version__,
    )

    def accept(opening: Opening) -> Accepted[WebSocketFrame]:
        language = opening.path.removeprefix("/v2").strip("/") or None
        if language == AGENT:
            expected = "a language, such as en: the protocol of voice agents is not served"
            raise BadRequest(field="the path after /v2", expected=expected, got=language)
        model = context.model_of(opening)
        chosen = replace(policy, model_options=model.known_options)
        codec = Speechmatics(opening, language, chosen, model.sample_rate, **message_limits(limits))
        # Never refused, because every client has to send a language, which comes with its first message at the latest.
        ignored = () if "language" in model.known_options else ("language",)
        return Accepted(codec, ignored=ignored, model=model.name)

    endpoints = [
        Endpoint(path, settings, accept, (), carriers=CARRIERS, close_codes=SPEECHMATICS_CLOSE_CODES) for path in PATHS
    ]
    return MountedDialect(tuple(endpoints))
