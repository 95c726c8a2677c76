"""Vosk: the WebSocket of vosk-server at `/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from streamer.dialects.dialect import DialectContext, MountedDialect
from streamer.errors import ErrorCode
from streamer.protocols.opening import Accepted, Opening
from streamer.protocols.vosk import Vosk
from streamer.session.events import Mode
from streamer.transports.handshake import Endpoint
from streamer.transports.status_codes import ACCESS_ERROR_CODES, CLOSE_CODES
from streamer.transports.websocket import WebSocketFrame

PATH = "/"
PATIENCE = 10
"""Idle time-out as a multiple of the server's: a client in lockstep is silent while it waits for an answer."""
_FAILED, _POLICY = 1011, 1008
_OF_THEIR_OWN: Mapping[ErrorCode, int] = {
    ErrorCode.WRONG_FRAME_TYPE: 1003,
    ErrorCode.INVALID_UTF8: 1007,
    ErrorCode.PROTOCOL_ERROR: 1002,
    ErrorCode.MESSAGE_TOO_BIG: 1009,
    ErrorCode.START_TIMEOUT: _POLICY,
    ErrorCode.IDLE_TIMEOUT: _POLICY,
    ErrorCode.STREAM_TOO_LONG: _POLICY,
    ErrorCode.TOO_FAST: _POLICY,
    ErrorCode.RATE_LIMITED: _POLICY,
    ErrorCode.SLOW_CONSUMER: _POLICY,
    ErrorCode.OVERLOADED: 1013,
    ErrorCode.DRAINING: 1012,
    **dict.fromkeys(ACCESS_ERROR_CODES, _POLICY),
}
VOSK_CLOSE_CODES: Mapping[ErrorCode, int] = MappingProxyType(
    {code: _OF_THEIR_OWN.get(code, _FAILED) for code in CLOSE_CODES}
)
"""vosk-server closes with 1011 whatever goes wrong in it; the reason is the error's code."""


def mount(context: DialectContext) -> MountedDialect:
    """Return the endpoint of Vosk."""
    # A client in lockstep sends nothing while a slow model makes it wait, so its silence ends no utterance.
    settings = replace(context.session(Mode.SEGMENTED), stall_timeout_s=0.0)
    idle_s = PATIENCE * settings.limits.idle_timeout_s
    # A client may configure its connection long before it speaks.
    limits = replace(settings.limits, idle_timeout_s=idle_s, start_timeout_s=idle_s)

    def accept(opening: Opening) -> Accepted[WebSocketFrame]:
        model = context.model_of(opening)
        codec = Vosk(
            model.sample_rate,
            max_control_bytes=limits.max_control_bytes,
            max_audio_message_bytes=limits.max_audio_message_bytes,
        )
        return Accepted(codec, model=model.name)

    endpoint = Endpoint(PATH, replace(settings, limits=limits), accept, (), close_codes=VOSK_CLOSE_CODES)
    return MountedDialect((endpoint,))
