"""Clients that mean harm: `python -m benchmarks.attackers KIND PORT COUNT SECONDS` prints how they ended.

They stop by themselves, and speak to the loopback alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic

from tests.faults.raw import BINARY, CONTINUATION, PING, TEXT, UPGRADE, frame

SEGMENTED = UPGRADE.replace(b"/api/v2/simple", b"/api/v2/segmented") + b"\r\n"
PATIENT_VAD = {
    "positive_speech_threshold": 0,
    "negative_speech_threshold": 0,
    "pre_speech_pad_ms": 600_000,
    "max_speech_time_ms": 600_000,
    "redemption_time_ms": 600_000,
}
RECONNECT_S = 0.2


def start(encoding: str = "pcm_s16le", sample_rate: int = 16_000, channels: int = 1, **more: object) -> bytes:
    form = {"encoding": encoding, "sample_rate": sample_rate, "channels": channels}
    return frame(TEXT, json.dumps({"type": "start", "format": form, **more}).encode())


class Attacker:
    """One of them. `ends`: how its connections ended."""

    def __init__(self, port: int, until: float, ends: Counter[str]) -> None:
        self.port, self.until, self.ends = port, until, ends

    async def connection(self, request: bytes, attack: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> None:
        """Connect, attack until cut off, connect again."""
        while monotonic() < self.until:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                self.ends["no connection"] += 1
                await asyncio.sleep(RECONNECT_S)
                continue
            reading = asyncio.create_task(self._read(reader))
            try:
                writer.write(request)
                async with asyncio.timeout(max(0.0, self.until - monotonic())):
                    while not reading.done():
                        await attack(writer)
                        await writer.drain()
            except (OSError, TimeoutError):
                pass
            writer.transport.abort()
            with suppress(asyncio.CancelledError):
                reading.cancel()
                await reading
            await asyncio.sleep(RECONNECT_S if monotonic() < self.until else 0)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        last = b""
        end = "still open"
        try:
            while data := await reader.read(65_536):
                last = (last + data)[-200:]
            end = "closed"
        except OSError:
            end = "reset"
        finally:
            for code in (
                b"rate_limited",
                b"invalid_format",
                b"idle_timeout",
                b"too_fast",
                b"HTTP/1.1 503",
                b"overloaded",
            ):
                if code in last:
                    end = code.decode()
            self.ends[end] += 1

    async def flood(self, unit: bytes, first: bytes = b"", pause_s: float = 0.0) -> None:
        sent = False

        async def attack(writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            if not sent:
                writer.write(first)
                sent = True
            writer.write(unit)
            await asyncio.sleep(pause_s)

        await self.connection(SEGMENTED, attack)

    async def after_a_fatal_start(self, unit: bytes) -> None:
        """A start that cannot be served; then a flood while the server waits for the close."""

        async def attack(writer: asyncio.StreamWriter) -> None:
            writer.write(unit)

        await self.connection(SEGMENTED + start(channels=99), attack)

    async def http(self, path: str, pipelined: int) -> None:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * pipelined

        async def attack(writer: asyncio.StreamWriter) -> None:
            writer.write(request)

        await self.connection(b"", attack)

    async def silence(self) -> None:
        async def attack(writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.05)

        await self.connection(b"", attack)

    async def interims(self) -> None:
        """560 s of "speech" at once, then real time: each interim is the whole of it."""
        first = (
            start("pcm_u8", 5_000, 8, vad=PATIENT_VAD, interim_results=True, interim_interval_ms=1)
            + frame(BINARY, b"\x82" * 60_000) * 373
        )
        await self.flood(frame(BINARY, b"\x82" * 4_000), first, pause_s=0.1)


_FRAGMENTS = frame(BINARY, fin=False) + frame(CONTINUATION, fin=False) * 3_000 + frame(CONTINUATION)

KINDS: dict[str, Callable[[Attacker], Awaitable[None]]] = {
    "pings": lambda one: one.flood(frame(PING) * 2_000),
    "pings while a close is awaited": lambda one: one.after_a_fatal_start(frame(PING) * 2_000),
    "empty messages while a close is awaited": lambda one: one.after_a_fatal_start(frame(BINARY) * 4_000),
    "broken JSON": lambda one: one.flood(frame(TEXT, b"{") * 500),
    "empty fragments": lambda one: one.flood(_FRAGMENTS, start()),
    "costly starts": lambda one: one.flood(start("pcm_f64le", 191_999, 8) * 20),
    "starts": lambda one: one.flood(start() * 20),
    "starts and audio": lambda one: one.flood((start("pcm_u8", 4_001, 8) + frame(BINARY, b"\x80" * 16)) * 10),
    "flushes": lambda one: one.flood(frame(TEXT, b'{"type":"flush"}') * 50, start()),
    "one-byte messages": lambda one: one.flood(frame(BINARY, b"\0") * 4_000, start()),
    "audio at full speed": lambda one: one.flood(frame(BINARY, bytes(60_000)), start()),
    "interims of long speech": Attacker.interims,
    "metrics, pipelined": lambda one: one.http("/metrics", 16),
    "livez, pipelined": lambda one: one.http("/livez", 64),
    "silent connections": Attacker.silence,
}


async def main() -> None:
    kind, port, count, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    ends: Counter[str] = Counter()
    until = monotonic() + seconds
    await asyncio.gather(*[KINDS[kind](Attacker(port, until, ends)) for _ in range(count)])
    print(json.dumps(ends), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
