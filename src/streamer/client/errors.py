"""What can go wrong between a client and a server, each with what there is to know about it."""

from __future__ import annotations

from streamer.errors import ErrorCode, StreamerError

_CODE_OF_STATUS = {
    401: ErrorCode.UNAUTHENTICATED,
    403: ErrorCode.FORBIDDEN,
    408: ErrorCode.START_TIMEOUT,
    429: ErrorCode.RATE_LIMITED,
    500: ErrorCode.INTERNAL,
    503: ErrorCode.OVERLOADED,
}


class ConnectFailed(StreamerError, ConnectionError):
    """The server could not be reached."""


class HandshakeRefused(ConnectFailed):
    """The server answered, and said no. `status` is HTTP's or gRPC's; `retry_after_s` where the server named a time."""

    def __init__(
        self, message: str, *, status: int, retry_after_s: float | None = None, code: ErrorCode | None = None
    ) -> None:
        super().__init__(message, code=code or _CODE_OF_STATUS.get(status, ErrorCode.BAD_REQUEST))
        self.status = status
        self.retry_after_s = retry_after_s


class ConnectionClosed(StreamerError, ConnectionError):
    """The connection ended before the stream did. `close_code`: see `Closed`; `reason`: the server's own."""

    def __init__(self, close_code: int, reason: str, explanation: str = "") -> None:
        said = " ".join(filter(None, (str(close_code), reason)))
        detail = f": {explanation}" if explanation else ""
        super().__init__(f"the connection was closed ({said}){detail}", code=_code(reason))
        self.close_code = close_code
        self.reason = reason


class NotOfTheProtocol(StreamerError):
    """The server said something that is not of the protocol."""

    code = ErrorCode.PROTOCOL_ERROR


def _code(reason: str) -> ErrorCode:
    """A close reason is an error code; anything else is of no known kind."""
    try:
        return ErrorCode(reason)
    except ValueError:
        return ErrorCode.INTERNAL
