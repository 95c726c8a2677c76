"""What gRPC reads from the environment, once, before its first use: set here where nobody else has."""

from __future__ import annotations

from collections.abc import MutableMapping
from importlib.metadata import PackageNotFoundError, version

FEWER_THREADS = "-event_engine_listener"
"""Sockets are read by the thread that waits for the calls' events, not by a pool that hands them on to it: 30 us of CPU
for a received message instead of 50 (docs/design/grpc.md)."""
KNOWN_UP_TO = (1, 85)
"""The last release of grpcio that was seen to know the switch; one that does not says so on stderr."""


def set_defaults(environment: MutableMapping[str, str]) -> None:
    """Changes nothing where gRPC is in use already."""
    # Its log has a line for what a client does wrong: whoever likes could fill it.
    environment.setdefault("GRPC_VERBOSITY", "NONE")
    if _release() <= KNOWN_UP_TO:
        environment.setdefault("GRPC_EXPERIMENTS", FEWER_THREADS)


def _release() -> tuple[int, ...]:
    """Of grpcio; nothing is installed: a release that is too new for anything."""
    try:
        return tuple(int(number) for number in version("grpcio").split(".")[:2])
    except PackageNotFoundError:
        return (1_000,)
