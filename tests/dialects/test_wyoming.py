"""Wyoming over a real socket, spoken by the package's own client; limits, drain and faults of the port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streamer.access.keys import new_key
from streamer.app import App
from streamer.config import Settings
from streamer.errors import ConfigError, ErrorCode, Overloaded
from streamer.protocols.wyoming_wire import EventParser, WyomingEvent, encode_event
from streamer.session.actions import JobFailed
from streamer.testing import ScriptedEngine
from tests.dialects.recogniser import (
    RATE,
    SENTENCES,
    conversation,
    dialect_server,
    messages,
    native_finals,
    recogniser,
    sentence,
    silence,
)

WHOLE = " ".join(SENTENCES[:2])
FORMAT = {"rate": RATE, "width": 2, "channels": 1}


@asynccontextmanager
async def wyoming_server(*arguments: Any, **sections: Any) -> AsyncIterator[App]:
    dialects = {"wyoming_port": -1, **sections.pop("dialects", {})}
    async with dialect_server("wyoming", *arguments, dialects=dialects, **sections) as app:
        yield app


def address_of(app: App) -> str:
    return f"tcp://127.0.0.1:{app.dialects.ports['wyoming']}"


class Caller:
    """A client that writes and reads events, without the package."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.parser = EventParser()

    async def send(self, type_: str, data: dict[str, Any] | None = None, payload: bytes = b"") -> None:
        self.writer.write(encode_event(WyomingEvent(type_, data or {}, payload)))
        await self.writer.drain()

    async def speak(self, audio: bytes) -> None:
        await self.send("audio-start", FORMAT)
        for piece in messages(audio, 2_048):
            await self.send("audio-chunk", {**FORMAT, "timestamp": None}, piece)

    async def read(self) -> WyomingEvent | None:
        """The next event; None at the end."""
        async with asyncio.timeout(10):
            while (event := self.parser.next()) is None:
                data = await self.reader.read(65_536)
                if not data:
                    return None
                self.parser.feed(data)
            return event

    async def rest(self) -> list[WyomingEvent]:
        events = []
        while (event := await self.read()) is not None:
            events.append(event)
        return events


@asynccontextmanager
async def called(app: App) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", app.dialects.ports["wyoming"])
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()


async def heard_until_stop(caller: Caller) -> list[WyomingEvent]:
    events: list[WyomingEvent] = []
    while not events or events[-1].type != "transcript-stop":
        event = await caller.read()
        assert event is not None, events
        events.append(event)
    return events


# With the package's own client -----------------------------------------------------------------------


async def test_the_official_client_reads_the_description() -> None:
    client, info = pytest.importorskip("wyoming.client"), pytest.importorskip("wyoming.info")
    async with wyoming_server(dialects={"wyoming_languages": ("en", "de")}) as app:
        async with client.AsyncClient.from_uri(address_of(app)) as connection:
            await connection.write_event(info.Describe().event())
            event = await asyncio.wait_for(connection.read_event(), 1.0)  # as long as Home Assistant waits
            described = info.Info.from_event(event)
        [program] = described.asr
        assert program.installed
        assert program.requires_external_vad
        assert program.supports_transcript_streaming
        [model] = program.models
        assert (model.name, model.languages, model.installed) == ("scripted", ["en", "de"], True)


async def test_the_channels_of_the_official_client_are_mixed() -> None:
    client, asr = pytest.importorskip("wyoming.client"), pytest.importorskip("wyoming.asr")
    audio = pytest.importorskip("wyoming.audio")
    stereo = b"".join(2 * frame for frame in messages(conversation(), 2))
    async with wyoming_server() as app, client.AsyncClient.from_uri(address_of(app)) as connection:
        for width, samples in ((2, stereo), (4, b"".join(bytes(2) + frame for frame in messages(stereo, 2)))):
            form = {**FORMAT, "channels": 2, "width": width}
            await connection.write_event(asr.Transcribe().event())
            await connection.write_event(audio.AudioStart(**form).event())
            for piece in messages(samples, 2_049):
                await connection.write_event(audio.AudioChunk(**form, audio=piece).event())
            await connection.write_event(audio.AudioStop().event())
            while not asr.Transcript.is_type((event := await asyncio.wait_for(connection.read_event(), 10)).type):
                pass
            assert asr.Transcript.from_event(event).text == WHOLE


async def test_the_official_client_reads_one_transcript_of_all_that_was_said() -> None:
    client, asr = pytest.importorskip("wyoming.client"), pytest.importorskip("wyoming.asr")
    audio = pytest.importorskip("wyoming.audio")
    async with wyoming_server() as app, client.AsyncClient.from_uri(address_of(app)) as connection:
        for _ in range(2):  # one command after the other on a connection
            await connection.write_event(asr.Transcribe(language="en").event())
            await connection.write_event(audio.AudioStart(**FORMAT).event())
            for piece in messages(conversation(), 2_048):
                await connection.write_event(audio.AudioChunk(**FORMAT, audio=piece).event())
            await connection.write_event(audio.AudioStop().event())
            chunks, kinds = "", []
            while True:
                event = await asyncio.wait_for(connection.read_event(), 10)
                kinds.append(event.type)
                if asr.TranscriptChunk.is_type(event.type):
                    chunks += asr.TranscriptChunk.from_event(event).text
                if asr.Transcript.is_type(event.type):
                    transcript = asr.Transcript.from_event(event)
                if asr.TranscriptStop.is_type(event.type):
                    break
            expected = ["transcript-start", "transcript-chunk", "transcript-chunk", "transcript", "transcript-stop"]
            assert kinds == expected
            assert (transcript.text, transcript.language) == (WHOLE, None)
            assert chunks == transcript.text
            assert transcript.text == " ".join(await native_finals(app, conversation()))


async def test_the_official_client_gets_its_ping_back() -> None:
    client, ping = pytest.importorskip("wyoming.client"), pytest.importorskip("wyoming.ping")
    async with wyoming_server() as app, client.AsyncClient.from_uri(address_of(app)) as connection:
        await connection.write_event(ping.Ping(text="7").event())
        assert ping.Pong.from_event(await connection.read_event()).text == "7"


# The protocol ---------------------------------------------------------------------------------------


async def test_silence_has_one_empty_transcript() -> None:
    async with wyoming_server() as app, called(app) as caller:
        await caller.speak(silence())
        await caller.send("audio-stop")
        events = await heard_until_stop(caller)
        assert [event.type for event in events] == ["transcript-start", "transcript", "transcript-stop"]
        assert events[1].data == {"text": ""}


async def test_a_stop_without_audio_has_a_transcript_as_well() -> None:
    async with wyoming_server() as app, called(app) as caller:
        await caller.send("audio-stop")
        assert (await heard_until_stop(caller))[1].data == {"text": ""}


async def test_chunks_need_no_start_and_commands_may_be_sent_ahead() -> None:
    async with wyoming_server() as app, called(app) as caller:
        for number in (1, 2):
            for piece in messages(silence(0.3) + sentence(number) + silence(0.3), 4_000):
                await caller.send("audio-chunk", FORMAT, piece)
            await caller.send("audio-stop")
        transcripts = [
            event.data["text"]
            for _ in range(2)
            for event in await heard_until_stop(caller)
            if event.type == "transcript"
        ]
        assert transcripts == list(SENTENCES[:2])


async def test_a_start_in_a_command_begins_it_again() -> None:
    async with wyoming_server() as app, called(app) as caller:
        await caller.speak(silence(0.3) + sentence(1) + silence())
        assert (await caller.read()).type == "transcript-start"  # type: ignore[union-attr]
        await caller.speak(silence(0.3) + sentence(2))
        await caller.send("audio-stop")
        events = await heard_until_stop(caller)
        assert [event.data["text"] for event in events if event.type == "transcript"] == [SENTENCES[1]]


async def test_it_says_what_it_is_while_a_command_runs_and_ignores_what_it_does_not_know() -> None:
    async with wyoming_server() as app, called(app) as caller:
        await caller.send("select-program", {"name": "streamer"})
        await caller.speak(silence(0.1))
        await caller.send("detect", {"names": ["x"]})
        await caller.send("ping", {"text": 7})
        await caller.send("describe")
        assert (await caller.read()) == WyomingEvent("pong", {"text": None})
        event = await caller.read()
        assert event is not None
        assert event.type == "info"


async def test_a_range_without_a_result_is_an_error_and_the_transcript_still_comes() -> None:
    parts = recogniser(lambda _: JobFailed(ErrorCode.MODEL_ERROR, "the model is broken"))
    async with wyoming_server(parts) as app, called(app) as caller:
        await caller.speak(silence(0.3) + sentence(1))
        await caller.send("audio-stop")
        events = await heard_until_stop(caller)
        assert events[0].data == {"text": "the model is broken", "code": "model_error"}
        assert events[2].data == {"text": ""}


# Faults ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "bad_request"),
        (b'{"type": 7}\n', "bad_request"),
        (b'"describe"\n', "bad_request"),
        (b"\n", "bad_request"),
        (b"[" * 30_000 + b"\n", "bad_request"),
        (b'{"type":"ping","data_length":3}\n[1]', "bad_request"),
        (b'{"type":"ping","data_length":-1}\n', "bad_request"),
        (b'{"type":"ping","payload_length":"9"}\n', "bad_request"),
        (b'{"type":"transcribe","data":{"language":7}}\n', "bad_request"),
        (b'{"type":"audio-start","data":{"rate":"16000","width":2,"channels":1}}\n', "invalid_format"),
        (b'{"type":"audio-start","data":{"rate":16000,"width":9,"channels":1}}\n', "invalid_format"),
        (b'{"type":"audio-start","data":{"rate":16000,"width":2,"channels":9}}\n', "invalid_format"),
        (b'{"type":"audio-start","data":{"rate":1,"width":2,"channels":1}}\n', "invalid_format"),
        (b'{"type":"audio-start"}\n', "invalid_format"),
        (b"{" + b" " * 70_000, "message_too_big"),
        (b'{"type":"audio-chunk","payload_length":9999999}\n', "message_too_big"),
        (b'{"type":"ping","data_length":9999999}\n', "message_too_big"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_fault_is_an_error_and_then_the_end(data: bytes, code: str) -> None:
    async with wyoming_server() as app, called(app) as caller:
        caller.writer.write(data)
        [error] = await caller.rest()
        assert error.type == "error"
        assert error.data["code"] == code
        assert error.data["text"]


async def test_a_chunk_of_another_format_is_an_error() -> None:
    async with wyoming_server() as app, called(app) as caller:
        await caller.speak(silence(0.1))
        await caller.send("audio-chunk", {**FORMAT, "rate": 8_000}, silence(0.1))
        [error] = await caller.rest()
        assert "rate 16000, width 2, channels 1, got rate 8000" in error.data["text"]


async def test_an_overloaded_server_says_what_it_is_and_refuses_audio() -> None:
    parts = recogniser()
    assert isinstance(parts.engine, ScriptedEngine)
    parts.engine.refuse_admission = Overloaded("busy", retry_after_s=1.0)
    async with wyoming_server(parts) as app, called(app) as caller:
        await caller.send("describe")
        assert (await caller.read()).type == "info"  # type: ignore[union-attr]
        await caller.speak(silence(0.1))
        [error] = await caller.rest()
        assert error.data == {"text": "busy", "code": "overloaded"}


async def test_a_drain_in_mid_command_is_an_error_because_half_a_command_must_not_be_executed() -> None:
    async with wyoming_server(drain={"lag_s": 0, "soft_s": 0, "spread_s": 0}) as app, called(app) as caller:
        await caller.speak(silence(0.3) + sentence(1) + silence())
        assert (await caller.read()).type == "transcript-start"  # type: ignore[union-attr]
        await app.drain(lag_s=0)
        events = await caller.rest()
        assert [event.type for event in events] == ["transcript-chunk", "error"]
        assert events[-1].data["code"] == "draining"


async def test_a_drain_after_the_stop_still_sends_the_transcript() -> None:
    parts = recogniser()
    assert isinstance(parts.engine, ScriptedEngine)
    async with wyoming_server(parts, drain={"lag_s": 0, "soft_s": 0, "spread_s": 0}) as app, called(app) as caller:
        parts.engine.is_holding = True
        await caller.speak(silence(0.3) + sentence(1))
        await caller.send("audio-stop")
        while not parts.engine.jobs:
            await asyncio.sleep(0)
        draining = asyncio.create_task(app.drain(lag_s=0))
        await asyncio.sleep(0)
        parts.engine.release_all()
        events = await caller.rest()
        await draining
        assert [event.data["text"] for event in events if event.type == "transcript"] == [SENTENCES[0]]


async def test_a_silent_connection_is_closed_after_the_idle_time_out() -> None:
    async with wyoming_server(limits={"idle_timeout_s": 0.3}) as app:
        async with called(app) as caller:
            assert await caller.rest() == []
        async with called(app) as caller:
            await caller.speak(silence(0.1))
            assert (await caller.rest())[-1].data["code"] == "idle_timeout"


async def test_a_client_that_vanishes_leaves_no_session() -> None:
    async with wyoming_server() as app:
        async with called(app) as caller:
            await caller.speak(sentence(1))
            while not len(app.connections):
                await asyncio.sleep(0)
            caller.writer.transport.abort()
        await asyncio.wait_for(app.connections.wait_empty(), 10)


async def test_one_connection_more_than_the_limit_is_closed_at_once() -> None:
    for limits in ({"wyoming_connections": 1}, {"wyoming_connections_per_address": 1}):
        async with wyoming_server(dialects=limits) as app:
            async with called(app) as first:
                await first.send("ping")
                assert await first.read() is not None
                async with called(app) as second:
                    assert await second.rest() == []
                await first.send("ping")
                assert await first.read() is not None
            async with asyncio.timeout(10):
                while True:
                    async with called(app) as third:
                        await third.send("ping")
                        if await third.read() is not None:
                            break


async def test_a_connection_without_audio_may_not_ask_for_ever() -> None:
    async with wyoming_server() as app, called(app) as caller:
        for _ in range(200):
            await caller.send("ping")
        assert len(await caller.rest()) == 100


async def test_a_connection_that_the_server_has_ended_is_not_reset_by_what_its_client_still_sends() -> None:
    """A reset would take from the client what it has not read yet."""
    async with wyoming_server() as app, called(app) as caller, called(app) as other:
        for _ in range(100):
            await caller.send("ping")
        assert len(await caller.rest()) == 100  # and the end
        for _ in range(2):
            await caller.send("ping")
            await other.send("ping")
            assert await other.read() is not None  # by now the server would have reset the first one
        assert not caller.writer.transport.is_closing()


async def test_only_networks_of_the_setting_may_connect() -> None:
    async with wyoming_server(dialects={"wyoming_peers": ("10.1.0.0/16",)}) as app, called(app) as caller:
        assert await caller.rest() == []
    async with wyoming_server(dialects={"wyoming_peers": ("127.0.0.1",)}) as app, called(app) as caller:
        await caller.send("ping")
        assert await caller.read() is not None


async def test_a_server_with_keys_needs_the_networks_that_need_none() -> None:
    keys = {"keys": (str(new_key("me")[1]),)}
    with pytest.raises(ConfigError, match=r"dialects\.wyoming_peers.*no authentication"):
        async with wyoming_server(access=keys):
            pass
    async with wyoming_server(access=keys, dialects={"wyoming_peers": ("127.0.0.0/8",)}) as app, called(app) as caller:
        await caller.send("ping")
        assert await caller.read() is not None


async def test_a_message_for_which_there_is_no_memory_is_refused_and_gives_its_memory_back() -> None:
    async with wyoming_server(limits={"max_session_bytes": 1_048_576}, server={"max_audio_bytes": 10_000_000}) as app:
        app.memory.used += 9_900_000
        async with called(app) as caller:
            caller.writer.write(b'{"type":"audio-chunk","payload_length":900000}\n' + b"\0" * 800_000)
            [error] = await caller.rest()
            assert error.data["code"] == "overloaded"
        app.memory.used -= 9_900_000
        async with called(app) as caller:
            caller.writer.write(b'{"type":"audio-chunk","payload_length":900000}\n' + b"\0" * 800_000)
            async with asyncio.timeout(10):
                while app.memory.used < 800_000:
                    await asyncio.sleep(0)
        async with asyncio.timeout(10):
            while app.memory.used:
                await asyncio.sleep(0)


async def test_a_client_that_does_not_read_is_ended() -> None:
    async with wyoming_server(
        server={"outbox_bytes": 1_024, "outbox_stall_s": 0.3, "close_timeout_s": 0.3},
        limits={"max_control_share": 100.0},
    ) as app:
        async with called(app) as caller:
            await caller.speak(silence(0.1))

            async def flood() -> None:
                while True:
                    await caller.send("ping", {"text": "x" * 60_000})

            with pytest.raises(ConnectionError):
                await asyncio.wait_for(flood(), 20)
        await asyncio.wait_for(app.connections.wait_empty(), 10)


def test_the_port_is_a_setting() -> None:
    assert Settings().dialects.wyoming_port == 10_300
