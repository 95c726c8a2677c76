"""What a codec that belongs to one connection may do: greet, reply, send several frames, remember, keep its frames."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from streamer.audio.format import AudioFormat, Encoding
from streamer.connection.connection import Connection
from streamer.connection.outbox import OutboxBounds
from streamer.protocols.codec import Reply
from streamer.session.events import Event, Finished, Mode, Segment, Started
from streamer.session.messages import Audio, Flush, Message, Start, Stop
from streamer.session.session import Session
from streamer.telemetry.observer import SessionInfo
from streamer.testing import MemoryClient, memory_pair
from tests.connection.in_memory_server import SECOND, InMemoryServer, send_all, turns

FORMAT = AudioFormat(Encoding.PCM_S16LE, 16_000, 1)


class Scripted:
    """A codec that counts, greets and starts by itself; each event is its name, twice for a result."""

    name = "scripted"
    joins_audio = False
    ends_with_connection = False

    def __init__(self, *, keeps: bool = True) -> None:
        self.count = 0
        self.keeps = keeps

    def begin(self) -> Sequence[Message | Reply[str | bytes]]:
        return [Reply("hello"), Start(FORMAT, chunk_ms=500)]

    def decode(self, frame: str | bytes) -> Message | list[Message | Reply[str | bytes]]:
        self.count += 1
        if isinstance(frame, bytes):
            return Audio(frame)
        if frame == "end":
            return [Reply(f"{self.count} frames"), Flush(), Reply("flushing"), Stop()]
        return [Reply(frame.upper())]

    def encode(self, event: Event) -> str | list[Reply[str | bytes]] | None:
        match event:
            case Started():
                return "started"
            case Segment():
                return [Reply("segment", not self.keeps), Reply(str(event.start), not self.keeps)]
            case Finished():
                return [Reply("finished")]
            case _:
                return None


def connect(stage: InMemoryServer, codec: Scripted) -> MemoryClient[str | bytes]:
    client, server = memory_pair(bound=stage.pipe)
    run = stage.manager.run(server, codec, stage.settings, measure=len)
    stage.runs.append(asyncio.create_task(run))  # type: ignore[arg-type]
    return client


async def said(client: MemoryClient[str | bytes]) -> list[str]:
    heard = []
    while (frame := await client.receive()) is not None:
        heard.append(str(frame))
    return heard


async def test_a_codec_greets_starts_replies_and_sends_several_frames_in_its_order() -> None:
    stage = InMemoryServer()
    client = connect(stage, Scripted())
    await send_all(client, ["early", SECOND, "end"])
    heard = await said(client)
    assert heard[:3] == ["hello", "started", "EARLY"]
    assert heard.index("3 frames") < heard.index("flushing")
    assert heard[-1] == "finished"
    assert [heard[at + 1] for at, word in enumerate(heard) if word == "segment"] == ["0", "8000"]
    await stage.over()


async def test_each_connection_has_a_codec_that_remembers() -> None:
    stage = InMemoryServer()
    first, second = connect(stage, Scripted()), connect(stage, Scripted())
    await send_all(first, ["a", "b", "end"])
    await send_all(second, ["end"])
    assert "3 frames" in await said(first)
    assert "1 frames" in await said(second)
    await stage.over()


async def test_frames_that_a_codec_keeps_are_not_dropped_for_a_slow_reader() -> None:
    for keeps in (True, False):
        stage = InMemoryServer(pipe=4, bounds=OutboxBounds(max_bytes=40))
        client = connect(stage, Scripted(keeps=keeps))
        with stage.held():
            for _ in range(8):
                await client.send(SECOND)
                await turns()
        await turns(200)
        assert bool(stage.notes.frames_dropped) is not keeps
        client.close()
        await stage.over()


async def test_a_codec_that_answers_each_message_gets_each_message() -> None:
    stage = InMemoryServer()
    client, server = memory_pair()
    services = stage.manager.services
    info = SessionInfo("s", "memory", "scripted", Mode.SIMPLE, "peer")
    session = Session(stage.settings, "s", 0.0)
    connection = Connection(session, server, Scripted(), services, info, bounds=OutboxBounds(), measure=len)
    assert connection.coalesce_bytes == 0
    client.close()
