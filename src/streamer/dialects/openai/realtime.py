"""The WebSocket of the Realtime API: `/v1/realtime`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from streamer.dialects.dialect import DialectContext
from streamer.dialects.openai.answers import CARRIERS, check_ignored, floor_of, refused
from streamer.errors import BadRequest, ErrorCode
from streamer.protocols.openai.realtime import Realtime
from streamer.protocols.openai.realtime_session import RealtimeSettings
from streamer.protocols.openai.realtime_wire import Transcription
from streamer.protocols.opening import Accepted, Opening
from streamer.session.events import Mode
from streamer.session.settings import SessionSettings
from streamer.transports.handshake import Endpoint
from streamer.transports.websocket import WebSocketFrame

PATH = "/v1/realtime"
SUBPROTOCOLS = ("realtime",)
PATIENCE_S = 600.0
"""Time for which a client may be silent: one that is told to speak sends nothing for minutes."""
_PARAMETERS = frozenset({"model", "intent"})
_BETA_HEADER, _BETA = "openai-beta", "realtime=v1"
_BETA_SUBPROTOCOL = "openai-beta.realtime-v1"
_GOING_AWAY, _INVALID, _TOO_BIG, _POLICY, _FAILED, _RESTART, _LATER = 1001, 1007, 1009, 1008, 1011, 1012, 1013

CLOSE_CODES: Mapping[ErrorCode, int] = MappingProxyType(
    {
        **dict.fromkeys(ErrorCode, _POLICY),
        ErrorCode.INVALID_UTF8: _INVALID,
        ErrorCode.PROTOCOL_ERROR: 1002,
        ErrorCode.MESSAGE_TOO_BIG: _TOO_BIG,
        ErrorCode.START_TIMEOUT: _GOING_AWAY,
        ErrorCode.IDLE_TIMEOUT: _GOING_AWAY,
        ErrorCode.STREAM_TOO_LONG: _GOING_AWAY,
        ErrorCode.TOKEN_EXPIRED: _GOING_AWAY,
        ErrorCode.MODEL_ERROR: _FAILED,
        ErrorCode.MODEL_TIMEOUT: _FAILED,
        ErrorCode.MODEL_CRASHED: _FAILED,
        ErrorCode.INTERNAL: _FAILED,
        ErrorCode.DRAINING: _RESTART,
        ErrorCode.OVERLOADED: _LATER,
    }
)
"""Close codes. Clients connect again after 1001, 1011, 1012 and 1013 if their user wants that."""


@dataclass(frozen=True, slots=True)
class RealtimeSessions:
    """Accepts connections."""

    context: DialectContext
    settings: SessionSettings

    def accept(self, opening: Opening) -> Accepted[WebSocketFrame]:
        """Return the codec of a connection. Raises BadRequest for a request that cannot be served."""
        query = dict(opening.query)
        if "call_id" in query:
            raise BadRequest(
                field="call_id", expected="a session of your own (no calls are served)", got=query["call_id"]
            )
        model = self.context.model_of(opening, query.get("model", ""))
        ignored = tuple(name for name in query if name not in _PARAMETERS)
        if query.get("model", model.name) != model.name:
            ignored = (*ignored, "model")
        check_ignored(ignored, self.context)
        limits = self.settings.limits
        codec = Realtime(
            opening.id,
            model.sample_rate,
            limits,
            settings=RealtimeSettings(transcription=Transcription(model.name), known_options=model.known_options),
            expires_at=int(opening.at + limits.max_stream_s),
            floor=floor_of(self.context),
            is_beta=_speaks_beta(opening.headers),
        )
        return Accepted(codec, ignored=ignored, model=model.name)


def realtime_endpoint(context: DialectContext) -> Endpoint:
    """Return the endpoint of the Realtime API."""
    settings = context.session(Mode.SEGMENTED)
    limits = settings.limits
    patient = replace(
        limits,
        start_timeout_s=max(PATIENCE_S, limits.start_timeout_s),
        idle_timeout_s=max(PATIENCE_S, limits.idle_timeout_s),
    )
    settings = replace(settings, limits=patient)
    return Endpoint(
        PATH,
        settings,
        RealtimeSessions(context, settings).accept,
        SUBPROTOCOLS,
        carriers=CARRIERS,
        close_codes=CLOSE_CODES,
        refusal=refused,
    )


def _speaks_beta(headers: Mapping[str, str]) -> bool:
    return _BETA in headers.get(_BETA_HEADER, "") or _BETA_SUBPROTOCOL in headers.get("sec-websocket-protocol", "")
