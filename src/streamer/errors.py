"""Errors: each has one code, which says what failed and whether a retry may help."""

from __future__ import annotations

from enum import StrEnum

DISTRIBUTION = "streamer-audio"
"""Name of this package on the index, where `streamer` is another project. The import is `streamer`."""


def install_command(extra: str) -> str:
    """Return the command that installs this package with an extra, for messages about a missing one."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


class ErrorCode(StrEnum):
    """The closed set of error codes. The wire tables of each transport cover all of them."""

    BAD_REQUEST = "bad_request"
    BAD_STATE = "bad_state"
    INVALID_FORMAT = "invalid_format"
    INVALID_AUDIO = "invalid_audio"
    WRONG_FRAME_TYPE = "wrong_frame_type"
    INVALID_UTF8 = "invalid_utf8"
    PROTOCOL_ERROR = "protocol_error"
    MESSAGE_TOO_BIG = "message_too_big"
    UNAUTHENTICATED = "unauthenticated"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 (a code, not a secret)
    TOKEN_REPLAYED = "token_replayed"  # noqa: S105
    FORBIDDEN = "forbidden"
    FORBIDDEN_ORIGIN = "forbidden_origin"
    START_TIMEOUT = "start_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    STREAM_TOO_LONG = "stream_too_long"
    TOO_FAST = "too_fast"
    RATE_LIMITED = "rate_limited"
    SLOW_CONSUMER = "slow_consumer"
    MODEL_ERROR = "model_error"
    MODEL_TIMEOUT = "model_timeout"
    MODEL_CRASHED = "model_crashed"
    UNKNOWN_MODEL = "unknown_model"
    OVERLOADED = "overloaded"
    DRAINING = "draining"
    INTERNAL = "internal"


RETRYABLE: frozenset[ErrorCode] = frozenset(
    {
        ErrorCode.TOKEN_EXPIRED,
        ErrorCode.START_TIMEOUT,
        ErrorCode.IDLE_TIMEOUT,
        ErrorCode.TOO_FAST,
        ErrorCode.RATE_LIMITED,
        ErrorCode.SLOW_CONSUMER,
        ErrorCode.MODEL_ERROR,
        ErrorCode.MODEL_TIMEOUT,
        ErrorCode.MODEL_CRASHED,
        ErrorCode.OVERLOADED,
        ErrorCode.DRAINING,
        ErrorCode.INTERNAL,
    }
)
"""Codes after which the same request may succeed later, elsewhere, or with a new token."""

RETRY_AFTER: frozenset[ErrorCode] = frozenset({ErrorCode.TOO_FAST, ErrorCode.RATE_LIMITED, ErrorCode.OVERLOADED})
"""Retryable codes of overload, which carry a retry time."""


class StreamerError(Exception):
    """An error with a stable code and a message that is safe to show to a client.

    `field`, `expected` and `got` describe an invalid input; if given, they are part of the message.
    """

    code: ErrorCode = ErrorCode.INTERNAL
    retry_after_s: float | None = None
    """Seconds before a retry; None if unknown."""

    def __init__(
        self,
        message: str = "",
        *,
        field: str | None = None,
        expected: str | None = None,
        got: object = None,
        code: ErrorCode | None = None,
    ) -> None:
        if code is not None:
            self.code = code
        self.field = field
        self.expected = expected
        self.got = got
        if not message:
            message = f"{field}: expected {expected}, got {brief(got)}"
        super().__init__(message)
        self.message = message

    @property
    def retryable(self) -> bool:
        return self.code in RETRYABLE


class BadRequest(StreamerError):
    """An invalid message."""

    code = ErrorCode.BAD_REQUEST


class InvalidFormat(StreamerError):
    """An unsupported audio format."""

    code = ErrorCode.INVALID_FORMAT


class ConfigError(StreamerError):
    """A wrong setting. The message names its source and key, the expected and the received value."""

    code = ErrorCode.BAD_REQUEST


class ListenFailed(StreamerError):
    """The server's address cannot be bound."""


class ModelLoadError(StreamerError):
    """The user's model cannot be imported, built or loaded. `detail`: the traceback of the author's code, if any."""

    code = ErrorCode.MODEL_ERROR

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class ModelFailed(StreamerError):
    """The user's model failed on one item."""

    code = ErrorCode.MODEL_ERROR


class Overloaded(StreamerError):
    """More work than the server can do. `retry_after_s`: seconds before a retry."""

    code = ErrorCode.OVERLOADED
    retry_after_s: float

    def __init__(self, message: str = "the server is at capacity", *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def brief(value: object, limit: int = 80) -> str:
    """Return a value as text that is short enough for an error, so that a hostile value cannot flood a log."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**20:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
