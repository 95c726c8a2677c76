"""Audio sources: cut into chunks, and paced like a microphone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from streamer.audio.format import AudioFormat, Encoding

if TYPE_CHECKING:
    from streamer.audio.files import AudioFile

_SIXTEEN_BITS = {"PCM_S8", "PCM_U8", "PCM_16", "ULAW", "ALAW"}
"""Subtypes of libsndfile that 16 bits represent exactly."""


def chunks(data: bytes, chunk_bytes: int) -> Iterator[bytes]:
    """Yield `data` in pieces of `chunk_bytes`; the last one may be shorter."""
    view = memoryview(data)
    for start in range(0, len(view), chunk_bytes):
        yield bytes(view[start : start + chunk_bytes])


async def pace(
    pieces: Iterable[bytes],
    bytes_per_second: float,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncIterator[bytes]:
    """Yield each piece at the time when a microphone would have recorded it.

    `bytes_per_second` is `format.sample_rate * format.frame_bytes`, of all channels together. This is an open loop:
    times are absolute, so delays do not add up, and a late piece is followed at once by those that are due.
    """
    started_at, sent = now(), 0
    for piece in pieces:
        sent += len(piece)
        wait = started_at + sent / bytes_per_second - now()
        if wait > 0:
            await sleep(wait)
        yield piece


def wire_audio(recording: AudioFile) -> tuple[AudioFormat, bytes]:
    """Return a recording as it is sent: 16-bit integers if they are exact, otherwise 32-bit floats.

    Both protocol versions support these. Raises InvalidFormat for too many channels.
    """
    import numpy as np  # noqa: PLC0415 (not needed for raw PCM)

    integers = recording.subtype in _SIXTEEN_BITS
    encoding = Encoding.PCM_S16LE if integers else Encoding.PCM_F32LE
    format_ = AudioFormat(encoding, recording.sample_rate, recording.channels).check()
    samples = recording.samples.T  # interleaved: [frames, channels]
    if integers:
        samples = np.clip(np.rint(samples * 32_768), -32_768, 32_767)
    return format_, samples.astype("<i2" if integers else "<f4").tobytes()
