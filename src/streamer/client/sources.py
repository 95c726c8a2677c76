"""Audio to send: cut in chunks, and paced as a microphone would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from streamer.audio.format import AudioFormat, Encoding

if TYPE_CHECKING:
    from streamer.audio.files import AudioFile

_SIXTEEN_BITS = {"PCM_S8", "PCM_U8", "PCM_16", "ULAW", "ALAW"}
"""libsndfile's names of what 16 bits hold exactly."""


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


def wire_audio(recording: AudioFile) -> tuple[AudioFormat, bytes]:
    """A recording as it is sent: 16-bit integers where the file has no more, 32-bit floats otherwise.

    Both dialects have these two, and nothing that a model sees is lost in them. Raises InvalidFormat for more channels
    than can be streamed.
    """
    import numpy as np  # noqa: PLC0415 (who streams raw PCM needs none of it)

    integers = recording.subtype in _SIXTEEN_BITS
    encoding = Encoding.PCM_S16LE if integers else Encoding.PCM_F32LE
    format_ = AudioFormat(encoding, recording.sample_rate, recording.channels).check()
    samples = recording.samples.T  # interleaved: [frames, channels]
    if integers:
        samples = np.clip(np.rint(samples * 32_768), -32_768, 32_767)
    return format_, samples.astype("<i2" if integers else "<f4").tobytes()
