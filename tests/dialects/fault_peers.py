"""A small client of each other service's protocol, which can do wrong, and keeps what it was told."""

from __future__ import annotations

import asyncio
import base64
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import Any, ClassVar, Self
from uuid import UUID

import aiohttp

from streamer.app import App
from streamer.protocols.audiosocket import AudioSocketFrame, encode_frame
from streamer.protocols.wyoming_wire import EventParser, WyomingEvent, encode_event
from tests.dialects.call_feed_reader import CallFeedReader
from tests.dialects.recogniser import messages
from tests.faults.raw import TEXT, frame
from tests.transports.serving import dialled

PATIENCE_S = 60.0
_NUMBERS = count(1)


@dataclass
class Heard:
    """All that a client was told. `close`: the code; of a TCP connection `end`, or `hangup` if that is a message."""

    finals: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    close: int | str | None = None


class Peer(ABC):
    """One connection of a client. `rate`: of its audio in Hz, which is pcm_s16le."""

    rate: ClassVar[int] = 16_000
    clean: ClassVar[int | str | None] = 1000
    """How a connection ends whose client has ended its stream."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.turns = 1
        """Utterances of the client, for a protocol without an end."""
        self.is_stopped = False

    @classmethod
    @abstractmethod
    def connected(cls, app: App, feed: CallFeedReader | None, **changes: Any) -> Any:
        """Open a connection for a block. `changes`: parameters of its query."""

    async def start(self) -> None:
        """Say what precedes audio, if there is such a message."""
        return

    @abstractmethod
    async def audio(self, data: bytes) -> None:
        """Send one message with audio."""

    @abstractmethod
    async def stop(self) -> None:
        """End the stream."""

    @abstractmethod
    async def text(self, text: str) -> None:
        """Send a message of another kind."""

    @abstractmethod
    async def raw(self, text: bytes) -> None:
        """Send such a message with any bytes in it."""

    @abstractmethod
    async def rest(self) -> Heard:
        """Read until the end of the connection; return all that was heard."""

    async def crumbs(self, data: bytes) -> None:
        """Send audio one byte in each message."""
        await self.speak(data, 1)

    async def speak(self, data: bytes, size: int = 3_200) -> None:
        """Send audio in messages of `size` bytes."""
        for piece in messages(data, size):
            await self.audio(piece)


class SocketPeer(Peer):
    """A client over a WebSocket."""

    path: ClassVar[str]
    query: ClassVar[Mapping[str, str]] = MappingProxyType({})
    end: ClassVar[str]

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        super().__init__()
        self.socket = socket

    @classmethod
    @asynccontextmanager
    async def connected(
        cls, app: App, feed: CallFeedReader | None = None, *, headers: Any = None, protocols: Any = (), **changes: str
    ) -> AsyncIterator[Self]:
        params = {**cls.query, **changes}
        async with dialled(app, cls.path, params=params, headers=headers, protocols=protocols) as socket:
            yield cls(socket)

    async def audio(self, data: bytes) -> None:
        await self.socket.send_bytes(data)

    async def stop(self) -> None:
        self.is_stopped = True
        await self.socket.send_str(self.end)

    async def text(self, text: str) -> None:
        await self.socket.send_str(text)

    async def raw(self, text: bytes) -> None:
        transport = self.socket._writer.transport  # aiohttp sends no such text by itself
        assert transport is not None
        transport.write(frame(TEXT, text))

    async def rest(self) -> Heard:
        async with asyncio.timeout(PATIENCE_S):
            async for message in self.socket:
                self.read(json.loads(message.data))
        self.heard.close = self.socket.close_code
        return self.heard

    @abstractmethod
    def read(self, message: dict[str, Any]) -> None:
        """Take a message of the server."""

    def final(self, text: str) -> None:
        if text:
            self.heard.finals.append(text)


class DeepgramPeer(SocketPeer):
    path = "/v1/listen"
    query = MappingProxyType({"encoding": "linear16", "sample_rate": "16000"})
    end = '{"type":"CloseStream"}'

    def read(self, message: dict[str, Any]) -> None:
        if message["type"] == "Error":
            self.heard.errors.append(message["variant"])
        if message.get("is_final"):
            self.final(message["channel"]["alternatives"][0]["transcript"])


class FluxPeer(DeepgramPeer):
    path = "/v2/listen"

    def read(self, message: dict[str, Any]) -> None:
        if message["type"] in ("Error", "Warning", "ConfigureFailure"):
            self.heard.errors.append(message["code"])
        if message.get("event") == "EndOfTurn":
            self.final(message["transcript"])


class RealtimePeer(SocketPeer):
    path = "/v1/realtime"
    query = MappingProxyType({"intent": "transcription"})
    rate = 24_000

    async def audio(self, data: bytes) -> None:
        piece = {"type": "input_audio_buffer.append", "audio": base64.b64encode(data).decode()}
        await self.socket.send_json(piece)

    async def stop(self) -> None:
        """Read until the turns are complete, because the protocol has no end, and close."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.heard.finals) < self.turns:
                self.read(await self.socket.receive_json())
        await self.socket.close()

    def read(self, message: dict[str, Any]) -> None:
        if message["type"] == "error":
            self.heard.errors.append(message["error"]["code"])
        if message["type"].endswith(".completed"):
            self.final(message["transcript"])


class VoskPeer(SocketPeer):
    """A client that does not wait for its answers."""

    path = "/"
    rate = 8_000
    end = '{"eof" : 1}'

    async def start(self) -> None:
        await self.text('{ "config" : { "sample_rate" : 8000.0 } }')

    def read(self, message: dict[str, Any]) -> None:
        self.final(message.get("text", ""))


class AssemblyAiPeer(SocketPeer):
    path = "/v3/ws"
    query = MappingProxyType({"sample_rate": "16000"})
    end = '{"type":"Terminate"}'

    def read(self, message: dict[str, Any]) -> None:
        if message["type"] == "Error":
            self.heard.errors.append(str(message["error_code"]))
        if message.get("end_of_turn"):
            self.final(message["transcript"])


class SpeechmaticsPeer(SocketPeer):
    path = "/v2"
    end = '{"message":"EndOfStream","last_seq_no":1}'

    @staticmethod
    def first(**audio_format: Any) -> str:
        """Return the first message, with changes of its format."""
        format_ = {"type": "raw", "encoding": "pcm_s16le", "sample_rate": 16_000, **audio_format}
        message = {"message": "StartRecognition", "audio_format": format_, "transcription_config": {"language": "en"}}
        return json.dumps(message)

    async def start(self) -> None:
        await self.text(self.first())

    def read(self, message: dict[str, Any]) -> None:
        if message["message"] == "Error":
            self.heard.errors.append(message["type"])
        if message["message"] == "AddTranscript":
            self.final(message["metadata"]["transcript"].strip())


class CallPeer(Peer):
    """A client whose results go to the feed of calls."""

    feed: CallFeedReader
    call_id: str
    is_started = False

    async def _report(self) -> None:
        """Take what the feed says of the call, once it has ended there."""
        for event in await self.feed.call(self.call_id) if self.is_started else ():
            if event["type"] == "error":
                self.heard.errors.append(event["code"])
            if event["type"] == "segment" and event["is_final"]:
                self.heard.finals.append(event["output"]["text"])


class TwilioPeer(SocketPeer, CallPeer):
    path = "/v1/calls/twilio"
    rate = 8_000
    end = '{"event":"stop"}'

    @classmethod
    @asynccontextmanager
    async def connected(
        cls, app: App, feed: CallFeedReader | None = None, *, headers: Any = None, protocols: Any = (), **changes: str
    ) -> AsyncIterator[Self]:
        async with super().connected(app, headers=headers, protocols=protocols, **changes) as peer:
            assert feed is not None
            peer.feed, peer.call_id = feed, f"CA{next(_NUMBERS)}"
            await peer.text('{"event":"connected","protocol":"Call","version":"1.0.0"}')
            yield peer

    def first(self, tracks: Any = ("inbound",), **media_format: Any) -> str:
        """Return the first message of the call, with changes of its format."""
        format_ = {"encoding": "audio/x-mulaw", "sampleRate": 8_000, "channels": 1, **media_format}
        call = {"streamSid": "MZ", "callSid": self.call_id, "tracks": tracks, "mediaFormat": format_}
        return json.dumps({"event": "start", "start": call})

    async def start(self) -> None:
        self.is_started = True
        await self.text(self.first())

    async def audio(self, data: bytes) -> None:
        await self.media(mulaw(data))

    async def crumbs(self, data: bytes) -> None:
        for value in mulaw(data):
            await self.media(bytes((value,)))

    async def media(self, data: bytes) -> None:
        """Send audio in mu-law."""
        media = {"track": "inbound", "payload": base64.b64encode(data).decode()}
        await self.socket.send_json({"event": "media", "media": media})

    async def rest(self) -> Heard:
        await super().rest()
        await self._report()
        return self.heard

    def read(self, message: dict[str, Any]) -> None:
        raise AssertionError(f"Twilio is sent nothing, got {message}")


class PortPeer(Peer):
    """A client of a port that is not spoken over HTTP."""

    port: ClassVar[str]

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__()
        self.reader, self.writer = reader, writer

    @classmethod
    @asynccontextmanager
    async def connected(cls, app: App, feed: CallFeedReader | None = None) -> AsyncIterator[Self]:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.dialects.ports[cls.port])
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    async def text(self, text: str) -> None:
        await self.raw(text.encode())

    async def raw(self, text: bytes) -> None:
        self.writer.write(text)
        await self.writer.drain()


class WyomingPeer(PortPeer):
    port = "wyoming"
    clean = None
    FORMAT: ClassVar[Mapping[str, Any]] = MappingProxyType({"rate": 16_000, "width": 2, "channels": 1})

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self._owed = 0
        """Transcripts that have not come."""
        self._parser = EventParser()

    async def send(self, type_: str, data: Mapping[str, Any], payload: bytes = b"") -> None:
        await self.raw(encode_event(WyomingEvent(type_, dict(data), payload)))

    async def start(self) -> None:
        await self.send("audio-start", self.FORMAT)

    async def audio(self, data: bytes) -> None:
        await self.send("audio-chunk", self.FORMAT, data)

    async def stop(self) -> None:
        self._owed += 1
        self.is_stopped = True
        await self.send("audio-stop", {})

    async def text(self, text: str) -> None:
        await self.raw(text.encode() + b"\n")

    async def rest(self) -> Heard:
        """Read until all transcripts have come, or to the end."""
        async with asyncio.timeout(PATIENCE_S):
            while self._owed or not self.is_stopped:
                data = await self.reader.read(65_536)
                if not data:
                    self.heard.close = "end"
                    break
                self._read(data)
        return self.heard

    def _read(self, data: bytes) -> None:
        self._parser.feed(data)
        while (event := self._parser.next()) is not None:
            if event.type == "error":
                self.heard.errors.append(event.data["code"])
            if event.type == "transcript":
                self._owed -= 1
                self.heard.finals += [event.data["text"]] if event.data["text"] else []


class AudioSocketPeer(PortPeer, CallPeer):
    port = "calls"
    clean = "end"
    KIND: ClassVar[int] = 0x12

    @classmethod
    @asynccontextmanager
    async def connected(cls, app: App, feed: CallFeedReader | None = None) -> AsyncIterator[Self]:
        async with super().connected(app) as peer:
            assert feed is not None
            peer.feed, peer.call_id = feed, str(UUID(int=next(_NUMBERS)))
            yield peer

    async def send(self, kind: int, payload: bytes = b"") -> None:
        await self.raw(encode_frame(AudioSocketFrame(kind, payload)))

    async def start(self) -> None:
        await self.send(0x01, UUID(self.call_id).bytes)

    async def audio(self, data: bytes) -> None:
        self.is_started = True
        await self.send(self.KIND, data)

    async def stop(self) -> None:
        self.is_stopped = True
        await self.send(0x00)

    async def rest(self) -> Heard:
        async with asyncio.timeout(PATIENCE_S):
            self.heard.close = "hangup" if await self.reader.read() == b"\0\0\0" else "end"
        await self._report()
        return self.heard


def mulaw(samples: bytes) -> bytes:
    """Return pcm_s16le as mu-law, by the definition of G.711."""
    encoded = bytearray()
    for at in range(0, len(samples) - 1, 2):
        value = int.from_bytes(samples[at : at + 2], "little", signed=True)
        sign, magnitude = (0x80, -value) if value < 0 else (0, value)
        magnitude = min(magnitude, 32_635) + 132
        exponent = magnitude.bit_length() - 8
        encoded.append(~(sign | exponent << 4 | (magnitude >> (exponent + 3)) & 0x0F) & 0xFF)
    return bytes(encoded)


PEERS: Mapping[str, type[Peer]] = {
    "deepgram": DeepgramPeer,
    "flux": FluxPeer,
    "realtime": RealtimePeer,
    "vosk": VoskPeer,
    "wyoming": WyomingPeer,
    "assemblyai": AssemblyAiPeer,
    "speechmatics": SpeechmaticsPeer,
    "twilio": TwilioPeer,
    "audiosocket": AudioSocketPeer,
}
SERVED_AS: Mapping[str, str] = {"flux": "deepgram", "realtime": "openai", "twilio": "calls", "audiosocket": "calls"}
"""Names of the dialects that serve these protocols, if they have another name."""
