"""Telephone calls over real sockets: Twilio's messages, Asterisk's frames, and the feed of their results."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from streamer.access.keys import new_key
from streamer.app import App
from streamer.dialects.call_feed import MAX_UNREAD, CallFeed
from streamer.errors import ConfigError, Overloaded
from streamer.protocols.audiosocket import AudioSocketFrame, encode_frame
from streamer.protocols.calls import CallDigit
from streamer.protocols.twilio import signature_of
from streamer.testing import ScriptedEngine
from tests.dialects.recogniser import (
    SENTENCES,
    conversation,
    dialect_server,
    messages,
    native_finals,
    recogniser,
    sentence,
    silence,
)

CALL = UUID("5b0f6f0e-0000-4000-8000-000000000000")
SLIN, SLIN16 = 0x10, 0x12


@asynccontextmanager
async def call_server(*arguments: Any, **sections: Any) -> AsyncIterator[App]:
    dialects = {"calls_audiosocket_port": -1, **sections.pop("dialects", {})}
    async with dialect_server("calls", *arguments, dialects=dialects, **sections) as app:
        yield app


class Listener:
    """A listener to the feed."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while True:
                line = await self.response.content.readline()
                assert line, "the feed has ended"
                if line.startswith(b"data: "):
                    event: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
                    return event

    async def until_the_end(self) -> list[dict[str, Any]]:
        events = [await self.next()]
        while events[-1]["type"] != "call_ended":
            events.append(await self.next())
        return events


@asynccontextmanager
async def listening(app: App, **query: str) -> AsyncIterator[Listener]:
    async with aiohttp.ClientSession() as http, http.get(app.url + "/v1/calls", params=query) as response:
        assert response.status == 200
        assert await response.content.readline() == b": listening\n"
        yield Listener(response)


@asynccontextmanager
async def asterisk(app: App) -> AsyncIterator[asyncio.StreamWriter]:
    _, writer = await asyncio.open_connection("127.0.0.1", app.dialects.ports["calls"])
    try:
        yield writer
    finally:
        writer.close()


def ring(writer: asyncio.StreamWriter) -> None:
    writer.write(encode_frame(AudioSocketFrame(0x01, CALL.bytes)))


def speak(writer: asyncio.StreamWriter, audio: bytes, kind: int = SLIN) -> None:
    for piece in messages(audio, 320):
        writer.write(encode_frame(AudioSocketFrame(kind, piece)))


def mulaw(samples: bytes) -> bytes:
    """Return pcm_s16le as mu-law, by the definition of G.711."""
    encoded = bytearray()
    for at in range(0, len(samples), 2):
        value = int.from_bytes(samples[at : at + 2], "little", signed=True)
        sign, magnitude = (0x80, -value) if value < 0 else (0, value)
        magnitude = min(magnitude, 32_635) + 132
        exponent = magnitude.bit_length() - 8
        encoded.append(~(sign | exponent << 4 | (magnitude >> (exponent + 3)) & 0x0F) & 0xFF)
    return bytes(encoded)


def twilio_start(*tracks: str, **parameters: str) -> dict[str, Any]:
    call = {"streamSid": "MZ1", "accountSid": "AC1", "callSid": "CA1", "tracks": tracks}
    media = {"encoding": "audio/x-mulaw", "sampleRate": 8_000, "channels": 1}
    start = {**call, "mediaFormat": media, "customParameters": parameters}
    return {"event": "start", "sequenceNumber": "1", "start": start, "streamSid": "MZ1"}


def twilio_media(track: str, audio: bytes) -> dict[str, Any]:
    media = {"track": track, "chunk": "1", "timestamp": "5", "payload": base64.b64encode(audio).decode()}
    return {"event": "media", "sequenceNumber": "2", "media": media, "streamSid": "MZ1"}


@asynccontextmanager
async def twilio(app: App, **headers: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    url = app.url + "/v1/calls/twilio"
    async with aiohttp.ClientSession() as http, http.ws_connect(url, headers=headers) as socket:
        await socket.send_json({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        yield socket


def finals(events: list[dict[str, Any]], track: str | None = None) -> list[str]:
    return [
        event["output"]["text"]
        for event in events
        if event["type"] == "segment" and event["is_final"] and track in (None, event["track"])
    ]


# Asterisk -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "rate"), [(SLIN, 8_000), (SLIN16, 16_000)])
@pytest.mark.parametrize("hangs_up", [True, False])
async def test_a_call_of_asterisk_is_told_to_its_end_however_it_ends(kind: int, rate: int, hangs_up: bool) -> None:
    audio = conversation(rate)
    async with call_server() as app, listening(app) as listener:
        async with asterisk(app) as writer:
            ring(writer)
            speak(writer, audio, kind)
            writer.write(encode_frame(AudioSocketFrame(0x03, b"5")))
            if hangs_up:
                writer.write(encode_frame(AudioSocketFrame(0x00)))
                await writer.drain()
                events = await listener.until_the_end()
        if not hangs_up:
            events = await listener.until_the_end()
        assert events[0] == {
            "type": "call_started",
            "call_id": str(CALL),
            "source": "audiosocket",
            "parameters": {},
        }
        assert finals(events) == await native_finals(app, audio, rate)
        assert {"type": "dtmf", "call_id": str(CALL), "digit": "5"} in events
        assert any(event["type"] == "segment" and not event["is_final"] for event in events)
        assert events[-1]["reason"] == "stopped"
        assert events[-1]["duration_s"] == len(audio) / 2 / rate


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x77",
        encode_frame(AudioSocketFrame(SLIN, b"\0\0")),
        encode_frame(AudioSocketFrame(0x01, b"short")),
        encode_frame(AudioSocketFrame(0x01, CALL.bytes)) + encode_frame(AudioSocketFrame(SLIN, b"\0\0")) + b"\x77",
        encode_frame(AudioSocketFrame(0x01, CALL.bytes))
        + encode_frame(AudioSocketFrame(SLIN, b"\0\0"))
        + encode_frame(AudioSocketFrame(SLIN16, b"\0\0")),
    ],
    ids=repr,
)
async def test_bytes_that_are_no_call_are_hung_up(data: bytes) -> None:
    async with call_server() as app:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.dialects.ports["calls"])
        writer.write(data)
        async with asyncio.timeout(10):
            assert await reader.read() in (b"", b"\0\0\0")
        writer.close()
        await asyncio.wait_for(app.connections.wait_empty(), 10)


async def test_a_call_without_a_first_message_or_without_room_is_hung_up() -> None:
    parts = recogniser()
    assert isinstance(parts.engine, ScriptedEngine)
    async with call_server(parts, server={"handshake_timeout_s": 0.2}) as app:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.dialects.ports["calls"])
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        parts.engine.refuse_admission = Overloaded("busy", retry_after_s=1.0)
        reader, writer = await asyncio.open_connection("127.0.0.1", app.dialects.ports["calls"])
        ring(writer)
        assert await asyncio.wait_for(reader.read(), 10) == b"\0\0\0"
        writer.close()


async def test_a_drain_tells_what_was_said_and_ends_the_call() -> None:
    async with call_server(drain={"lag_s": 0, "soft_s": 0, "spread_s": 0}) as app, listening(app) as listener:
        async with asterisk(app) as writer:
            ring(writer)
            speak(writer, silence(0.3, 8_000) + sentence(1, rate=8_000))
            await writer.drain()
            assert (await listener.next())["type"] == "call_started"
            while (await listener.next())["type"] != "segment":
                pass
            await app.drain(lag_s=0)
            events = await listener.until_the_end()
        assert finals(events) == [SENTENCES[0]]
        assert events[-1]["reason"] == "drained"
        async with asyncio.timeout(10):
            while await listener.response.content.readline():
                pass  # the feed ends as well


async def test_the_port_is_closed_to_strangers_and_needs_networks_on_a_server_with_keys() -> None:
    async with call_server(dialects={"calls_peers": ("10.0.0.0/8",)}) as app:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.dialects.ports["calls"])
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
    with pytest.raises(ConfigError, match=r"dialects\.calls_peers"):
        async with call_server(access={"keys": (str(new_key("me")[1]),)}):
            pass


# Twilio ---------------------------------------------------------------------------------------------


async def test_both_tracks_of_a_call_of_twilio_are_told_apart() -> None:
    caller = mulaw(silence(0.3, 8_000) + sentence(1, rate=8_000) + silence(1.5, 8_000))
    agent = mulaw(silence(2.0, 8_000) + sentence(2, rate=8_000) + silence(0.5, 8_000))
    async with call_server() as app, listening(app, call="CA1") as listener, twilio(app) as socket:
        await socket.send_json(twilio_start("inbound", "outbound", language="en"))
        ours, theirs = messages(caller, 160), messages(agent, 160)
        for number in range(max(len(ours), len(theirs))):
            for track, pieces in (("inbound", ours), ("outbound", theirs)):
                if number < len(pieces):
                    await socket.send_json(twilio_media(track, pieces[number]))
        await socket.send_json({"event": "dtmf", "dtmf": {"track": "inbound_track", "digit": "#"}, "streamSid": "MZ1"})
        await socket.send_json({"event": "mark", "mark": {"name": "x"}, "streamSid": "MZ1"})
        await socket.send_json({"event": "stop", "stop": {"accountSid": "AC1", "callSid": "CA1"}, "streamSid": "MZ1"})
        assert (await socket.receive(timeout=10)).data == 1000
        events = await listener.until_the_end()
        assert events[0]["parameters"] == {"language": "en", "stream_sid": "MZ1", "account_sid": "AC1"}
        assert finals(events, "inbound") == [SENTENCES[0]]
        assert finals(events, "outbound") == [SENTENCES[1]]
        assert {"type": "dtmf", "call_id": "CA1", "digit": "#"} in events
        assert events[-1]["duration_s"] == max(len(caller), len(agent)) / 8_000


async def test_a_track_that_is_silent_does_not_hold_the_other_one() -> None:
    caller = mulaw(silence(0.3, 8_000) + sentence(1, rate=8_000) + silence(2.5, 8_000))
    async with call_server() as app, listening(app) as listener, twilio(app) as socket:
        await socket.send_json(twilio_start("inbound", "outbound"))
        for piece in messages(caller, 160):
            await socket.send_json(twilio_media("inbound", piece))
        event = await listener.next()
        while not (event["type"] == "segment" and event["is_final"]):
            event = await listener.next()
        assert event["track"] == "inbound"


async def test_a_call_whose_connection_breaks_has_an_end() -> None:
    async with call_server() as app, listening(app) as listener:
        async with twilio(app) as socket:
            await socket.send_json(twilio_start("inbound"))
            assert (await listener.next())["type"] == "call_started"
        assert (await listener.until_the_end())[-1]["reason"] == "disconnected"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("nonsense", 1008),
        ('{"event":"begin"}', 1008),
        (json.dumps(twilio_media("inbound", b"")), 1008),
        (json.dumps(twilio_start()), 1008),
        (json.dumps(twilio_start("a", "b", "c")), 1008),
        (json.dumps(twilio_start("a", "a")), 1008),
        ('{"event":"start","start":{"tracks":7}}', 1008),
        (b"\0\0", 1003),
        ('{"event":"start","start":{"callSid":"' + "a" * 20_000 + '"}}', 1009),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_fault_closes_the_connection(frame: str | bytes, code: int) -> None:
    async with call_server() as app, twilio(app) as socket:
        await (socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_str(frame))
        assert (await socket.receive(timeout=10)).data == code


async def test_audio_that_is_no_base64_or_of_no_track_ends_the_call() -> None:
    for media in ({"payload": "?"}, {"payload": "", "track": "outbound"}):
        async with call_server() as app, listening(app) as listener, twilio(app) as socket:
            await socket.send_json(twilio_start("inbound"))
            await socket.send_json({"event": "media", "media": media})
            assert (await socket.receive(timeout=10)).data == 1008
            events = await listener.until_the_end()
            assert [event["type"] for event in events] == ["call_started", "error", "call_ended"]


async def test_a_server_with_keys_takes_only_calls_that_twilio_has_signed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("12345\n")
    secret, key = new_key("me")
    access, dialects = {"keys": (str(key),)}, {"calls_twilio_token_file": str(file), "calls_audiosocket_port": 0}
    async with call_server(access=access, dialects=dialects) as app:
        for signature in ("", "AAAA", signature_of(b"54321", f"wss://127.0.0.1:{app.port}/v1/calls/twilio")):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with twilio(app, **{"X-Twilio-Signature": signature}):
                    pass
            assert refused.value.status == 401
        signed = signature_of(b"12345", f"wss://127.0.0.1:{app.port}/v1/calls/twilio")
        async with twilio(app, **{"X-Twilio-Signature": signed}) as socket:
            await socket.send_json({"event": "stop"})
            assert (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE
        async with aiohttp.ClientSession() as http:
            async with http.get(app.url + "/v1/calls") as response:
                assert response.status == 401
            async with http.get(app.url + "/v1/calls", headers={"Authorization": f"Bearer {secret}"}) as response:
                assert response.status == 200


async def test_a_server_with_keys_that_cannot_check_signatures_does_not_serve_twilio() -> None:
    access = {"keys": (str(new_key("me")[1]),)}
    async with call_server(access=access, dialects={"calls_audiosocket_port": 0}) as app:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with twilio(app):
                pass
        assert refused.value.status == 404


def test_the_signature_is_that_of_twilios_own_example() -> None:
    # https://www.twilio.com/docs/usage/security: the auth token 12345, and parameters appended to the address
    url = (
        "https://mycompany.com/myapp.php?foo=1&bar=2CallSidCA1234567890ABCDECaller+14158675309Digits1234"
        "From+14158675309To+18005551212"
    )
    assert signature_of(b"12345", url) == "RSOYDt4T1cUTdK1PDd93/VVr8B8="


# The feed -------------------------------------------------------------------------------------------


async def test_a_listener_to_one_call_hears_no_other() -> None:
    async with call_server() as app, listening(app, call="second") as listener:
        for call in ("first", "second"):
            async with twilio(app) as socket:
                start = twilio_start("inbound")
                start["start"]["callSid"] = call
                await socket.send_json(start)
                await socket.send_json({"event": "stop"})
                assert (await socket.receive(timeout=10)).data == 1000
        assert {event["call_id"] for event in await listener.until_the_end()} == {"second"}


async def test_a_listener_that_does_not_read_is_disconnected_and_bounded() -> None:
    feed = CallFeed(lambda: False)
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()
    feed._listeners[queue] = ""
    for _ in range(MAX_UNREAD + 5):
        feed.publish(CallDigit("id", "1"))
    assert len(feed) == 0
    assert queue.qsize() == MAX_UNREAD + 1


async def test_a_token_file_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for file in (empty, tmp_path / "missing"):
        with pytest.raises(ConfigError, match=r"dialects\.calls_twilio_token_file"):
            async with call_server(dialects={"calls_twilio_token_file": str(file)}):
                pass
