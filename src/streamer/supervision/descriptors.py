"""File descriptors: raises the limit of the process, and warns if the settings allow for more."""

from __future__ import annotations

import logging
import sys

from streamer.config import Settings

MAX_LIMIT = 2**20
"""Largest useful limit. Some containers allow a thousand times as many, and some programs iterate over all."""
RESERVE = 200
"""Descriptors besides connections of clients: listening sockets, model processes, log, libraries, probes."""

log = logging.getLogger(__name__)


def raise_limit() -> int:
    """Raise the soft limit of this process and its children to the hard limit; return it."""
    if sys.platform == "win32":
        return MAX_LIMIT
    import resource  # noqa: PLC0415 (not on Windows)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    hard_limit = MAX_LIMIT if hard == unlimited else min(hard, MAX_LIMIT)
    if soft == unlimited or soft >= hard_limit:
        return MAX_LIMIT if soft == unlimited else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard))
    except (OSError, ValueError):  # macOS has a lower limit that it does not report
        return soft
    return hard_limit


def required_descriptors(settings: Settings) -> int:
    """Return the number of descriptors that one server process needs at the limits of its settings."""
    server = settings.server
    listeners = 2 if server.metrics_address else 1
    connections = server.max_sessions + server.max_handshakes * listeners
    return connections + (settings.grpc.max_connections if settings.grpc.port else 0) + RESERVE


def ensure_limit(settings: Settings) -> None:
    """Raise the limit, once before serving, and warn if the settings allow for more."""
    limit, hard_limit = raise_limit(), required_descriptors(settings)
    if limit < hard_limit:
        server, grpc = settings.server, settings.grpc
        log.warning(
            "a process may open %d files and connections here, and the settings allow for %d (server.max_sessions %d, "
            "server.max_handshakes %d, grpc.max_connections %d, and %d for all else): clients could lock out others "
            "and the probes. Lower these settings, or raise the hard limit to %d (`ulimit -Hn`, LimitNOFILE= of "
            "systemd, `--ulimit nofile=` of docker)",
            limit, hard_limit, server.max_sessions, server.max_handshakes, grpc.max_connections if grpc.port else 0,
            RESERVE, hard_limit,
        )  # fmt: skip
