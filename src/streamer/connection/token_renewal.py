"""Renews the lease of a connection by a message, also if another machine has to be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from streamer.access import Lease
from streamer.errors import StreamerError
from streamer.session.actions import Action, Emit
from streamer.session.events import ErrorEvent

Enter = Callable[[Callable[[float], Sequence[Action]]], None]
"""Runs a step of the session."""

_asking: set[asyncio.Task[None]] = set()
"""Renewals that wait for an answer; the event loop alone would forget them."""


def renew(lease: Lease | None, secret: str, now: float, enter: Enter) -> Sequence[Action]:
    """Renew a lease with a newer token; return the refusal, which changes nothing. A later one enters by `enter`."""
    if lease is None:
        return ()
    try:
        using = lease.renew(secret, now)
    except StreamerError as error:
        return [Emit(ErrorEvent.from_error(error))]
    if using is not None:
        task = asyncio.ensure_future(_wait(using, enter))
        _asking.add(task)
        task.add_done_callback(_asking.discard)
    return ()


async def _wait(using: Awaitable[None], enter: Enter) -> None:
    try:
        await using
    except StreamerError as error:
        refusal = [Emit(ErrorEvent.from_error(error))]
        enter(lambda _: refusal)
