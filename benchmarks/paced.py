"""Streams at the pace of speech against a running server: what each final's latency was, as the client sees it."""

from __future__ import annotations

import asyncio
import json
from time import monotonic

import aiohttp
import numpy as np

from streamer.audio.files import read_audio
from streamer.client.sources import wire_audio
from streamer.samples import sample

CHUNK_S = 0.1
RATE = 16_000


def recording() -> bytes:
    """16 kHz int16 speech, some 7 s."""
    form, data = wire_audio(read_audio(str(sample())))
    assert form.sample_rate == RATE
    return bytes(data)


async def stream(url: str, data: bytes, seconds: float, delay: float) -> list[float]:
    """One stream of `seconds`; the latencies of its finals: from sending their last audio to hearing of them."""
    await asyncio.sleep(delay)
    chunk = int(CHUNK_S * RATE) * 2
    sent: list[float] = []
    latencies: list[float] = []
    start = {"type": "start", "format": {"encoding": "pcm_s16le", "sample_rate": RATE, "channels": 1}}

    async def speak(socket: aiohttp.ClientWebSocketResponse) -> None:
        began = monotonic()
        for index in range(int(seconds / CHUNK_S)):
            await asyncio.sleep(max(0.0, began + index * CHUNK_S - monotonic()))
            at = index * chunk % (len(data) - chunk)
            sent.append(monotonic())
            await socket.send_bytes(data[at : at + chunk])
        await socket.send_str('{"type":"stop"}')

    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.send_str(json.dumps(start))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(speak(socket))
            async for message in socket:
                event = json.loads(message.data)
                if event["type"] == "segment":
                    last = min(len(sent) - 1, int(event["end_time"] / CHUNK_S))
                    latencies.append(monotonic() - sent[last])
    return latencies


async def load(url: str, streams: int, seconds: float) -> list[float]:
    """Latencies of all finals of `streams` streams side by side, begun within a second."""
    data = recording()
    spread = np.random.default_rng(0).uniform(0, 1, streams)
    heard = await asyncio.gather(*(stream(url, data, seconds, float(delay)) for delay in spread))
    return [latency for latencies in heard for latency in latencies]
