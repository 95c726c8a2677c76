"""Clients that mean harm: `python -m benchmarks.attackers KIND PORT GRPC_PORT COUNT SECONDS` prints how they ended.

They stop by themselves, and speak to the loopback alone, from addresses of their own: 127.1.0.1 and on.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic

from benchmarks.bench_media import looped
from tests.faults.raw import BINARY, CONTINUATION, PING, TEXT, UPGRADE, frame
from tests.media.material import flac_of_silence, ogg_opus
from tests.transports.grpc import raw_http2 as http2

SEGMENTED = UPGRADE.replace(b"/api/v2/simple", b"/api/v2/segmented") + b"\r\n"
PATIENT_VAD = {
    "positive_speech_threshold": 0,
    "negative_speech_threshold": 0,
    "pre_speech_pad_ms": 5_000,
    "redemption_time_ms": 10_000,
}
"""The most that a client may ask for, so that its start is not refused."""
RECONNECT_S = 0.2
CROWD = 1_050
"""Connections of an attacker that does nothing but hold them."""
ADDRESS = "127.1.0.1"
CALL = "/streamer.v2.Streamer/Stream"


def start(encoding: str = "pcm_s16le", sample_rate: int = 16_000, channels: int = 1, **more: object) -> bytes:
    form = {"encoding": encoding, "sample_rate": sample_rate, "channels": channels}
    return frame(TEXT, json.dumps({"type": "start", "format": form, **more}).encode())


class Attacker:
    """One of them. `ends`: how its connections ended."""

    def __init__(self, port: int, grpc_port: int, until: float, ends: Counter[str]) -> None:
        self.port, self.grpc_port, self.until, self.ends = port, grpc_port, until, ends

    async def connection(
        self,
        request: bytes,
        attack: Callable[[asyncio.StreamWriter], Awaitable[None]],
        *,
        address: str = ADDRESS,
        grpc: bool = False,
        reconnect_s: float = RECONNECT_S,
        leaves: bool = False,
    ) -> None:
        """Connect, attack until cut off, connect again. `leaves`: does not wait for a close."""
        while monotonic() < self.until:
            try:
                port = self.grpc_port if grpc else self.port
                reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
            except OSError:
                self.ends["no connection"] += 1
                await asyncio.sleep(RECONNECT_S)
                continue
            reading = asyncio.create_task(self._read(reader, leaves=leaves))
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
            await asyncio.sleep(reconnect_s if monotonic() < self.until else 0)

    async def _read(self, reader: asyncio.StreamReader, *, leaves: bool) -> None:
        last = b""
        end = "still open"
        try:
            while data := await reader.read(65_536):
                last = (last + data)[-200:]
                if leaves and b'"fatal":true' in last:
                    break
            end = "closed"
        except OSError:
            end = "reset"
        finally:
            for code in (
                b"rate_limited",
                b"invalid_format",
                b"invalid_audio",
                b'"type":"finished"',
                b"idle_timeout",
                b"too_fast",
                b"HTTP/1.1 429",
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

    async def once(self, data: bytes, request: bytes = SEGMENTED) -> None:
        """Send this on a connection and wait for its end, again and again."""
        current: asyncio.StreamWriter | None = None

        async def attack(writer: asyncio.StreamWriter) -> None:
            nonlocal current
            if writer is current:
                await asyncio.sleep(0.01)
                return
            current = writer
            writer.write(data)

        await self.connection(request, attack, reconnect_s=0.0, leaves=True)

    async def uploads(self, data: bytes) -> None:
        """A file by POST, again and again."""
        head = f"POST /api/v2/segmented HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n"
        await self.once(data, head.encode())

    async def hours(self, name: str) -> None:
        """Upload an hour of audio, again and again. Needs ffmpeg."""
        path = looped(name, 1.0)
        assert path is not None, "ffmpeg is not installed"
        await self.uploads(path.read_bytes())

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

    async def silence(self, request: bytes = b"", *, addresses: int = 1, grpc: bool = False) -> None:
        """A crowd of connections that say no more than this, opened again when they are dropped."""

        async def attack(writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.5)

        async def one(number: int) -> None:
            host = number % addresses
            await asyncio.sleep(number / CROWD)
            address = f"127.1.{host // 250}.{host % 250 + 1}"
            await self.connection(request, attack, address=address, grpc=grpc, reconnect_s=1.0)

        await asyncio.gather(*[one(number) for number in range(CROWD)])

    async def coming_and_going(self, request: bytes = b"") -> None:
        """Connections that are closed as soon as they are answered; at once if they ask for nothing."""
        loop = asyncio.get_running_loop()
        while monotonic() < self.until:
            connection = socket.socket()
            connection.setblocking(False)
            connection.bind((ADDRESS, 0))
            with connection, suppress(OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await loop.sock_connect(connection, ("127.0.0.1", self.port))
                    if request:
                        await loop.sock_sendall(connection, request)
                        answer = await loop.sock_recv(connection, 4_096)
                        self.ends[answer[:12].decode() or "closed"] += 1
                    else:
                        self.ends["connected"] += 1
            await asyncio.sleep(0)

    async def greed(self) -> None:
        """As much as there is room for, in front of speech that never ends, kept with keepalives."""
        vad = {**PATIENT_VAD, "positive_speech_threshold": 1, "negative_speech_threshold": 1}
        first = start("pcm_u8", 5_000, 8, vad=vad) + frame(BINARY, b"\x80" * 60_000) * 413
        await self.flood(frame(TEXT, b'{"type":"keepalive"}'), first, pause_s=1.0)

    async def resets(self, *, reset: bool) -> None:
        """Calls that are opened, and taken back at once (CVE-2023-44487) or left open."""
        stream = 1

        async def attack(writer: asyncio.StreamWriter) -> None:
            nonlocal stream
            for _ in range(100):
                headers = http2.headers(CALL)
                writer.write(http2.frame(http2.Kind.HEADERS, headers, flags=http2.END_HEADERS, stream=stream))
                if reset:
                    cancel = http2.CANCEL.to_bytes(4, "big")
                    writer.write(http2.frame(http2.Kind.RST_STREAM, cancel, stream=stream))
                stream += 2

        await self.connection(GREETING, attack, grpc=True)

    async def interims(self) -> None:
        """54 s of "speech" at once, then real time: each interim is the whole of up to a minute."""
        vad = {**PATIENT_VAD, "max_speech_time_ms": 60_000}
        first = (
            start("pcm_u8", 5_000, 2, vad=vad, interim_results=True, interim_interval_ms=1)
            + frame(BINARY, b"\x82" * 60_000) * 9
        )
        await self.flood(frame(BINARY, b"\x82" * 1_000), first, pause_s=0.1)


GREETING = http2.PREFACE + http2.frame(http2.Kind.SETTINGS) + http2.frame(http2.Kind.SETTINGS, flags=http2.ACK)
_FRAGMENTS = frame(BINARY, fin=False) + frame(CONTINUATION, fin=False) * 3_000 + frame(CONTINUATION)

_AUTO = frame(TEXT, b'{"type":"start","format":{"encoding":"auto"}}')
_FLAC_BOMB, _MONO_FLAC_BOMB = flac_of_silence(300), flac_of_silence(300, channels=1)
"""Twenty minutes in 10 and 4 kB."""
_OPUS_BOMB = ogg_opus(bytes([11 << 3 | 3, 2]), 20)
"""Ten minutes of empty packets in 16 kB."""

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
    "connections opened and closed": Attacker.coming_and_going,
    "sessions opened and left": lambda one: one.coming_and_going(SEGMENTED),
    "requests that are refused": lambda one: one.coming_and_going(b"GET /secret HTTP/1.1\r\nHost: x\r\n\r\n"),
    "requests that are broken": lambda one: one.coming_and_going(b"\0\1\2\r\n\r\n"),
    "1 050 silent connections of one address": Attacker.silence,
    "1 050 silent connections of many addresses": lambda one: one.silence(addresses=CROWD),
    "greedy sessions": Attacker.greed,
    "bombs of FLAC, eight channels": lambda one: one.once(_AUTO + frame(BINARY, _FLAC_BOMB)),
    "bombs of FLAC": lambda one: one.once(_AUTO + frame(BINARY, _MONO_FLAC_BOMB)),
    "bombs of Opus": lambda one: one.once(_AUTO + frame(BINARY, _OPUS_BOMB)),
    "bombs of FLAC, eight channels, by POST": lambda one: one.uploads(_FLAC_BOMB),
    "bombs of Opus by POST": lambda one: one.uploads(_OPUS_BOMB),
    "an hour of MP3 by POST": lambda one: one.hours("mp3"),
    "an hour of M4A by POST": lambda one: one.hours("m4a"),
    "an hour of Ogg Opus by POST": lambda one: one.hours("ogg"),
    "gRPC: 1 050 silent connections": lambda one: one.silence(GREETING, grpc=True),
    "gRPC: calls taken back": lambda one: one.resets(reset=True),
    "gRPC: calls left open": lambda one: one.resets(reset=False),
}
ALONE = {kind for kind in KINDS if "1 050" in kind}
"""Kinds that are measured with one attacker only: eight would do the same."""


async def main() -> None:
    kind, port, grpc_port, count = sys.argv[1], *map(int, sys.argv[2:5])
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    ends: Counter[str] = Counter()
    until = monotonic() + float(sys.argv[5])
    await asyncio.gather(*[KINDS[kind](Attacker(port, grpc_port, until, ends)) for _ in range(count)])
    print(json.dumps(ends), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
