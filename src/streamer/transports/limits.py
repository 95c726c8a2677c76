"""Limits of a listener: connections that are not sessions (yet), and the kernel's buffers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from streamer.errors import ErrorCode
from streamer.runtime.address_budgets import AddressBudgets


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
