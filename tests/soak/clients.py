"""Clients of a soak: some do what they should and check every answer, some are rude."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Set
from dataclasses import dataclass, field

import aiohttp

from streamer.client import (
    ConnectFailed,
    ConnectionClosed,
    Event,
    HandshakeRefused,
    Segment,
    SpeechEnded,
    Stream,
    connect,
)
from streamer.client.transport import LOST
from streamer.testing import s16le, silence, speech
from tests.faults.raw import Raw, frame, header, raw, text
from tests.soak.ledger import Broken, check

RATE = 16_000
FORMAT = {"encoding": "pcm_s16le", "sample_rate": RATE, "channels": 1}
WEATHER = s16le(speech())
SECOND = s16le(silence(1.0))
Rude = Callable[[int, random.Random], Awaitable[str]]
CUT_OFF = "cut off"
"""By the network: a reset, or an end without a goodbye."""
_NO_WORKER = "refused overloaded"
_BY_MODEL = {
    _NO_WORKER,
    "closed 1011 model_error",
    "closed 1011 model_timeout",
    "closed 1011 model_crashed",
}
_BY_NETWORK = {
    CUT_OFF,
    "refused start_timeout",
    "closed 4408 start_timeout",
    "closed 4408 idle_timeout",
    "closed 4430 slow_consumer",
}
UNDISTURBED = {"whole"} | _BY_MODEL
"""How the stream of a polite client may end when nothing is between it and the server."""
_STREAM_TIMEOUT_S = 120.0
"""The network never is silent for so long: whoever has heard no end by then was forgotten."""


@dataclass(slots=True)
class Score:
    """What clients saw."""

    ends: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    """From `SpeechEnded` to its final, of the steady clients."""


class Client:
    """One place that always has a client in it; each that goes is followed by another."""

    def __init__(self, port: int, score: Score, seed: int, *, direct: bool) -> None:
        """`direct`: nothing is between it and the server, so nothing but the model may fail it."""
        self._port = port
        self._score = score
        self._random = random.Random(seed)
        self._direct = direct

    async def run(self) -> None:
        while True:
            await self._one()
            await asyncio.sleep(self._random.uniform(0.0, 0.5))

    async def _one(self) -> None:
        rude = None if self._direct or self._random.random() < 0.7 else self._random.choice(tuple(RUDE))
        name = "polite" if rude is None else rude.__name__
        try:
            async with asyncio.timeout(_STREAM_TIMEOUT_S):
                how = await self._polite() if rude is None else await rude(self._port, self._random)
        except Broken as broken:
            how = f"broken promise: {broken}"
        except AssertionError:  # of a raw client: the answer was no upgrade
            how = _NO_WORKER
        except TimeoutError:
            how = f"no end within {_STREAM_TIMEOUT_S:g} s"
        except ConnectionClosed as closed:
            how = CUT_OFF if closed.close_code == LOST else f"closed {closed.close_code} {closed.reason}"
        except HandshakeRefused as refused:
            how = f"refused {refused.code}"
        except (ConnectFailed, OSError, EOFError, aiohttp.ClientError):
            how = CUT_OFF
        if how not in self._allowed(rude):
            self._score.broken.append(f"{'undisturbed' if self._direct else name}: {how}")
            how = "BROKEN"
        self._score.ends[f"{name}: {how}"] += 1

    def _allowed(self, rude: Rude | None) -> Set[str]:
        if rude is None:
            return UNDISTURBED if self._direct else UNDISTURBED | _BY_NETWORK
        return RUDE[rude] | {_NO_WORKER}

    async def _polite(self) -> str:
        """A stream from the first sample to the last, cut anywhere, at any speed up to ten times the real one."""
        choose = self._random
        dialect, mode = choose.choice(("v1", "v2")), choose.choice(("simple", "segmented"))
        begin = choose.randrange(len(WEATHER) // 4) * 2
        data = (WEATHER + SECOND)[begin : begin + choose.randrange(1, len(WEATHER)) // 2 * 2]
        pace = choose.choice((1.0, 3.0, 10.0))
        url = f"ws://127.0.0.1:{self._port}/api/{dialect}/{mode}"
        async with connect(url, sample_rate=RATE, interim_results=choose.random() < 0.5) as stream:
            heard = asyncio.create_task(self._hear(stream))
            try:
                for piece in _cut(data, choose):
                    await stream.send(piece)
                    await asyncio.sleep(len(piece) / 2 / RATE / pace)
                await stream.stop()
                events = await heard
            finally:
                heard.cancel()
        check(events, sent=len(data) // 2, rate=RATE, mode=mode, dialect=dialect)
        return "whole"

    async def _hear(self, stream: Stream) -> list[Event]:
        events: list[Event] = []
        ended: float | None = None
        async for event in stream:
            events.append(event)
            if isinstance(event, SpeechEnded):
                ended = time.perf_counter()
            elif isinstance(event, Segment) and event.is_final and ended is not None and self._direct:
                self._score.latencies_s.append(time.perf_counter() - ended)
                ended = None
        return events


def _cut(data: bytes, choose: random.Random) -> list[bytes]:
    pieces, at = [], 0
    while at < len(data):
        size = choose.choice((1, 640, 3_200, 3_201, 16_000))
        pieces.append(data[at : at + size])
        at += size
    return pieces


# The rude ---------------------------------------------------------------------------------------


async def vanish(port: int, choose: random.Random) -> str:
    """Hang up in mid-stream without a word."""
    async with raw(port) as peer:
        await peer.send(text({"type": "start", "format": FORMAT}))
        for _ in range(choose.randrange(20)):
            await peer.send(frame(2, SECOND[:3_200]))
            await asyncio.sleep(0.02)
    return "gone"


async def never_read(port: int, choose: random.Random) -> str:
    async with raw(port, small_buffers=True) as peer:
        await peer.send(text({"type": "start", "format": FORMAT}))
        await peer.flood(text({"type": "flush", "id": "x" * 250}) * 100, choose.randrange(1, 60))
        await asyncio.sleep(choose.uniform(0, 3))
    return "gone"


async def fall_silent(port: int, choose: random.Random) -> str:
    async with raw(port) as peer:
        if choose.random() < 0.5:
            await peer.send(text({"type": "start", "format": FORMAT}))
        return await _closed(peer)


async def _closed(peer: Raw) -> str:
    code = await peer.close_code(within_s=_STREAM_TIMEOUT_S)
    return CUT_OFF if code is None else f"closed {code}"


async def talk_nonsense(port: int, choose: random.Random) -> str:
    async with raw(port) as peer:
        await peer.send(text({"type": "start", "format": FORMAT}))
        nonsense = (
            frame(1, b"{"),
            frame(1, b"\xff\xfe"),
            frame(2, choose.randbytes(3_201)),
            frame(3, b"?"),
            frame(2, b"x", rsv1=True),
            header(2, 2**40) + bytes(100),
            text({"type": "start", "format": FORMAT | {"channels": 10**9}}),
        )
        for _ in range(choose.randrange(1, 10)):
            await peer.send(choose.choice(nonsense))
        return await _closed(peer)


async def knock_only(port: int, choose: random.Random) -> str:
    """Half a handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /api/v2/simple HTTP/1.1\r\nUpgr")
    await reader.read()
    writer.close()
    return "turned away"


async def send_a_file(port: int, choose: random.Random) -> str:
    """A minute and more as fast as it goes, and away before the end half of the time."""
    async with connect(f"ws://127.0.0.1:{port}/api/v2/simple", sample_rate=RATE) as stream:
        for _ in range(choose.randrange(1, 90)):
            await stream.send(SECOND)
        if choose.random() < 0.5:
            return "gone"
        await stream.stop()
        async for _ in stream:
            pass
    return "whole"


RUDE: Mapping[Rude, Set[str]] = {
    vanish: {"gone", CUT_OFF},
    never_read: {"gone", CUT_OFF},
    fall_silent: {"closed 4408", CUT_OFF},
    talk_nonsense: {"closed 1002", "closed 1007", "closed 1009", "closed 1011", "closed 4400", "closed 4408", CUT_OFF},
    knock_only: {"turned away", CUT_OFF},
    send_a_file: {"gone", "whole"} | _BY_MODEL | _BY_NETWORK,
}
"""How each may end."""
