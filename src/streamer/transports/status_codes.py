"""Status codes of errors in HTTP and WebSocket. Both tables cover all of ErrorCode."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from streamer.errors import ErrorCode

NORMAL_CLOSE = 1000
TRY_AGAIN_LATER_CLOSE = 1013
RATE_LIMITED_CLOSE = 4429

CLOSE_CODES: Mapping[ErrorCode, int] = MappingProxyType(
    {
        ErrorCode.BAD_REQUEST: 4400,
        ErrorCode.BAD_STATE: 4400,
        ErrorCode.INVALID_FORMAT: 4400,
        ErrorCode.INVALID_AUDIO: 4400,
        ErrorCode.WRONG_FRAME_TYPE: 1003,
        ErrorCode.INVALID_UTF8: 1007,
        ErrorCode.PROTOCOL_ERROR: 1002,
        ErrorCode.MESSAGE_TOO_BIG: 1009,
        ErrorCode.UNAUTHENTICATED: 4401,
        ErrorCode.TOKEN_EXPIRED: 4401,
        ErrorCode.TOKEN_REPLAYED: 4401,
        ErrorCode.FORBIDDEN: 4403,
        ErrorCode.FORBIDDEN_ORIGIN: 4403,
        ErrorCode.START_TIMEOUT: 4408,
        ErrorCode.IDLE_TIMEOUT: 4408,
        ErrorCode.STREAM_TOO_LONG: 4413,
        ErrorCode.TOO_FAST: 4429,
        ErrorCode.RATE_LIMITED: 4429,
        ErrorCode.SLOW_CONSUMER: 4430,
        ErrorCode.MODEL_ERROR: 1011,
        ErrorCode.MODEL_TIMEOUT: 1011,
        ErrorCode.MODEL_CRASHED: 1011,
        ErrorCode.UNKNOWN_MODEL: 4404,
        ErrorCode.OVERLOADED: 1013,
        ErrorCode.DRAINING: 1012,
        ErrorCode.INTERNAL: 1011,
    }
)
"""WebSocket close codes; the reason is the error's code. 4xxx follow HTTP if it has an equivalent."""

ACCESS_ERROR_CODES = frozenset(code for code, number in CLOSE_CODES.items() if number in (4401, 4403))
"""Errors of authentication and authorisation."""

HTTP_STATUS: Mapping[ErrorCode, int] = MappingProxyType(
    {
        ErrorCode.BAD_REQUEST: 400,
        ErrorCode.BAD_STATE: 400,
        ErrorCode.INVALID_FORMAT: 400,
        ErrorCode.INVALID_AUDIO: 400,
        ErrorCode.WRONG_FRAME_TYPE: 400,
        ErrorCode.INVALID_UTF8: 400,
        ErrorCode.PROTOCOL_ERROR: 400,
        ErrorCode.MESSAGE_TOO_BIG: 413,
        ErrorCode.UNAUTHENTICATED: 401,
        ErrorCode.TOKEN_EXPIRED: 401,
        ErrorCode.TOKEN_REPLAYED: 401,
        ErrorCode.FORBIDDEN: 403,
        ErrorCode.FORBIDDEN_ORIGIN: 403,
        ErrorCode.START_TIMEOUT: 408,
        ErrorCode.IDLE_TIMEOUT: 408,
        ErrorCode.STREAM_TOO_LONG: 413,
        ErrorCode.TOO_FAST: 429,
        ErrorCode.RATE_LIMITED: 429,
        ErrorCode.SLOW_CONSUMER: 408,
        ErrorCode.MODEL_ERROR: 500,
        ErrorCode.MODEL_TIMEOUT: 504,
        ErrorCode.MODEL_CRASHED: 500,
        ErrorCode.UNKNOWN_MODEL: 404,
        ErrorCode.OVERLOADED: 503,
        ErrorCode.DRAINING: 503,
        ErrorCode.INTERNAL: 500,
    }
)
"""HTTP status of a refusal before the upgrade."""
