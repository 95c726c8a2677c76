"""A server with another detector: what is sent is one segment, or what stands out."""

from __future__ import annotations

import numpy as np
import pytest

import streamer
from streamer.app import App
from streamer.client.events import Segment
from streamer.config import Settings
from streamer.errors import ConfigError
from streamer.testing import s16le

RATE = 16_000


async def finals(detector: str, samples: np.ndarray) -> list[tuple[float, float]]:
    settings = Settings(server={"port": 0}, vad={"detector": detector})
    async with App(settings) as app:
        address = app.url.replace("http", "ws", 1) + "/api/v2/segmented"
        async with streamer.connect(address) as stream:
            await stream.send(s16le(samples))
            await stream.stop()
            return [(event.start_time, event.end_time) async for event in stream if isinstance(event, Segment)]


async def test_without_a_detector_all_that_was_sent_is_one_segment() -> None:
    assert await finals("none", np.zeros(2 * RATE, np.float32)) == [(0.0, 2.0)]


async def test_the_energy_detector_finds_what_no_network_of_speech_would() -> None:
    beep = np.zeros(4 * RATE, np.float32)
    beep[2 * RATE : 3 * RATE] = 0.3 * np.sin(np.arange(RATE) * 2 * np.pi * 3_000 / RATE)
    assert await finals("silero", beep) == []
    [(start, end)] = await finals("energy", beep)
    assert (start, end) == (pytest.approx(1.4, abs=0.05), pytest.approx(3.0, abs=0.05))


def test_a_detector_that_is_not_there_keeps_the_server_from_coming_up() -> None:
    with pytest.raises(ConfigError, match=r"vad\.detector: expected one of silero, energy, none"):
        App(Settings(server={"port": 0}, vad={"detector": "webrtc"}))
