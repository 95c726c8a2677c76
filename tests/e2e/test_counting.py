"""Every sample that is sent is answered for, with the original's model, for many clients at once."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

from streamer.app import App
from streamer.config import Settings
from streamer.testing import noise, s16le
from tests.faults.arena import DIALECTS, LocalArena

CLIENTS = 20
RATE = 16_000

TENTH_OF_THE_ORIGINAL = {
    "delay": 0.05,
    "constant_factor": 0.03,
    "jitter": 0.02,
    "failure_rate": 0.01,
    "panic_rate": 0.0,
    "warmup_penalty": 1.0,
}


async def covered(server: LocalArena, dialect: str, number: int) -> tuple[int, int]:
    """Samples sent, and samples that results or errors name, which must lie end to end."""
    audio = s16le(noise(2.0 + number / 7, seed=number))
    async with server.peer(dialect, "simple") as peer:
        await peer.start()
        await peer.audio(audio, cut=256 + 2 * number)
        await peer.stop()
        heard = await peer.rest()
        assert peer.end == "normal"
    ranges = [event for event in heard if "start_time" in event]
    assert ranges[0]["start_time"] == 0.0
    for earlier, later in pairwise(ranges):
        assert earlier["end_time"] == later["start_time"]
    return len(audio) // 2, sum(_samples(event) for event in ranges)


def _samples(event: dict[str, Any]) -> int:
    if event["type"] == "error":
        assert (event["code"], event["fatal"]) == ("model_error", False)
        return round((event["end_time"] - event["start_time"]) * RATE)
    return int(event["count"] if "count" in event else event["output"]["count"])


async def test_samples_counted_are_samples_sent_for_twenty_clients_at_once() -> None:
    # A busy machine makes the model slow; that nobody is refused for it is no part of this rule.
    engine = {"max_expected_wait_s": 1e6}
    settings = Settings(server={"port": 0}, model=TENTH_OF_THE_ORIGINAL | {"workers": 8}, engine=engine)
    async with App(settings) as app:
        server = LocalArena(app)
        numbered = ((DIALECTS[number % 2], number) for number in range(CLIENTS))
        counts = await asyncio.gather(*(covered(server, dialect, number) for dialect, number in numbered))
    assert [counted for _, counted in counts] == [sent for sent, _ in counts]
