"""The servers that faults are done to: as they come, and such as do not wait long."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from streamer.app import App, GrpcAvailability
from streamer.config import Settings
from tests.faults.arena import LocalArena
from tests.faults.sight import RecordingObserver

MODEL = {"delay": 0.0, "constant_factor": 0.0, "jitter": 0.0, "warmup_penalty": 0.0}
IDLE_S = 2.5
START_S = 2.0
LARGEST_BYTES = 64 * 1024
IMPATIENT: Mapping[str, Any] = {
    "handshake_timeout_s": 1.5,
    "max_handshakes": 20,
    "outbox_bytes": 16 * 1024,
    "outbox_stall_s": 0.5,
    "send_buffer_bytes": 8 * 1024,
}


@asynccontextmanager
async def serving(headers: Mapping[str, str] | None = None, **sections: Any) -> AsyncIterator[LocalArena]:
    """A server over both transports, its log heard; `sections` are settings, `headers` what its clients send."""
    server = {"port": 0} | sections.pop("server", {})
    settings = Settings(**({"server": server, "model": MODEL, "grpc": {"port": -1}} | sections))
    told = RecordingObserver()
    async with App(settings, observers=[told], grpc=GrpcAvailability.REQUIRED) as app:
        arena = LocalArena(app, headers, told)
        with arena.log.listening():
            await arena.listen_alone()
            yield arena


def impatient(
    *, host: str = "127.0.0.1", close_timeout_s: float = 0.3, **grpc: float
) -> AbstractAsyncContextManager[LocalArena]:
    """A server that gives nobody much time."""
    return serving(
        server={**IMPATIENT, "host": host, "close_timeout_s": close_timeout_s},
        grpc={"port": -1, **grpc},
        session={"stall_timeout_s": 0},  # the neighbour pauses for as long as a fault takes
        # Floods are sent to see what they do to others: how long one may go on is a rule of its own.
        limits={
            "idle_timeout_s": IDLE_S,
            "start_timeout_s": START_S,
            "max_control_share": 100.0,
            "max_audio_message_bytes": LARGEST_BYTES,
        },
    )
