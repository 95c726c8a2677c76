"""The seam between streams and carriers: a caller opens lines, a line carries frames that were built before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from streamer.client.link import Dialect

CONNECT_TIMEOUT_S = 30.0
MAX_EVENT_BYTES = 16 * 1024 * 1024


class Refused(Exception):
    """No connection came of it; the message says why."""


class Listener(Protocol):
    """Who hears what a connection hears. `now` is time.monotonic()."""

    def heard(self, frame: Any, now: float) -> None: ...

    def ended(self, code: int, reason: str, now: float) -> None: ...


class Line(Protocol):
    """An open connection. Nothing here waits."""

    def send(self, frame: Any) -> None:
        """Send audio: one of the caller's frames."""

    def say(self, words: Any) -> None:
        """Send words of the dialect."""

    def abort(self) -> None: ...


class Caller(Protocol):
    """Opens connections to one address. `streams_per_process`: what one process can speak and be on time."""

    streams_per_process: int

    def dialect(self) -> Dialect[Any]:
        """One for each connection."""
        ...

    def frames(self, chunks: list[bytes]) -> Sequence[Any]:
        """Audio as it travels, built once for all streams."""
        ...

    async def call(self, listener: Listener) -> Line:
        """An open connection. Raises Refused."""
        ...
