"""Audio to send: cut in chunks, and paced as a microphone would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator


def chunks(data: bytes, chunk_bytes: int) -> Iterator[bytes]:
    """`data` in pieces of `chunk_bytes`, the last one shorter."""
    view = memoryview(data)
    for start in range(0, len(view), chunk_bytes):
        yield bytes(view[start : start + chunk_bytes])


async def paced(
    pieces: Iterable[bytes],
    bytes_per_second: float,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncIterator[bytes]:
    """Each piece when a microphone would have it: once its last byte has been spoken.

    `bytes_per_second` is `format.sample_rate * format.frame_bytes`, of all channels together. An open loop: times are
    absolute, so delays do not add up, and a piece that is late is followed at once by those that are due.
    """
    began, sent = now(), 0
    for piece in pieces:
        sent += len(piece)
        wait = began + sent / bytes_per_second - now()
        if wait > 0:
            await sleep(wait)
        yield piece
