"""Audio out over real sockets: exact, bounded; a client that asks for nonsense or does not read disturbs no other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from streamer.app import App, GrpcAvailability
from streamer.audio.encode import encode
from streamer.audio.files import read_audio
from streamer.audio.format import AudioFormat, Encoding
from streamer.audio.pcm import Decoder
from streamer.client.events import AudioChunk, AudioEnded, AudioStarted, Cleared, Error, Event, Finished, Segment
from streamer.client.stream import Stream, connect
from streamer.config import Settings
from streamer.media.formats import Container, MediaFormat
from streamer.samples import sample
from streamer.session.messages import AudioOutFormat

PATIENCE_S = 60.0
MATERIAL = Path(__file__).parents[1] / "media" / "material"
FORMS = [
    *[AudioFormat(encoding, 16_000, 1) for encoding in sorted(set(Encoding))],
    AudioFormat(Encoding.PCM_S16LE, 16_000, 3),
    AudioFormat(Encoding.PCM_F32LE, 8_000, 1),
    AudioFormat(Encoding.PCM_S16LE, 44_100, 2),
    AudioFormat(Encoding.PCM_S24LE, 48_000, 1),
]


@asynccontextmanager
async def serving(spec: str = "passthrough", **sections: Any) -> AsyncIterator[App]:
    server = {"port": 0, "model": spec, **sections.pop("server", {})}
    async with App(Settings(server=server, grpc={"port": -1}, **sections), grpc=GrpcAvailability.REQUIRED) as app:
        yield app


def speech() -> bytes:
    """One utterance of two seconds."""
    recording = read_audio(Path(str(sample())))
    assert recording.sample_rate == 16_000
    return (recording.samples[0, :40_000] * 32_767).astype("<i2").tobytes()


def address(app: App, carrier: str, mode: str = "simple") -> tuple[str, dict[str, Any]]:
    if carrier == "grpc":
        assert app.grpc_url is not None
        return app.grpc_url, {"mode": mode}
    return f"{app.url}/api/v2/{mode}", {}


async def hear(stream: Stream, data: bytes, cut: int) -> list[Event]:
    """Everything about `data`, sent in pieces of `cut` bytes."""

    async def speak() -> None:
        for at in range(0, len(data), cut):
            await stream.send(data[at : at + cut])
        await stream.stop()

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(speak())
        return [event async for event in stream]


def audio_of(events: Sequence[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, AudioChunk))


@pytest.mark.parametrize("carrier", ["websocket", "grpc"])
async def test_passthrough_gives_back_what_came_whatever_the_cut(carrier: str) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 300 * np.arange(30_001) / 16_000, dtype=np.float32)
    async with serving() as app:
        for form in FORMS:
            frames = np.repeat(tone, form.channels) * np.tile(1 - 0.2 * np.arange(form.channels), len(tone))
            data = encode(form.encoding, frames.astype(np.float32))
            for cut in (331, 32_000):
                url, more = address(app, carrier)
                async with connect(url, format=form, audio_out=True, **more) as stream:
                    events = await hear(stream, data, cut)
                back = audio_of(events)
                assert len(back) == len(data)
                sent, got = Decoder(form).push(data), Decoder(form).push(back)
                lossless = form.sample_rate == 16_000
                step = {Encoding.PCM_U8: 0.01, Encoding.MULAW: 0.03, Encoding.ALAW: 0.03}.get(form.encoding, 0.0005)
                middle = slice(2_000, -2_000)
                assert np.abs(got - sent)[:, middle].max() <= (1e-6 if lossless else step)
                assert not [event for event in events if isinstance(event, Error)]


@pytest.mark.parametrize("name", ["stereo24.flac", "opus.ogg", "mulaw.wav"])
async def test_compressed_audio_is_answered_with_as_many_frames(name: str) -> None:
    data = (MATERIAL / name).read_bytes()
    out = AudioOutFormat(Encoding.PCM_S16LE, 22_050)
    async with (
        serving() as app,
        connect(f"{app.url}/api/v2/simple", format=MediaFormat(Container.AUTO, downmix=True), audio_out=out) as stream,
    ):
        events = await hear(stream, data, 4_096)
    [finished] = [event for event in events if isinstance(event, Finished)]
    seconds = len(audio_of(events)) / 2 / 22_050
    rate = finished.received / seconds
    assert min(abs(rate - known) for known in (8_000, 16_000, 24_000, 44_100, 48_000)) < rate * 1e-3
    assert np.abs(np.frombuffer(audio_of(events), "<i2")).max() > 1_000


async def test_compressed_audio_of_unknown_channels_is_refused_on_simple() -> None:
    async with (
        serving() as app,
        connect(f"{app.url}/api/v2/simple", format=MediaFormat(Container.AUTO), audio_out=True) as stream,
    ):
        error = await anext(stream)
    assert isinstance(error, Error)
    assert error.fatal
    assert "compressed audio needs format.downmix" in error.message


@pytest.mark.parametrize("carrier", ["websocket", "grpc"])
async def test_an_answer_of_a_generator_is_heard_and_ended(carrier: str) -> None:
    async with serving("tests.faults.talkers:Talker") as app:
        url, more = address(app, carrier, "segmented")
        out = AudioOutFormat(Encoding.PCM_S16LE, 8_000, paced=False)
        async with connect(url, audio_out=out, **more) as stream:
            events = await hear(stream, speech() + bytes(64_000) + speech(), 3_200)
    finals = [event for event in events if isinstance(event, Segment)]
    assert len(finals) >= 2
    for final in finals:
        assert final.output == {"said": "hello"}
        [started] = [e for e in events if isinstance(e, AudioStarted) and e.segment_id == final.segment_id]
        [ended] = [e for e in events if isinstance(e, AudioEnded) and e.segment_id == final.segment_id]
        assert started.start_time == final.start_time
        mine = [e.data for e in events if isinstance(e, AudioChunk) and e.segment_id == final.segment_id]
        assert len(b"".join(mine)) == ended.frames * 2 == 8_000 * 2


@pytest.mark.parametrize("carrier", ["websocket", "grpc"])
async def test_barge_in_ends_an_answer_and_leaves_the_next_one(carrier: str) -> None:
    async with serving("tests.faults.talkers:Talker", model={"seconds": 30.0}) as app:
        url, more = address(app, carrier, "segmented")
        async with connect(url, audio_out=True, **more) as stream, asyncio.timeout(PATIENCE_S):
            await stream.send(speech() + bytes(64_000))
            async for event in stream:
                if isinstance(event, AudioChunk):
                    break
            await stream.clear()
            heard = [event]
            async for event in stream:
                heard.append(event)
                if isinstance(event, Cleared):
                    break
            [ended] = [event for event in heard if isinstance(event, AudioEnded)]
            assert isinstance(event, Cleared)
            assert ended.frames + event.frames <= 30 * 16_000
            assert ended.frames < 5 * 16_000
            await stream.send(speech() + bytes(64_000))
            async for event in stream:
                if isinstance(event, AudioStarted):
                    break
            assert isinstance(event, AudioStarted)
            assert event.segment_id > ended.segment_id


async def test_a_client_may_iterate_over_the_audio_alone() -> None:
    others: list[Event] = []
    data = bytes(range(256)) * 250
    async with serving() as app, connect(f"{app.url}/api/v2/simple", audio_out=True) as stream:
        await stream.send(data)
        await stream.stop()
        heard = b"".join([chunk.data async for chunk in stream.audio(others.append)])
        value = app.registry.get_sample_value
        assert value("streamer_audio_out_seconds_total") == pytest.approx(2.0)
        assert value("streamer_audio_out_delay_seconds_count") > 0
    assert heard == data
    assert isinstance(others[-1], Finished)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("many", "expected 1600 samples for a piece of 0.1 s, got 1601"),
        ("few", "expected 1600 samples for a piece of 0.1 s, got 1599"),
        ("none", "expected 1600 samples for a piece of 0.1 s, got 0"),
        ("nan", "samples: expected finite numbers, got NaN or infinity"),
        ("rate", "sample_rate: expected 16000 (output_sample_rate), got 8000"),
        ("channels", "with 1 channels, got [100, 1600]"),
        ("never", "the model took too long for this segment"),
    ],
)
async def test_a_model_that_answers_wrong_is_silence_and_an_error_and_its_neighbour_hears_all(
    act: str, words: str
) -> None:
    data = (np.arange(16_000) % 1_000 + 1).astype("<i2").tobytes()
    async with serving("tests.faults.talkers:Wrong", model={"timeout_floor_s": 1.0, "timeout_factor": 0.0}) as app:
        url = f"{app.url}/api/v2/simple"
        async with (
            connect(url, audio_out=True, chunk_ms=100, options={"act": act, "at": 3_200}) as bad,
            connect(url, audio_out=True, chunk_ms=100) as good,
            asyncio.TaskGroup() as tasks,
        ):
            hears = [tasks.create_task(hear(stream, data, 3_200)) for stream in (bad, good)]
    wrong, right = [task.result() for task in hears]
    assert audio_of(right) == data
    back = np.frombuffer(audio_of(wrong), "<i2")
    assert len(back) == 16_000
    assert not back[3_200:4_800].any()
    [error] = [event for event in wrong if isinstance(event, Error)]
    assert (error.start_time, error.end_time) == (0.2, 0.3)
    assert words in error.message
    assert not [event for event in right if isinstance(event, Error)]


async def test_a_model_that_answers_late_delays_its_own_stream_and_loses_nothing() -> None:
    data = bytes(range(256)) * 125
    async with (
        serving("tests.faults.talkers:Wrong") as app,
        connect(
            f"{app.url}/api/v2/simple", audio_out=True, chunk_ms=100, options={"act": "late", "at": 1_600}
        ) as stream,
    ):
        assert audio_of(await hear(stream, data, 640)) == data


@pytest.mark.parametrize(
    ("audio_out", "words"),
    [
        ({"encoding": "pcm_s16le", "sample_rate": 1}, "audio_out.sample_rate: expected an integer from 4000 to 192000"),
        ({"encoding": "mp3", "sample_rate": 16_000}, "audio_out.encoding"),
        ({"sample_rate": 16_000}, "audio_out: object missing required field `encoding`"),
        ({"encoding": "pcm_s16le", "sample_rate": 1e9, "x": 1}, "audio_out"),
    ],
    ids=["one_hertz", "encoding", "missing", "unknown_field"],
)
async def test_an_audio_out_that_cannot_be_served_is_a_clear_error(audio_out: dict[str, Any], words: str) -> None:
    start = {
        "type": "start",
        "format": {"encoding": "pcm_s16le", "sample_rate": 16_000, "channels": 1},
        "audio_out": audio_out,
    }
    async with (
        serving() as app,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{app.url}/api/v2/simple") as socket,
    ):
        await socket.send_str(json.dumps(start))
        error = await socket.receive_json(timeout=PATIENCE_S)
    assert error["type"] == "error"
    assert words in error["message"]


async def test_v1_sends_no_audio_and_says_so_to_a_client_that_asks() -> None:
    async with serving() as app:
        async with connect(f"{app.url}/api/v1/simple") as stream:
            assert not audio_of(await hear(stream, bytes(32_000), 3_200))
        with pytest.raises(Exception, match="v1 does not support audio_out"):
            async with connect(f"{app.url}/api/v1/simple", audio_out=True):
                pass


@pytest.mark.parametrize("carrier", ["websocket", "grpc"])
async def test_a_client_that_does_not_read_is_bounded_and_ended_and_its_neighbour_hears_all(carrier: str) -> None:
    data = (np.arange(16_000) % 1_000).astype("<i2").tobytes()
    settings = {
        "server": {"outbox_stall_s": 1.0, "send_buffer_bytes": 4_096},
        "audio_out": {"max_unsent_s": 5.0},
        "limits": {"audio_ahead_s": 5.0},
    }
    async with serving(**settings) as app:
        url, more = address(app, carrier)
        form = AudioFormat(Encoding.PCM_S16LE, 16_000, 1)
        out = AudioOutFormat(Encoding.PCM_F64LE, 192_000)
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{app.url}/api/v2/simple") as deaf:
            descriptor = deaf.get_extra_info("socket")
            assert descriptor is not None
            start = {
                "type": "start",
                "format": {"encoding": "pcm_s16le", "sample_rate": 16_000, "channels": 1},
                "audio_out": {"encoding": out.encoding, "sample_rate": out.sample_rate},
            }
            await deaf.send_str(json.dumps(start))
            deaf._reader._protocol.pause_reading()  # type: ignore[union-attr]

            async def pour() -> None:
                while True:
                    await deaf.send_bytes(data)

            pouring = asyncio.create_task(pour())
            async with connect(url, format=form, audio_out=True, **more) as good:
                assert audio_of(await hear(good, data, 3_200)) == data
            async with asyncio.timeout(PATIENCE_S):
                while app.telemetry.registry.get_sample_value(
                    "streamer_sessions_closed_total", {"transport": "websocket", "reason": "slow_consumer"}
                ) in (None, 0.0):
                    await asyncio.sleep(0.05)
            assert app.memory.used < 16 * 1024 * 1024
            pouring.cancel()
            await asyncio.wait([pouring])


async def test_a_client_that_reads_slowly_slows_the_model_and_loses_nothing() -> None:
    data = (np.arange(160_000) % 1_000).astype("<i2").tobytes()
    async with serving(audio_out={"max_unsent_s": 2.0}, server={"send_buffer_bytes": 4_096}) as app:  # noqa: SIM117
        async with connect(f"{app.url}/api/v2/simple", audio_out=AudioOutFormat(Encoding.PCM_F64LE, 96_000)) as stream:

            async def speak() -> None:
                for at in range(0, len(data), 3_200):
                    await stream.send(data[at : at + 3_200])
                await stream.stop()

            async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
                tasks.create_task(speak())
                heard = 0
                async for chunk in stream.audio():
                    heard += len(chunk.data) // 8
                    await asyncio.sleep(0)
    assert heard == 6 * 160_000
