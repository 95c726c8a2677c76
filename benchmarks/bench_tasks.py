"""What it costs to time each poll of a task: sleep(0) in a loop, and an echo over a socket pair, with and without."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from statistics import median
from typing import Any

import uvloop

from streamer.telemetry.tasks import TaskStats

POLLS = 200_000
ECHOES = 20_000
ROUNDS = 7

Wrap = Callable[[Coroutine[Any, Any, None]], Coroutine[Any, Any, None]]


async def yields() -> None:
    for _ in range(POLLS):
        await asyncio.sleep(0)


async def echoes(wrap: Wrap) -> None:
    near, far = socket.socketpair()
    for end in (near, far):
        end.setblocking(False)
    loop = asyncio.get_running_loop()

    async def answer() -> None:
        for _ in range(ECHOES):
            await loop.sock_sendall(far, await loop.sock_recv(far, 64))

    async def ask() -> None:
        for _ in range(ECHOES):
            await loop.sock_sendall(near, b"x" * 64)
            await loop.sock_recv(near, 64)

    with near, far:
        await asyncio.gather(wrap(answer()), wrap(ask()))


def cpu(work: Callable[[], Coroutine[Any, Any, None]]) -> float:
    began = time.process_time()
    uvloop.run(work())
    return time.process_time() - began


def plain(coroutine: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
    return coroutine


async def in_task(coroutine: Coroutine[Any, Any, None]) -> None:
    await asyncio.create_task(coroutine)


def main() -> None:
    def compare(name: str, polls: int, work: Callable[[Wrap], Coroutine[Any, Any, None]]) -> None:
        stats = TaskStats()
        pairs = [(cpu(lambda: work(plain)), cpu(lambda: work(stats.task))) for _ in range(ROUNDS)]
        without, timed = (median(column) for column in zip(*pairs, strict=True))
        each = (timed - without) / polls * 1e6
        print(f"{name:<12} {without / polls * 1e6:6.2f} us a poll, timed {timed / polls * 1e6:6.2f}: +{each:.2f} us")

    compare("sleep(0)", POLLS, lambda wrap: in_task(wrap(yields())))
    compare("socket echo", 2 * ECHOES, echoes)


if __name__ == "__main__":
    main()
