"""Clients that say what they like, and write down what they hear: over a WebSocket in both dialects, and over gRPC."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import aiohttp
import grpc.aio
import msgspec
from aiohttp import WSMsgType
from google.protobuf.json_format import ParseDict

from streamer.client.grpc_dialect import GrpcClientCodec
from streamer.errors import ErrorCode
from streamer.protocols.pb import streamer_pb2 as pb
from streamer.transports.grpc.status import STATUS
from streamer.transports.status_codes import CLOSE_CODES
from tests.faults.fault import NORMAL
from tests.faults.sight import FaultObservation

FORMAT = {"encoding": "pcm_s16le", "sample_rate": 16_000, "channels": 1}
V1_FORMAT = {"channels": 1, "sample_rate": 16_000, "bit_depth": 16, "is_float": False}
START: Mapping[str, dict[str, Any]] = {
    "v1": {"request": "start", "format": V1_FORMAT},
    "v2": {"type": "start", "format": FORMAT},
    "grpc": {"type": "start", "format": FORMAT},
}
STOP: Mapping[str, dict[str, Any]] = {
    "v1": {"request": "stop", "disconnect": True},
    "v2": {"type": "stop"},
    "grpc": {"type": "stop"},
}
DIALECTS = ("v1", "v2")
"""Over a WebSocket."""
WAYS = (*DIALECTS, "grpc")
TRANSPORTS = ("v2", "grpc")
"""The same words over both."""
LEFT = "left"
"""An end without a word of the server's."""
SECOND = b"\0\0" * 16_000

Events = list[dict[str, Any]]


class Peer(ABC):
    """One connection of a client. Words are the dialect's JSON; over gRPC they are v2's, as protobuf."""

    def __init__(self, way: str, sight: FaultObservation) -> None:
        self.way = way
        self._sight = sight
        self.end = ""
        """How the server ended the connection, once it did: the code, or `normal`."""

    @abstractmethod
    async def say(self, words: Mapping[str, Any]) -> None: ...

    @abstractmethod
    async def say_bytes(self, data: bytes) -> None:
        """Audio."""

    @abstractmethod
    async def nonsense(self, text: str, frame: bytes = b"\xff") -> None:
        """What is not of the protocol: a text, or over gRPC a frame."""

    @abstractmethod
    async def receive(self) -> dict[str, Any] | str:
        """The next event, or how the connection ended."""

    async def start(self, **changed: Any) -> None:
        """A start that is right but for what is changed."""
        await self.say(START[self.way] | changed)

    async def start_format(self, **changed: Any) -> None:
        await self.start(format=START[self.way]["format"] | changed)

    async def stop(self) -> None:
        await self.say(STOP[self.way])

    async def audio(self, data: bytes = SECOND, cut: int = 3_200) -> None:
        for at in range(0, len(data), cut):
            await self.say_bytes(data[at : at + cut])

    async def next(self) -> dict[str, Any] | None:
        """The next event; None once the server has ended the connection."""
        async with asyncio.timeout(20):
            came = await self.receive()
        if isinstance(came, str):
            self.end = came
            self._sight.ends.append(came)
            return None
        if came.get("code") == "lagging":  # it says how busy the machine is
            return await self.next()
        self._sight.heard(came)
        return came

    async def hear(self, *kinds: str) -> dict[str, Any]:
        """The next event of these kinds; of any kind, without those that only count."""
        while (event := await self.next()) is not None:
            if event["type"] in kinds if kinds else event["type"] not in ("ack", "started"):
                return event
        raise AssertionError(f"{self.end} while waiting for {kinds}")

    async def rest(self) -> Events:
        """Everything until the server closes."""
        heard = []
        while (event := await self.next()) is not None:
            if event["type"] != "ack":
                heard.append(event)
        return heard

    async def still_works(self) -> None:
        """The connection stays, and a stream on it is answered to the last sample."""
        await self.start()
        await self.audio()
        await self.stop()
        heard = await self.rest()
        assert not [event for event in heard if event["type"] == "error"]
        assert self.end == NORMAL
        assert covered(heard) == 16_000

    async def ended_with(self, code: ErrorCode, *words: str) -> dict[str, Any]:
        """The last event is a fatal error that says these words; the close that follows has its code."""
        heard = await self.rest()
        error = heard[-1]
        assert (error["type"], error["code"], error["fatal"]) == ("error", code, True), heard
        assert self.end == code
        assert all(word in error["message"] for word in words), error
        return error


class SocketPeer(Peer):
    """Over a WebSocket."""

    def __init__(self, way: str, sight: FaultObservation, socket: aiohttp.ClientWebSocketResponse) -> None:
        super().__init__(way, sight)
        self.socket = socket

    async def say(self, words: Mapping[str, Any]) -> None:
        await self.socket.send_json(words)

    async def say_bytes(self, data: bytes) -> None:
        await self.socket.send_bytes(data)

    async def text(self, data: str) -> None:
        await self.socket.send_str(data)

    async def nonsense(self, text: str, frame: bytes = b"\xff") -> None:
        await self.text(text)

    async def receive(self) -> dict[str, Any] | str:
        message = await self.socket.receive()
        if message.type is WSMsgType.TEXT:
            event: dict[str, Any] = message.json()
            return event
        if message.type is not WSMsgType.CLOSE:
            return LEFT
        if message.extra:
            assert CLOSE_CODES[ErrorCode(message.extra)] == message.data
        return NORMAL if message.data == 1000 else message.extra or str(message.data)


class CallPeer(Peer):
    """Over gRPC."""

    def __init__(self, sight: FaultObservation, call: grpc.aio.StreamStreamCall[bytes, bytes], mode: str) -> None:
        super().__init__("grpc", sight)
        self.call = call
        self._mode = f"MODE_{mode.upper()}"
        self._dialect = GrpcClientCodec()

    async def say(self, words: Mapping[str, Any]) -> None:
        await self.frame(_message(words, self._mode).SerializeToString())

    async def say_bytes(self, data: bytes) -> None:
        await self.frame(pb.ClientMessage(audio=data).SerializeToString())

    async def frame(self, data: bytes) -> None:
        """A message as it is."""
        try:
            await self.call.write(data)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise ConnectionResetError("the call has ended") from error

    async def nonsense(self, text: str, frame: bytes = b"\xff") -> None:
        await self.frame(frame)

    async def receive(self) -> dict[str, Any] | str:
        try:
            came: object = await self.call.read()
        except grpc.aio.AioRpcError:
            came = None
        if isinstance(came, bytes):
            event: dict[str, Any] = msgspec.to_builtins(self._dialect.decode(came))
            return event
        status = await self.call.code()
        if status is grpc.StatusCode.OK:
            return NORMAL
        code = dict(await self.call.trailing_metadata()).get("streamer-code")
        if code is None:
            return LEFT if status is grpc.StatusCode.CANCELLED else status.name
        assert STATUS[ErrorCode(str(code))] is status
        return str(code)


def _message(words: Mapping[str, Any], mode: str) -> pb.ClientMessage:
    """v2's words as protobuf has them."""
    kind, rest = words["type"], {name: value for name, value in words.items() if name != "type"}
    if kind == "start":
        form = rest["format"]
        rest = {"mode": mode} | rest | {"format": form | {"encoding": f"ENCODING_{form['encoding'].upper()}"}}
    return ParseDict({kind: rest}, pb.ClientMessage())


def covered(heard: Events) -> int:
    """Samples that results say they cover."""
    return sum(event.get("count") or event["output"]["count"] for event in heard if "start_time" in event)
