"""Small clients of the protocols of other services, which say what a server understands of a recording."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp

from streamer.errors import StreamerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RATE = 16_000
"""Sample rate of the recording in Hz. It is mono, pcm_s16le."""
REALTIME_RATE = 24_000
"""Sample rate of the recording for the Realtime API in Hz."""
_CHUNK = 3_200
_WYOMING_PORT = 10_300
_HANGUP, _IDENTITY, _AUDIO = 0x00, 0x01, 0x12
"""Kinds of AudioSocket's messages; the audio has 16 kHz."""


class ProbeFailed(StreamerError):
    """The server did not answer as its protocol says."""


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """A server and a recording. `url`: http://HOST:PORT. `pcm`, `realtime_pcm`: at 16 and at 24 kHz. `wav`: a file.

    `ports`: of the protocols that have their own, on the same host.
    """

    session: aiohttp.ClientSession
    url: str
    token: str | None
    pcm: bytes
    realtime_pcm: bytes
    wav: bytes
    ports: Mapping[str, int] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """Host of the server."""
        return urlsplit(self.url).hostname or "localhost"

    def authorization(self, scheme: str = "Bearer") -> dict[str, str]:
        """Return the header with the key or token; empty without one."""
        return {"Authorization": f"{scheme} {self.token}".strip()} if self.token else {}

    def chunks(self) -> Iterator[bytes]:
        """Yield the recording in messages of 100 ms."""
        return (self.pcm[at : at + _CHUNK] for at in range(0, len(self.pcm), _CHUNK))

    @asynccontextmanager
    async def dial(self, path: str, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket for the block."""
        async with self.session.ws_connect(self.url + path, headers=headers) as socket:
            yield socket

    async def post(self, path: str, headers: dict[str, str], data: Any) -> str:
        """Post a body; return the answer. Raises ProbeFailed if it is not 200."""
        async with self.session.post(self.url + path, headers=headers, data=data) as response:
            text = await response.text()
        if response.status != 200:
            raise ProbeFailed(f"POST {path}: expected 200, got {response.status}: {text[:200]}")
        return text


Probe = Callable[[ProbeTarget], Awaitable[str]]
"""Returns the transcript of the recording. Raises ProbeFailed, and any error of what reads a wrong answer."""


async def _messages(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[dict[str, Any]]:
    """Yield the messages until the server closes."""
    async for message in socket:
        yield json.loads(message.data)


async def native(target: ProbeTarget) -> str:
    """Transcribe the recording by the native protocol."""
    return await target.post("/api/v2/segmented?format=txt", target.authorization(), target.wav)


async def openai_file(target: ProbeTarget) -> str:
    """Transcribe the recording as a file."""
    form = aiohttp.FormData()
    form.add_field("model", "whisper-1")
    form.add_field("response_format", "text")
    form.add_field("file", target.wav, filename="recording.wav", content_type="audio/wav")
    return await target.post("/v1/audio/transcriptions", target.authorization(), form)


async def openai_realtime(target: ProbeTarget) -> str:
    """Transcribe the recording by the Realtime API, as one item that the client commits."""
    audio = {"format": {"type": "audio/pcm", "rate": REALTIME_RATE}, "turn_detection": None}
    async with target.dial("/v1/realtime?intent=transcription", target.authorization()) as socket:
        await socket.send_json(
            {"type": "session.update", "session": {"type": "transcription", "audio": {"input": audio}}}
        )
        for at in range(0, len(target.realtime_pcm), _CHUNK):
            piece = base64.b64encode(target.realtime_pcm[at : at + _CHUNK]).decode()
            await socket.send_json({"type": "input_audio_buffer.append", "audio": piece})
        await socket.send_json({"type": "input_audio_buffer.commit"})
        async for event in _messages(socket):
            if event["type"] == "conversation.item.input_audio_transcription.completed":
                return str(event["transcript"])
            if event["type"] in ("error", "conversation.item.input_audio_transcription.failed"):
                raise ProbeFailed(event["error"]["message"])
    raise ProbeFailed("expected a completed transcript, got a close")


async def deepgram_file(target: ProbeTarget) -> str:
    """Transcribe the recording as a file."""
    answer = json.loads(await target.post("/v1/listen", target.authorization("Token"), target.wav))
    return str(answer["results"]["channels"][0]["alternatives"][0]["transcript"])


async def deepgram_live(target: ProbeTarget) -> str:
    """Stream the recording."""
    path = f"/v1/listen?encoding=linear16&sample_rate={RATE}&channels=1"
    async with target.dial(path, target.authorization("Token")) as socket:
        for chunk in target.chunks():
            await socket.send_bytes(chunk)
        await socket.send_json({"type": "CloseStream"})
        results = [event async for event in _messages(socket) if event["type"] == "Results" and event["is_final"]]
    return " ".join(result["channel"]["alternatives"][0]["transcript"] for result in results)


async def vosk_live(target: ProbeTarget) -> str:
    """Stream the recording, and wait for the answer to each message."""
    texts = []
    async with target.dial("/", target.authorization()) as socket:
        await socket.send_json({"config": {"sample_rate": RATE}})
        for chunk in target.chunks():
            await socket.send_bytes(chunk)
            texts.append((await socket.receive_json()).get("text", ""))
        await socket.send_json({"eof": 1})
        texts.append((await socket.receive_json()).get("text", ""))
    return " ".join(texts)


async def assemblyai_live(target: ProbeTarget) -> str:
    """Stream the recording."""
    texts = []
    path = f"/v3/ws?sample_rate={RATE}&format_turns=true"
    async with target.dial(path, target.authorization("")) as socket:
        for chunk in target.chunks():
            await socket.send_bytes(chunk)
        await socket.send_json({"type": "Terminate"})
        async for event in _messages(socket):
            if event["type"] == "Turn" and event["end_of_turn"]:
                texts.append(event["transcript"])
            if event["type"] == "Error":
                raise ProbeFailed(event["error"])
    return " ".join(texts)


async def speechmatics_live(target: ProbeTarget) -> str:
    """Stream the recording."""
    texts = []
    pieces = list(target.chunks())
    start = {
        "message": "StartRecognition",
        "audio_format": {"type": "raw", "encoding": "pcm_s16le", "sample_rate": RATE},
        "transcription_config": {"language": "en"},
    }
    async with target.dial("/v2", target.authorization()) as socket:
        await socket.send_json(start)
        for piece in pieces:
            await socket.send_bytes(piece)
        await socket.send_json({"message": "EndOfStream", "last_seq_no": len(pieces)})
        async for event in _messages(socket):
            if event["message"] == "AddTranscript":
                texts.append(event["metadata"]["transcript"])
            if event["message"] == "Error":
                raise ProbeFailed(event["reason"])
    return " ".join(texts)


async def wyoming_live(target: ProbeTarget) -> str:
    """Stream the recording to the port of Wyoming."""
    form = {"rate": RATE, "width": 2, "channels": 1}
    reader, writer = await asyncio.open_connection(target.host, target.ports.get("wyoming", _WYOMING_PORT))
    try:

        def send(kind: str, data: dict[str, Any], payload: bytes = b"") -> None:
            writer.write(
                json.dumps({"type": kind, "data": data, "payload_length": len(payload)}).encode() + b"\n" + payload
            )

        send("transcribe", {})
        send("audio-start", form)
        for chunk in target.chunks():
            send("audio-chunk", form, chunk)
            await writer.drain()
        send("audio-stop", {})
        while line := await reader.readline():
            event = json.loads(line)
            data = {
                **event.get("data", {}),
                **json.loads(await reader.readexactly(event.get("data_length", 0)) or "{}"),
            }
            if event["type"] == "transcript":
                return str(data["text"])
            if event["type"] == "error":
                raise ProbeFailed(data["text"])
    finally:
        writer.close()
    raise ProbeFailed("expected a transcript, got a close")


async def audiosocket_call(target: ProbeTarget) -> str:
    """Send the recording as Asterisk sends a call, and read the feed of calls."""
    call_id = uuid4()
    url, texts = f"{target.url}/v1/calls?call={call_id}", []
    async with target.session.get(url, headers=target.authorization()) as feed:
        if feed.status != 200:
            raise ProbeFailed(f"GET /v1/calls: expected 200, got {feed.status}: {(await feed.text())[:200]}")
        await feed.content.readline()  # the listener is registered
        _, writer = await asyncio.open_connection(target.host, target.ports["calls"])
        try:
            for kind, payload in ((_IDENTITY, call_id.bytes), *((_AUDIO, chunk) for chunk in target.chunks())):
                writer.write(bytes((kind,)) + len(payload).to_bytes(2, "big") + payload)
                await writer.drain()
            writer.write(bytes((_HANGUP, 0, 0)))
            async for line in feed.content:
                event = json.loads(line.removeprefix(b"data: ")) if line.startswith(b"data: ") else {"type": ""}
                if event["type"] == "segment" and event["is_final"]:
                    output = event["output"]
                    texts.append(output if isinstance(output, str) else output["text"])
                if event["type"] == "error":
                    raise ProbeFailed(event["message"])
                if event["type"] == "call_ended":
                    return " ".join(texts)
        finally:
            writer.close()
    raise ProbeFailed("GET /v1/calls: expected the end of the call, got the end of the feed")


def probes_of(name: str, target: ProbeTarget) -> Mapping[str, Probe]:
    """Return what can be tried of a protocol. Calls need a port, because Twilio signs its requests."""
    return {} if name == "calls" and name not in target.ports else PROBES.get(name, {})


PROBES: dict[str, dict[str, Probe]] = {
    "openai": {"file": openai_file, "Realtime": openai_realtime},
    "deepgram": {"file": deepgram_file, "live": deepgram_live},
    "vosk": {"live": vosk_live},
    "wyoming": {"live": wyoming_live},
    "assemblyai": {"live": assemblyai_live},
    "speechmatics": {"live": speechmatics_live},
    "calls": {"AudioSocket": audiosocket_call},
}
"""Clients by the name of their dialect, and what each tries."""
