"""Compressed audio, live, over real sockets: the same results as its PCM, and a clear end for what is wrong."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile

import streamer
from streamer.app import App, GrpcAvailability
from streamer.audio.format import AudioFormat
from streamer.client.errors import ConnectionClosed
from streamer.client.events import Ack, Error, Event, Finished, Flushed, Segment
from streamer.client.stream import Stream
from streamer.config import Settings
from streamer.errors import ConfigError, ErrorCode
from streamer.media.formats import Container, MediaFormat
from streamer.media.libopus import load_libopus
from streamer.session.summary import Summary
from streamer.telemetry.observer import Observer, SessionInfo, SessionObserver, SessionView
from streamer.testing import ScriptedScoring
from tests.media.material import FILES, decoded, flac_of_silence, read
from tests.transports.serving import scripted, serving

AUTO = MediaFormat(Container.AUTO)


class Closings(Observer):
    """Keeps what sessions have done."""

    def __init__(self) -> None:
        self.summaries: list[Summary] = []

    def new_session(self, info: SessionInfo, view: SessionView, now: float) -> SessionObserver:
        summaries = self.summaries

        class One(SessionObserver):
            def on_close(
                self, summary: Summary, code: ErrorCode | None, *, peer_disconnected: bool, now: float
            ) -> None:
                summaries.append(summary)

        return One()


def url_of(app: App, mode: str = "simple") -> str:
    return f"{app.url.replace('http', 'ws')}/api/v2/{mode}"


async def heard(stream: Stream) -> list[Event]:
    """All events up to the end, an error that ends the connection included."""
    events = []
    try:
        while (received := await stream.receive()) is not None:
            if received.event is not None:
                events.append(received.event)
    except ConnectionClosed:
        pass
    return events


async def said(app: App, data: bytes, form: MediaFormat | AudioFormat, size: int = 4_000) -> list[Event]:
    async with streamer.connect(url_of(app), format=form, chunk_ms=500) as stream:
        try:
            for at in range(0, len(data), size):
                await stream.send(data[at : at + size])
            await stream.stop()
        except ConnectionClosed:
            pass
        return await heard(stream)


def results(events: list[Event]) -> list[tuple[float, float, Any]]:
    return [(event.start_time, event.end_time, event.output) for event in events if isinstance(event, Segment)]


NAMES = ["opus.ogg", "mediarecorder.webm", "opus_frag.mp4", "aac_faststart.m4a", "vbr_id3.mp3", "aac.aac", "live.flac"]


@pytest.mark.parametrize("name", [*NAMES, "mulaw.wav", "wb.amr", "opus_stereo.ogg"])
async def test_a_file_gives_what_its_pcm_gives(name: str) -> None:
    form, pcm = decoded([read(name)], rate=16_000)
    async with serving() as app:
        whole = await said(app, read(name), AUTO, 10**6)
        assert results(whole) == results(await said(app, read(name), AUTO, 700))
        assert results(whole) == results(await said(app, pcm, form))
    assert isinstance(whole[-1], Finished)
    assert whole[-1].received == len(pcm) // form.frame_bytes
    assert whole[-1].received / form.sample_rate == pytest.approx(FILES[name].frames / FILES[name].rate)


async def test_grpc_takes_the_same() -> None:
    app = App(Settings(server={"port": 0}, grpc={"port": -1}), parts=scripted(), grpc=GrpcAvailability.REQUIRED)
    async with app:
        expected = results(await said(app, read("mediarecorder.webm"), AUTO))
        assert app.grpc_url is not None
        async with streamer.connect(app.grpc_url, encoding="webm", mode="simple", chunk_ms=500) as stream:
            await stream.send(read("mediarecorder.webm"))
            await stream.stop()
            events = await heard(stream)
    assert results(events) == expected
    assert isinstance(events[-1], Finished)


async def test_each_message_of_raw_opus_is_a_packet() -> None:
    from streamer.media.ogg import OggDemuxer
    from streamer.media.packets import Packet

    packets = [item.data for item in OggDemuxer().push(read("opus.ogg")) if isinstance(item, Packet)]
    async with serving() as app, streamer.connect(url_of(app), encoding="opus") as stream:
        for packet in packets:
            await stream.send(packet)
        await stream.stop()
        events = await heard(stream)
    assert isinstance(events[-1], Finished)
    assert events[-1].received == 320 * len(packets)


async def test_a_flush_and_a_stop_come_after_the_audio_before_them() -> None:
    """One message of seven seconds is decoded in many steps; the client does not wait for them."""
    async with serving() as app, streamer.connect(url_of(app), encoding="auto") as stream:
        await stream.send(read("mediarecorder.webm"))
        await stream.flush("here")
        await stream.stop()
        events = await heard(stream)
    assert isinstance(events[-1], Finished)
    assert events[-1].received == 334_080 // 3
    flushed = next(index for index, event in enumerate(events) if isinstance(event, Flushed))
    ends = [event.end_time for event in events[:flushed] if isinstance(event, Segment)]
    assert max(ends) == pytest.approx(334_080 / 48_000, abs=0.001)


async def test_another_stream_follows_on_the_same_connection() -> None:
    async with serving() as app, streamer.connect(url_of(app), encoding="auto") as stream:
        received = []
        for name in ("opus.ogg", "live.flac"):
            await stream.send(read(name))
            await stream.stop(keep_open=True)
            received += [event.received async for event in stream if isinstance(event, Finished)]
    assert received == [113_600, 113_600]


async def test_a_packet_that_does_not_decode_is_silence_and_counted() -> None:
    from streamer.media.ogg import OggDemuxer
    from streamer.media.packets import Packet

    packets = [item.data for item in OggDemuxer().push(read("opus.ogg")) if isinstance(item, Packet)]
    packets[10] = bytes([packets[10][0] | 3, 63])  # 63 frames in a packet that has none
    closed = Closings()
    settings = Settings(server={"port": 0})
    async with App(settings, parts=scripted(), observers=[closed]) as app:
        async with streamer.connect(url_of(app), encoding="opus") as stream:
            for packet in packets:
                await stream.send(packet)
            await stream.stop()
            events = await heard(stream)
        await app.connections.wait_empty()
    assert isinstance(events[-1], Finished)
    assert events[-1].received >= 320 * (len(packets) - 1)
    assert [summary.bad_packets for summary in closed.summaries] == [1]


async def test_opus_is_decoded_by_the_library_of_the_setting() -> None:
    name = load_libopus()._name
    async with serving(audio={"libopus": name}) as app:
        events = await said(app, read("opus.ogg"), AUTO)
    assert isinstance(events[-1], Finished)
    assert events[-1].received == 113_600
    with pytest.raises(ConfigError, match=r"audio\.libopus: expected the path of libopus, got '/nowhere'"):
        async with serving(audio={"libopus": "/nowhere"}):
            pass


async def test_a_stream_is_too_long_by_its_decoded_seconds() -> None:
    async with serving(limits={"max_stream_s": 5.0}) as app:
        events = await said(app, read("opus.ogg"), AUTO)
    [error] = [event for event in events if isinstance(event, Error)]
    assert error.code == "stream_too_long"


async def test_a_message_longer_than_a_client_may_be_ahead_is_decoded_as_the_rest_is_dealt_with() -> None:
    """Silence, of which nothing is told: decoding goes on all the same, though the client says nothing more."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(60 * 16_000, np.int16), 16_000, format="FLAC")
    parts = scripted()
    scoring = parts.scoring
    assert isinstance(scoring, ScriptedScoring)
    scoring.is_holding = True
    async with (
        serving(parts, limits={"audio_ahead_s": 2.0}) as app,
        streamer.connect(url_of(app, "segmented"), encoding="flac") as stream,
    ):
        await stream.receive()  # `started`: what follows finds the reader waiting
        await stream.send(file.getvalue())
        async with asyncio.timeout(60):
            acked = 0
            while acked < 55 * 16_000:
                received = await stream.receive()
                assert received is not None
                acked = received.event.received if isinstance(received.event, Ack) else acked
                if acked >= 2 * 16_000 and scoring.is_holding:  # decoding waits for the scorer now
                    scoring.is_holding = False
                    scoring.release_all()
        await stream.stop()
        events = await heard(stream)
    assert isinstance(events[-1], Finished)
    assert events[-1].received == 60 * 16_000


async def test_a_client_that_goes_in_the_middle_leaves_nothing() -> None:
    async with serving() as app:
        async with streamer.connect(url_of(app), encoding="auto") as stream:
            await stream.send(flac_of_silence(3, channels=1))
        await app.connections.wait_empty()
        assert len(app.connections) == 0
        assert app.memory.used == 0


async def test_others_are_served_while_one_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message is decoded in steps, between which the loop comes round to the others."""
    from streamer.session.compressed import CompressedInput

    steps: list[Callable[[], None]] = []
    proceed = CompressedInput.proceed

    def counted(self: CompressedInput, now: float) -> Any:
        steps.append(lambda: None)
        return proceed(self, now)

    monkeypatch.setattr(CompressedInput, "proceed", counted)
    async with serving() as app:
        events, other = await asyncio.gather(
            said(app, read("mediarecorder.webm"), AUTO, 10**6), said(app, read("opus60.ogg"), AUTO)
        )
    assert isinstance(events[-1], Finished)
    assert isinstance(other[-1], Finished)
    assert len(steps) > 7 / 0.5


async def test_the_format_of_pcm_has_to_be_whole() -> None:
    for form, text in (
        ({"encoding": "pcm_s16le"}, "format.sample_rate: expected an integer with pcm_s16le, got None"),
        ({"encoding": "speex"}, "format.encoding: expected one of pcm_u8, "),
        ({"encoding": "opus", "channels": 3}, "format.channels: expected an integer from 1 to 2, got 3"),
        ({"encoding": "mulaw", "sample_rate": 8_000, "channels": 2, "downmix": True}, "format.downmix: expected false"),
    ):
        from tests.transports.serving import dialled, events

        async with serving() as app, dialled(app) as socket:
            await socket.send_json({"type": "start", "format": form})
            [error] = await events(socket)
        assert (error["code"], error["fatal"]) == ("invalid_format", True)
        assert text in error["message"]
