"""Live clients for the benchmarks: each speaks in real time (or faster) and notes when each answer came."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

import numpy as np

import streamer
from streamer.audio.files import read_audio
from streamer.client.errors import HandshakeRefused
from streamer.client.sources import chunks, pace
from streamer.client.stream import Stream
from streamer.protocols.v2_wire import Error, Finished, Segment, SpeechEnded
from streamer.samples import sample

RATE = 16_000
BYTES_PER_SECOND = 2 * RATE


def recording() -> bytes:
    """The packaged recording, s16le at 16 kHz."""
    samples = read_audio(str(sample())).samples[0]
    return (samples * 32_767).astype("<i2").tobytes()


@dataclass(slots=True)
class Account:
    """What one client sent and heard. Latencies in milliseconds, each with the time its answer came."""

    sent: int = 0
    latencies: list[tuple[float, float]] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    finished: Finished | None = None
    refused: bool = False
    closed: str = ""

    @property
    def closes(self) -> bool:
        """Whether every frame sent was received, and answered or named."""
        end = self.finished
        return end is not None and end.received == self.sent // 2 and end.processed <= end.received

    def between(self, start: float, end: float) -> list[float]:
        return [latency for at, latency in self.latencies if start <= at < end]


async def speak(
    url: str,
    seconds: float,
    *,
    offset: float = 0.0,
    chunk_s: float = 0.1,
    speed: float = 1.0,
    account: Account | None = None,
    **start: object,
) -> Account:
    """One stream of `seconds` of the recording in a loop; `speed` 0: as fast as it goes.

    On /simple a latency counts from the sending of a piece's last audio, on /segmented from `speech_ended`, so that the
    endpointing is left out.
    """
    account = account or Account()
    audio = recording()
    skip = int(offset * RATE) * 2 % len(audio)
    data = (audio[skip:] + audio * (1 + int(seconds * BYTES_PER_SECOND / len(audio))))[: int(seconds * RATE) * 2]
    pieces = chunks(data, int(chunk_s * RATE) * 2)
    sent_at: list[float] = []
    simple_chunk_s = chunk_s if "/simple" in url else None
    try:
        async with streamer.connect(url, **start) as stream:  # type: ignore[arg-type]
            listening = asyncio.create_task(_listen(stream, account, sent_at, simple_chunk_s))
            try:
                async for piece in pace(pieces, BYTES_PER_SECOND * speed) if speed else _at_once(pieces):
                    await stream.send(piece)
                    account.sent += len(piece)
                    sent_at.append(time.monotonic())
                await stream.stop()
            finally:
                await listening
    except HandshakeRefused:
        account.refused = True
    except ConnectionError as error:
        account.closed = str(error)
    return account


async def _at_once(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _listen(stream: Stream, account: Account, sent_at: list[float], simple_chunk_s: float | None) -> None:
    ended = time.monotonic()
    async for event in stream:
        now = time.monotonic()
        match event:
            case SpeechEnded():
                ended = now
            case Segment(is_final=True):
                if simple_chunk_s:
                    ended = sent_at[min(len(sent_at), math.ceil(event.end_time / simple_chunk_s - 1e-6)) - 1]
                account.latencies.append((now, 1e3 * (now - ended)))
            case Error():
                account.errors[event.code] += 1
            case Finished():
                account.finished = event


def percentiles(latencies: list[float]) -> str:
    if not latencies:
        return "no answers"
    p50, p95, p99 = np.percentile(latencies, [50, 95, 99])
    return f"p50 {p50:7.0f}  p95 {p95:7.0f}  p99 {p99:7.0f} ms  ({len(latencies)} finals)"
