"""Row 26 of the fault table: SIGTERM to a real process with many live streams."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from streamer.testing import s16le, speech
from tests.cli.serving import served
from tests.faults.arena import FORMAT

CHUNK = 3_200
AUDIO = s16le(speech())


@dataclass(frozen=True)
class Story:
    """What one client sent and heard."""

    sent: int
    heard: list[dict[str, Any]]
    close_code: int | None

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.heard if event["type"] == kind]


async def stream(http: aiohttp.ClientSession, url: str, live: asyncio.Semaphore) -> Story:
    """Speak in real time until the server says goodbye."""
    heard: list[dict[str, Any]] = []
    sent = 0
    async with http.ws_connect(url, max_msg_size=0) as socket:

        async def speak() -> None:
            nonlocal sent
            while True:
                at = sent % (len(AUDIO) - CHUNK)
                await socket.send_bytes(AUDIO[at : at + CHUNK])
                sent += CHUNK
                await asyncio.sleep(0.1)

        await socket.send_json({"type": "start", "format": FORMAT})
        speaking = asyncio.create_task(speak())
        async for message in socket:
            heard.append(message.json())
            if heard[-1]["type"] == "started":
                live.release()
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
    return Story(sent // 2, heard, socket.close_code)


async def drained(count: int, soft_s: float) -> tuple[list[Story], int, str]:
    """SIGTERM while `count` streams are live: their stories, the exit code, the log."""
    times = ("drain.lag_s=0.2", f"drain.soft_s={soft_s}", "drain.spread_s=1", "drain.hard_s=60")
    settings = [word for time in times for word in ("--set", time)]
    model = ["--set", "model.delay=0", "--set", "model.constant_factor=0.01", "--set", "model.warmup_penalty=0"]
    with served("stub", *settings, *model, "--set", f"server.max_sessions={count + 1}") as server:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as http:
            live = asyncio.Semaphore(0)
            url = server.websocket_url + "/api/v2/segmented"
            streams = [asyncio.create_task(stream(http, url, live)) for _ in range(count)]
            for _ in range(count):
                await live.acquire()
            await asyncio.sleep(0.5)
            server.signal(signal.SIGTERM)
            stories = await asyncio.gather(*streams)
        code, said = server.ended()
    return stories, code, said


@pytest.mark.parametrize(
    ("count", "soft_s"), [(40, 1.5), pytest.param(1_000, 5.0, marks=[pytest.mark.slow, pytest.mark.timeout(180)])]
)
async def test_sigterm_with_live_streams_accounts_for_every_frame(count: int, soft_s: float) -> None:
    stories, code, said = await drained(count, soft_s)
    assert code == 0
    assert "cut off" not in said
    assert "Traceback" not in said
    for story in stories:
        assert story.close_code == 1012
        assert len(story.of("draining")) == 1
        assert not story.of("error")
        (finished,) = story.of("finished")
        assert story.heard[-1] == finished
        assert finished["reason"] == "drained"
        assert finished["received"] == finished["processed"] <= story.sent
        assert len(story.of("speech_started")) == len(story.of("speech_ended")) == len(story.of("segment"))
