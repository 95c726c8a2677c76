"""Errors as OpenAI's API reports them: a status, a type, a code and the parameter."""

from __future__ import annotations

from typing import Any

import msgspec

from streamer.errors import ErrorCode, StreamerError

INVALID_REQUEST = "invalid_request_error"
_SERVER = "server_error"
_TYPES: dict[ErrorCode, str] = {
    ErrorCode.RATE_LIMITED: "rate_limit_error",
    ErrorCode.TOO_FAST: "rate_limit_error",
    ErrorCode.OVERLOADED: _SERVER,
    ErrorCode.DRAINING: _SERVER,
    ErrorCode.MODEL_ERROR: _SERVER,
    ErrorCode.MODEL_TIMEOUT: _SERVER,
    ErrorCode.MODEL_CRASHED: _SERVER,
    ErrorCode.INTERNAL: _SERVER,
    ErrorCode.SLOW_CONSUMER: _SERVER,
}
_CODES: dict[ErrorCode, str] = {
    ErrorCode.UNAUTHENTICATED: "invalid_api_key",
    ErrorCode.STREAM_TOO_LONG: "session_expired",
    ErrorCode.RATE_LIMITED: "rate_limit_exceeded",
    ErrorCode.OVERLOADED: "server_overloaded",
}
_FILE = frozenset({ErrorCode.INVALID_AUDIO, ErrorCode.INVALID_FORMAT, ErrorCode.STREAM_TOO_LONG})
"""Errors of a request that concern its file."""


class RequestFault(msgspec.Struct, frozen=True):
    """The error object of a response or an event. `param`: the field that is wrong."""

    message: str
    type: str
    code: str | None = None
    param: str | None = None

    @classmethod
    def of(cls, code: ErrorCode, message: str, param: str | None = None) -> RequestFault:
        """Return the object of one of this server's errors."""
        return cls(message, _TYPES.get(code, INVALID_REQUEST), _CODES.get(code, code.value), param)

    @classmethod
    def of_request(cls, error: StreamerError) -> RequestFault:
        """Return the object of an error of a request with a file; `param` is the field of the form."""
        param = error.field or ("file" if error.code in _FILE else None)
        if param is None and error.message.startswith("vad."):
            param = "chunking_strategy"
        return cls.of(error.code, error.message, param)


def fault_body(fault: RequestFault) -> bytes:
    """Return the body of an HTTP response, or the data of a server-sent event."""
    return msgspec.json.encode({"error": fault})


def fault_data(fault: RequestFault, event_id: str | None) -> dict[str, Any]:
    """Return the error object of a realtime event. `event_id`: of the client's event that caused it."""
    return {**msgspec.structs.asdict(fault), "event_id": event_id}
