"""Latencies of one recording, streamed in real time through the engine of this process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

from streamer.audio.files import read_audio
from streamer.cli.inprocess import Local
from streamer.cli.transcribe import Progress, mixed
from streamer.client.events import Error, Segment
from streamer.client.sources import chunks, pace, wire_audio
from streamer.errors import StreamerError
from streamer.session.messages import Start

_CHUNK_S = 0.02


async def latencies(
    local: Local, path: Path, options: bytes, interim_interval_ms: int, progress: Progress
) -> tuple[list[float], list[float]]:
    """Return two latencies of each segment, in seconds. Raises StreamerError.

    The first list has the time from the start of each segment to its first result, the second list the time from its
    end to its final.
    """
    audio = mixed(await asyncio.to_thread(read_audio, path))
    format_, data = wire_audio(audio)
    step = max(1, round(_CHUNK_S * audio.sample_rate)) * format_.frame_bytes
    start = Start(format=format_, options=options, interim_results=True, interim_interval_ms=interim_interval_ms)
    first: dict[int, float] = {}
    final: list[float] = []
    async with local.stream(start) as stream, asyncio.TaskGroup() as tasks:
        started_at = monotonic()

        async def speak() -> None:
            async for piece in pace(chunks(data, step), format_.sample_rate * format_.frame_bytes):
                await stream.send(piece)
                progress(str(path), monotonic() - started_at)
            await stream.stop()

        speaking = tasks.create_task(speak())
        try:
            async for event in stream:
                if isinstance(event, Error):
                    raise StreamerError(event.message)
                if isinstance(event, Segment):
                    now = monotonic() - started_at
                    first.setdefault(event.segment_id, now - event.start_time)
                    if event.is_final:
                        final.append(max(0.0, now - event.end_time))
        finally:
            speaking.cancel()
    return list(first.values()), final
