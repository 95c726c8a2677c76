"""Errors of the client library."""

from __future__ import annotations

from streamer.errors import ErrorCode, StreamerError

_CODE_OF_STATUS = {
    401: ErrorCode.UNAUTHENTICATED,
    403: ErrorCode.FORBIDDEN,
    408: ErrorCode.START_TIMEOUT,
    429: ErrorCode.RATE_LIMITED,
    503: ErrorCode.OVERLOADED,
}


class ConnectFailed(StreamerError, ConnectionError):
    """The server cannot be reached."""


class HandshakeRefused(ConnectFailed):
    """The server refused the connection.

    `status`: of HTTP or gRPC; `retry_after_s`: the server's retry time, if any.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        retry_after_s: float | None = None,
        code: ErrorCode | None = None,
        retryable: bool | None = None,
    ) -> None:
        """Create the error. `code` and `retryable` replace the values derived from the status."""
        super().__init__(message, code=code or _code_of_status(status))
        self.status = status
        self.retry_after_s = retry_after_s
        self._retryable = retryable

    @property
    def retryable(self) -> bool:
        return super().retryable if self._retryable is None else self._retryable


class ConnectionClosed(StreamerError, ConnectionError):
    """The connection ended before the stream. `close_code`: see `Closed`; `reason`: the server's own."""

    def __init__(self, close_code: int, reason: str, explanation: str = "") -> None:
        cause = " ".join(filter(None, (str(close_code), reason)))
        detail = f": {explanation}" if explanation else ""
        super().__init__(
            f"the connection was closed ({cause}){detail}", code=error_code_of(reason) or ErrorCode.INTERNAL
        )
        self.close_code = close_code
        self.reason = reason


class ProtocolError(StreamerError):
    """The server sent an invalid message."""

    code = ErrorCode.PROTOCOL_ERROR


def error_code_of(word: str) -> ErrorCode | None:
    """Return the code of a server's error; None for one that this version does not know."""
    try:
        return ErrorCode(word)
    except ValueError:
        return None


def _code_of_status(status: int) -> ErrorCode:
    """Return the code of a refusal without one: it comes from another program, such as a proxy."""
    return _CODE_OF_STATUS.get(status, ErrorCode.INTERNAL if status >= 500 else ErrorCode.BAD_REQUEST)
