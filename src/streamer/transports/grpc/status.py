"""Statuses of errors in gRPC, with trailing metadata for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from grpc import StatusCode
from grpc.aio import ServicerContext

from streamer.errors import ErrorCode, StreamerError

STATUS: Mapping[ErrorCode, StatusCode] = MappingProxyType(
    {
        ErrorCode.BAD_REQUEST: StatusCode.INVALID_ARGUMENT,
        ErrorCode.BAD_STATE: StatusCode.FAILED_PRECONDITION,
        ErrorCode.INVALID_FORMAT: StatusCode.INVALID_ARGUMENT,
        ErrorCode.INVALID_AUDIO: StatusCode.INVALID_ARGUMENT,
        ErrorCode.WRONG_FRAME_TYPE: StatusCode.INVALID_ARGUMENT,
        ErrorCode.INVALID_UTF8: StatusCode.INVALID_ARGUMENT,
        ErrorCode.PROTOCOL_ERROR: StatusCode.INVALID_ARGUMENT,
        ErrorCode.MESSAGE_TOO_BIG: StatusCode.RESOURCE_EXHAUSTED,
        ErrorCode.UNAUTHENTICATED: StatusCode.UNAUTHENTICATED,
        ErrorCode.TOKEN_EXPIRED: StatusCode.UNAUTHENTICATED,
        ErrorCode.TOKEN_REPLAYED: StatusCode.UNAUTHENTICATED,
        ErrorCode.FORBIDDEN: StatusCode.PERMISSION_DENIED,
        ErrorCode.FORBIDDEN_ORIGIN: StatusCode.PERMISSION_DENIED,
        ErrorCode.START_TIMEOUT: StatusCode.DEADLINE_EXCEEDED,
        ErrorCode.IDLE_TIMEOUT: StatusCode.DEADLINE_EXCEEDED,
        ErrorCode.STREAM_TOO_LONG: StatusCode.OUT_OF_RANGE,
        ErrorCode.TOO_FAST: StatusCode.RESOURCE_EXHAUSTED,
        ErrorCode.RATE_LIMITED: StatusCode.RESOURCE_EXHAUSTED,
        ErrorCode.SLOW_CONSUMER: StatusCode.ABORTED,
        ErrorCode.MODEL_ERROR: StatusCode.INTERNAL,
        ErrorCode.MODEL_TIMEOUT: StatusCode.INTERNAL,
        ErrorCode.MODEL_CRASHED: StatusCode.UNAVAILABLE,
        ErrorCode.UNKNOWN_MODEL: StatusCode.NOT_FOUND,
        ErrorCode.OVERLOADED: StatusCode.UNAVAILABLE,
        ErrorCode.DRAINING: StatusCode.UNAVAILABLE,
        ErrorCode.INTERNAL: StatusCode.INTERNAL,
    }
)
"""Covers all of ErrorCode; the proto's comment on the service lists the same."""

CODE_KEY = "streamer-code"
RETRY_KEY = "retry-after-ms"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Key that gRPC's own retries use (proposal A6)."""


def trailers(code: ErrorCode, retry_after_s: float | None = None) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata of an error."""
    named = ((CODE_KEY, code.value),)
    if retry_after_s is None:
        return named
    after = str(math.ceil(retry_after_s * 1000))
    return (*named, (RETRY_KEY, after), (PUSHBACK_KEY, after))


async def refuse(call: ServicerContext[Any, Any], error: StreamerError) -> None:
    """End a call with the status of an error, its code and its retry time."""
    await call.abort(STATUS[error.code], error.message, trailers(error.code, error.retry_after_s))
