"""What is counted of sessions, on a clock that the test moves: latencies are those of the audio, not of messages."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest

from streamer.errors import ErrorCode
from streamer.session.actions import Job, JobFailed, Outcome, Output
from streamer.session.events import Mode
from streamer.telemetry.telemetry import Telemetry
from streamer.testing import s16le, tone
from tests.connection.in_memory_server import START, STOP, InMemoryServer, hear, turns

TENTH = 1_600
SILENCE = b"\0\0" * TENTH


class CountingModel:
    """A server in memory whose telemetry is asked by name."""

    def __init__(self, mode: Mode, start: str = START) -> None:
        self.stage = InMemoryServer(mode, observe=lambda clock: Telemetry("stub", {}, clock.now))
        assert isinstance(self.stage.observer, Telemetry)
        self.telemetry = self.stage.observer
        self.client = self.stage.connect()
        self.start = start

    async def say(self, *tenths: bytes) -> None:
        """A tenth of a second of audio each tenth of a second."""
        for tenth in tenths:
            self.stage.clock.advance(0.1)
            await self.client.send(tenth)
            await turns()

    def value(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(f"streamer_{name}", labels)


def tones(seconds: float) -> list[bytes]:
    data = s16le(tone(440, seconds))
    return [data[at : at + 2 * TENTH] for at in range(0, len(data), 2 * TENTH)]


async def test_a_final_is_timed_from_the_arrival_of_its_last_audio() -> None:
    counted = CountingModel(Mode.SEGMENTED)
    await counted.client.send(START)
    await turns()
    counted.stage.scripted.is_holding = True
    await counted.say(*[SILENCE] * 10, *tones(1.0), *[SILENCE] * 10)
    counted.stage.clock.advance(2.0)  # the model thinks
    counted.stage.scripted.is_holding = False
    counted.stage.scripted.release_all()
    await turns()
    assert counted.value("final_latency_seconds_count") == 1
    # Speech ends 0.6 s after its last audio; the model was let go 0.4 s and 2 s later.
    assert counted.value("final_latency_seconds_sum") == pytest.approx(3.0, abs=0.15)
    assert counted.value("endpoint_delay_seconds_sum") == pytest.approx(0.65, abs=0.15)
    await counted.client.send(STOP)
    await hear(counted.client)
    await counted.stage.over()
    assert counted.value("sessions_closed_total", transport="memory", reason="stopped") == 1
    assert counted.value("sessions_active", transport="memory", mode="segmented") == 0
    assert counted.value("audio_received_seconds_total") == pytest.approx(3.0)
    assert counted.value("audio_received_bytes_total") == 96_000
    assert counted.value("audio_processed_seconds_total") == pytest.approx(3.0)
    assert counted.value("audio_buffered_bytes") == 0


async def test_a_first_interim_is_timed_from_the_start_of_its_speech() -> None:
    counted = CountingModel(Mode.SEGMENTED)
    await counted.client.send(START[:-1] + ',"interim_results":true,"interim_interval_ms":500}')
    await turns()
    await counted.say(*tones(1.5))
    assert counted.value("first_interim_latency_seconds_count") == 1
    assert counted.value("first_interim_latency_seconds_sum") == pytest.approx(0.7, abs=0.2)
    counted.client.close()
    await counted.stage.over()
    assert counted.value("sessions_closed_total", transport="memory", reason="gone") == 1


async def test_what_a_peer_leaves_unsaid_at_its_end_is_counted_too() -> None:
    counted = CountingModel(Mode.SIMPLE)
    await counted.client.send(START)
    await counted.say(*[SILENCE] * 7)
    counted.client.close()
    await counted.stage.over()
    assert counted.value("audio_received_seconds_total") == pytest.approx(0.7)


async def test_pieces_have_latencies_and_no_endpoint_delay() -> None:
    counted = CountingModel(Mode.SIMPLE)
    await counted.client.send(START)
    await counted.say(*[SILENCE] * 21)
    assert counted.value("final_latency_seconds_count") == 4
    assert counted.value("final_latency_seconds_sum") == pytest.approx(0.2, abs=0.21)  # whole windows are converted
    assert counted.value("endpoint_delay_seconds_count") == 0
    assert counted.value("first_result_latency_seconds_sum") == pytest.approx(0.5, abs=0.11)
    counted.client.close()
    await counted.stage.over()


async def test_an_error_in_place_of_a_final_is_the_end_of_its_segment() -> None:
    def fail(job: Job) -> Outcome:
        return JobFailed(ErrorCode.MODEL_ERROR, "no luck")

    counted = CountingModel(Mode.SIMPLE)
    counted.stage.scripted._answer = fail
    await counted.client.send(START)
    await counted.say(*[SILENCE] * 11)
    assert counted.value("final_latency_seconds_count") == 2
    counted.client.close()
    await counted.stage.over()


async def test_pieces_that_overlap_are_timed_too_and_so_are_their_errors() -> None:
    counted = CountingModel(Mode.SIMPLE)
    counted.client.close()
    counted.stage.settings = replace(counted.stage.settings, overlap_ms=50.0)
    counted.client = counted.stage.connect()
    answers = iter([JobFailed(ErrorCode.MODEL_ERROR, "no luck"), Output.of(1)] * 2)
    counted.stage.scripted._answer = lambda job: next(answers)
    await counted.client.send(START)
    await counted.say(*[SILENCE] * 21)
    assert [job.overlap for job in counted.stage.scripted.submitted] == [0, 800, 800, 800]
    assert counted.value("final_latency_seconds_count") == 4
    counted.client.close()
    await counted.stage.over()


async def test_a_message_against_the_protocol_is_counted_by_its_code() -> None:
    counted = CountingModel(Mode.SIMPLE)
    await counted.client.send("{")
    await turns()
    assert counted.value("protocol_errors_total", code="bad_request") == 1
    counted.client.close()
    await counted.stage.over()


async def test_what_clients_say_makes_no_series() -> None:
    counted = CountingModel(Mode.SIMPLE)
    before = {
        (sample.name, *sample.labels.items())
        for metric in counted.telemetry.registry.collect()
        for sample in metric.samples
    }
    start = json.loads(START) | {"metadata": {"evil": "label"}, "traceparent": "evil", "options": {"evil": 1}}
    for frame in ('{"type":"evil"}', "{", json.dumps(start)):
        await counted.client.send(frame)
    await counted.say(*[SILENCE] * 6)
    counted.client.close()
    await counted.stage.over()
    after = {
        (sample.name, *sample.labels.items())
        for metric in counted.telemetry.registry.collect()
        for sample in metric.samples
    }
    assert after == before


async def test_nothing_of_a_session_is_left_when_it_is_over() -> None:
    counted = CountingModel(Mode.SEGMENTED)
    counted.stage.scripted.is_holding = True
    await counted.client.send(START)
    await counted.say(*tones(1.0), *[SILENCE] * 10)
    counted.client.close()
    await counted.stage.over()
    assert counted.telemetry._sessions == {}
    assert np.isfinite(counted.value("session_duration_seconds_sum") or np.nan)
    await asyncio.sleep(0)
