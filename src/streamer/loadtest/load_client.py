"""Interface between streams and transports: a caller opens lines, which send frames that were built in advance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from streamer.client.transport import ClientCodec

CONNECT_TIMEOUT_S = 30.0
MAX_EVENT_BYTES = 16 * 1024 * 1024


class ConnectionRefused(Exception):
    """The connection failed; the message has the reason."""


class LoadListener(Protocol):
    """Receives the frames of a connection. `now` is time.monotonic()."""

    def on_frame(self, frame: Any, now: float) -> None: ...

    def on_close(self, code: int, reason: str, now: float) -> None: ...


class LoadConnection(Protocol):
    """An open connection. Its methods never wait."""

    def send(self, frame: Any) -> None:
        """Send audio: one of the caller's frames."""

    def send_control(self, message: Any) -> None:
        """Send a control message."""

    def abort(self) -> None: ...


class LoadClient(Protocol):
    """Opens connections to one address. `streams_per_process`: number that one process can send on time."""

    streams_per_process: int

    def new_codec(self) -> ClientCodec[Any]:
        """Return the codec of one connection."""
        ...

    def frames(self, chunks: list[bytes]) -> Sequence[Any]:
        """Return audio as frames, built once for all streams."""
        ...

    async def connect(self, listener: LoadListener) -> LoadConnection:
        """Return an open connection. Raises Refused."""
        ...
