"""The plain server that ours is measured beside does the same work."""

from __future__ import annotations

import io
import json
from typing import Any

import aiohttp
import soundfile

from benchmarks.servers import running
from streamer.samples import sample


async def heard(port: int, audio: bytes) -> list[dict[str, Any]]:
    """Everything a server says about this audio."""
    form = {"channels": 1, "sample_rate": 16_000, "bit_depth": 16, "is_float": False}
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://127.0.0.1:{port}/api/v1/segmented") as socket,
    ):
        await socket.send_json({"request": "start", "format": form})
        for at in range(0, len(audio), 640):
            await socket.send_bytes(audio[at : at + 640])
        await socket.send_json({"request": "stop", "disconnect": True})
        return [json.loads(message.data) async for message in socket]


async def test_the_plain_server_says_what_ours_says_of_the_sample() -> None:
    audio = soundfile.read(io.BytesIO(sample().read_bytes()), dtype="int16")[0].tobytes()
    with running("plain") as plain, running("ours") as ours:
        theirs, expected = await heard(plain.port, audio), await heard(ours.port, audio)
    assert [event["type"] for event in expected].count("segment") == 2
    assert sorted(map(str, theirs)) == sorted(map(str, expected))  # a result may come after the next utterance began
