"""SIGTERM with 1 000 live streams: what becomes of each. `python -m benchmarks.drain --streams 1000`.

The server is a process of its own, this one is its clients. Every stream sends real speech in real time and never stops
by itself; the signal comes while all of them run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from streamer.testing import s16le, speech
from tests.faults.served import ServerProcess, served

RATE = 16_000
START: dict[str, Any] = {"type": "start", "format": {"encoding": "pcm_s16le", "sample_rate": RATE, "channels": 1}}
WEATHER = s16le(speech())
CONNECT_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Talk:
    """What each client does."""

    mode: str = "simple"
    chunk_ms: int | None = 2_000
    """Of simple mode; None: pieces as short as they come."""
    message_s: float = 0.5
    """Audio in a message."""


@dataclass(slots=True)
class Live:
    """One stream, and what it has heard."""

    socket: aiohttp.ClientWebSocketResponse
    sent: int = 0
    """Frames."""
    told: float | None = None
    """When `draining` came."""
    closed: float | None = None
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def finished(self) -> dict[str, Any] | None:
        return next((event for event in self.events if event["type"] == "finished"), None)

    def answered(self, mode: str) -> int:
        """Frames covered by finals or named by errors."""
        if mode == "segmented":  # what is not speech has no final: the closing event is the account
            return int(self.finished["processed"]) if self.finished else 0
        ranges = [event for event in self.events if event["type"] in ("segment", "error") and "start_time" in event]
        return round(RATE * sum(event["end_time"] - event["start_time"] for event in ranges))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A drain in numbers. Times in seconds from the signal."""

    streams: int
    codes: Counter[int | None]
    told_s: float
    """The last client knew."""
    first_closed_s: float
    last_closed_s: float
    exited_s: float
    exit_code: int
    finals: int
    forced: int
    """Streams without a closing event."""
    received: int
    unaccounted: int
    """Frames that the server has received, and neither answered nor named."""
    unread: int
    """Frames that were on their way: the closing event says how many came, so the client knows where to go on."""


@asynccontextmanager
async def living(url: str, count: int, talk: Talk) -> AsyncIterator[list[Live]]:
    """So many streams, started and sending."""
    start = START | {"chunk_ms": talk.chunk_ms} if talk.mode == "simple" and talk.chunk_ms else START
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        gate = asyncio.Semaphore(CONNECT_AT_ONCE)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())

        async def join() -> Live:
            async with gate:
                socket = await place(http, f"{url}/api/v2/{talk.mode}")
                await socket.send_json(start)
                live = Live(socket)
                live.events.append(await socket.receive_json())
            tasks.create_task(listen(live))
            return live

        lives = list(await asyncio.gather(*(join() for _ in range(count))))
        for number, live in enumerate(lives):
            tasks.create_task(speak(live, talk.message_s, talk.message_s * number / count))
        yield lives


async def place(http: aiohttp.ClientSession, url: str) -> aiohttp.ClientWebSocketResponse:
    """Connected, if need be after having been told to come back later."""
    while True:
        try:
            return await http.ws_connect(url, max_msg_size=0)
        except aiohttp.WSServerHandshakeError as refused:
            if refused.status != 503 or refused.headers is None:
                raise
            await asyncio.sleep(float(refused.headers["Retry-After"]))


async def speak(live: Live, message_s: float, later_s: float) -> None:
    """Real time, for as long as there is somebody to talk to."""
    await asyncio.sleep(later_s)
    size = int(message_s * RATE) * 2
    with suppress(ConnectionError):
        while live.closed is None:
            at = live.sent * 2 % len(WEATHER)
            data = WEATHER[at : at + size]
            await live.socket.send_bytes(data)
            live.sent += len(data) // 2
            await asyncio.sleep(len(data) / 2 / RATE)


async def listen(live: Live) -> None:
    async for message in live.socket:
        event = json.loads(message.data)
        if event["type"] == "draining":
            live.told = time.monotonic()
        if event["type"] != "ack":
            live.events.append(event)
    live.closed = time.monotonic()


async def drain(server: ServerProcess, streams: int, talk: Talk, *, after_s: float = 3.0) -> Outcome:
    """Signal a server while its streams run; what became of them."""
    async with living(server.url, streams, talk) as lives:
        await asyncio.sleep(after_s)
        assert all(live.closed is None for live in lives)
        began = time.monotonic()
        server.process.terminate()
        exit_code = await server.ended(120.0)
        exited_s = time.monotonic() - began
    return summed_up(lives, talk.mode, began, exited_s, exit_code)


def summed_up(lives: Sequence[Live], mode: str, began: float, exited_s: float, exit_code: int) -> Outcome:
    received = sum(live.finished["received"] for live in lives if live.finished)
    return Outcome(
        streams=len(lives),
        codes=Counter(live.socket.close_code for live in lives),
        told_s=max((live.told or began) - began for live in lives),
        first_closed_s=min((live.closed or began) - began for live in lives),
        last_closed_s=max((live.closed or began) - began for live in lives),
        exited_s=exited_s,
        exit_code=exit_code,
        finals=sum(event["type"] == "segment" for live in lives for event in live.events),
        forced=sum(live.finished is None for live in lives),
        received=received,
        unaccounted=received - sum(live.answered(mode) for live in lives if live.finished),
        unread=sum(live.sent for live in lives if live.finished) - received,
    )


async def measure(streams: int, talk: Talk, words: Sequence[str], log: Path | None) -> None:
    settings = ["--set", f"server.max_sessions={streams + 10}", "--set", "model.delay=0.005", *words]
    async with served("stub", "--set", "model.max_batch_size=64", *settings, log=log) as server:
        outcome = await drain(server, streams, talk)
    print(f"{outcome.streams} live streams of {talk.mode}, SIGTERM:")
    print(f"  told within {outcome.told_s:.2f} s, closed from {outcome.first_closed_s:.1f} to", end=" ")
    print(f"{outcome.last_closed_s:.1f} s, exit {outcome.exit_code} after {outcome.exited_s:.1f} s")
    print(f"  close codes {dict(outcome.codes)}, {outcome.forced} forced, {outcome.finals} finals delivered")
    print(f"  {outcome.received} frames received, {outcome.unaccounted} of them unaccounted for;", end=" ")
    print(f"{outcome.unread} were still on their way, and each client knows which")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--mode", choices=("simple", "segmented"), default="simple")
    parser.add_argument("--chunk-ms", type=int, default=2_000, help="of simple mode; 0: pieces as short as they come")
    parser.add_argument("--message-ms", type=int, default=500)
    parser.add_argument("--set", action="append", default=[], help="settings of the server, such as drain.soft_s=5")
    parser.add_argument("--log", type=Path, help="where the server's log goes")
    options = parser.parse_args()
    words = [word for setting in options.set for word in ("--set", setting)]
    talk = Talk(options.mode, options.chunk_ms or None, options.message_ms / 1_000)
    asyncio.run(measure(options.streams, talk, words, options.log))


if __name__ == "__main__":
    main()
