"""Limits of connections: before their session, in the kernel's buffers, and for the input of a WebSocket."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from streamer.connection.address_budgets import AddressBudgets
from streamer.errors import ErrorCode

CLOSING_TURN_S = 0.01
"""Seconds between two iterations for a peer whose close is awaited: its other input is not urgent."""
DROPPING_TURN_S = 0.002
"""Seconds between two reads of a failed peer. Its input is dropped: the peer may read the close only after sending."""
MAX_UNREAD_BYTES = 64 * 1024
"""Unread bytes above which the socket is not read."""
MAX_SMALL_BYTES = 64
"""Size up to which a data frame is charged like a control frame, because it carries almost no audio."""


@dataclass(frozen=True, slots=True)
class HandshakeLimits:
    """Limits of connections that are not sessions (yet)."""

    max_connections: int
    timeout_s: float
    """Time from the accept to the end of the first request's head, including TLS; and for the next head on a kept
    connection."""
    on_refused: Callable[[ErrorCode, str], None]
    """Called with the address of each connection that exceeded a limit."""
    max_per_address: float = math.inf
    addresses: AddressBudgets = field(default_factory=AddressBudgets)
    """Charged for connections that do not become sessions; an address over its budget gets no further one."""


@dataclass(frozen=True, slots=True)
class Buffers:
    """The kernel's buffers of one connection in bytes: received, and unsent.

    With 0 the kernel decides and may keep megabytes, which no limit counts, and a reader that stopped would be noticed
    later.
    """

    receive: int = 0
    send: int = 0
