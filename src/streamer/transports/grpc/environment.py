"""Environment variables that gRPC reads before its first use; set here unless the user has set them."""

from __future__ import annotations

from collections.abc import MutableMapping
from importlib.metadata import PackageNotFoundError, version

FEWER_THREADS = "-event_engine_listener"
"""Sockets are read by the thread that waits for the calls' events, not by a pool that hands them over: 30 us of CPU for
a received message instead of 50 (docs/design/grpc.md)."""
KNOWN_UP_TO = (1, 85)
"""Last release of grpcio that is known to support the switch; one that does not writes a message to stderr."""


def set_defaults(environment: MutableMapping[str, str]) -> None:
    """Set the variables. Has no effect if gRPC is in use already."""
    # Its log has a line for each error of a client, so any client could fill it.
    environment.setdefault("GRPC_VERBOSITY", "NONE")
    if _release() <= KNOWN_UP_TO:
        environment.setdefault("GRPC_EXPERIMENTS", FEWER_THREADS)


def _release() -> tuple[int, ...]:
    """Return the release of grpcio; a very high one if it is not installed."""
    try:
        return tuple(int(number) for number in version("grpcio").split(".")[:2])
    except PackageNotFoundError:
        return (1_000,)
