"""Row 12 of the fault table over every other service's protocol: no start in time, by a clock that the test moves."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from streamer.clock import PauseAwareClock
from streamer.testing import ManualClock, ScriptedScoring
from streamer.testing.fakes import loudness
from tests.dialects.fault_peers import PATIENCE_S
from tests.dialects.fault_stage import Answer, ends, fault_stage, over
from tests.dialects.recogniser import recogniser, sentence

LIMITS = {"start_timeout_s": 20.0, "idle_timeout_s": 20.0}
PATIENCE = {"realtime": 600.0, "vosk": 200.0, "assemblyai": 200.0, "audiosocket": 5.0}
"""Seconds that a protocol waits, if not 20: its clients are silent for minutes, or say at once who calls."""


@over(
    deepgram=ends(1011, "IdleTimeout"),
    flux=ends(1011, "IDLE_TIMEOUT"),
    realtime=ends(1001, "start_timeout"),
    vosk=ends(1008),
    wyoming=ends("end"),
    assemblyai=ends(4031, "4031"),
    speechmatics=ends(1008, "idle_timeout"),
    twilio=ends(1008),
    audiosocket=ends("end"),
)
async def test_a_client_that_does_not_start_in_time_is_told_and_closed(name: str, answer: Answer) -> None:
    clock, scored = ManualClock(), list[int]()

    def score(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        scored.append(len(samples))
        return loudness(samples)

    parts = replace(recogniser(), clock=PauseAwareClock(clock), scoring=ScriptedScoring(score))
    wait_s = PATIENCE.get(name, 20.0)
    async with (
        fault_stage(name, parts, limits=LIMITS) as stage,
        stage.beside() as healthy,
        stage.connected() as peer,
    ):
        begun, answered = clock.now(), asyncio.create_task(stage.answers(peer, answer))
        async with asyncio.timeout(PATIENCE_S):
            while not answered.done():
                before = len(scored)
                clock.advance(0.3 * wait_s)
                await healthy.audio(sentence(1, 0.2, healthy.rate))
                while len(scored) == before:  # the stream beside is not silent
                    await asyncio.sleep(0.001)
        await answered
        assert clock.now() - begun >= wait_s
