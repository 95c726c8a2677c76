"""A dialect's codec in front of a real session in memory: scripted scorer and recogniser, a clock that stands still."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from streamer.inference.contract import InferenceEngine
from streamer.parts import AppParts, ServedModel
from streamer.protocols.codec import Codec
from streamer.session.actions import Job, JobKind, Outcome, Output
from streamer.session.events import Mode
from streamer.testing import MemoryClient, ScriptedEngine, ScriptedScoring, memory_pair, s16le, silence, tone
from tests.connection.in_memory_server import InMemoryServer, turns

TONE, GAP = s16le(tone(440, 1.0)), s16le(silence(1.5))
"""A second that the scripted scorer takes for speech, and a silence that ends it."""


def recognise(job: Job) -> Outcome:
    """Return two words whose number is that of the segment."""
    text = f"Number {job.segment_id}." if job.kind is JobKind.FINAL else f"Number {job.segment_id}"
    return Output.of({"text": text, "confidence": 0.9})


def transcribing(answer: Callable[[Job], Outcome] = recognise, **model: Any) -> AppParts:
    """Parts of a server whose model returns transcripts."""
    served = ServedModel("scripted", 16_000, False, 4, word_times="estimated", **model)
    return AppParts(ScriptedEngine(answer), ScriptedScoring(), served)


class DialectStage(InMemoryServer):
    """A connection manager of dialects in segmented mode."""

    def __init__(self, answer: Callable[[Job], Outcome] = recognise, **options: Any) -> None:
        engine = ScriptedEngine(answer)
        super().__init__(Mode.SEGMENTED, engine=engine, **options)
        self.scripted = engine
        self.engine: InferenceEngine = engine

    def dial(self, codec: Codec[str | bytes]) -> MemoryClient[str | bytes]:
        """Connect a client whose frames this codec decodes."""
        client, server = memory_pair(bound=self.pipe)
        run = self.manager.run(server, codec, self.settings, measure=len)
        self.runs.append(asyncio.create_task(run))  # type: ignore[arg-type]
        return client


@asynccontextmanager
async def dialling(
    codec: Codec[str | bytes], answer: Callable[[Job], Outcome] = recognise, **options: Any
) -> AsyncIterator[tuple[DialectStage, MemoryClient[str | bytes]]]:
    """A stage with one client, which is gone at the end, with nothing left of it."""
    stage = DialectStage(answer, **options)
    client = stage.dial(codec)
    try:
        yield stage, client
    finally:
        client.close()
        await stage.over()


async def converse(
    codec: Codec[str | bytes],
    frames: Sequence[str | bytes],
    answer: Callable[[Job], Outcome] = recognise,
    **options: Any,
) -> list[dict[str, Any]]:
    """Send frames one by one, each when everything before it is done; return all that is heard until the close."""
    heard: list[dict[str, Any]] = []
    async with dialling(codec, answer, **options) as (_, client):
        listener = asyncio.create_task(_hear(client, heard))
        for frame in frames:
            await client.send(frame)
            await turns()
        await listener
    return heard


async def _hear(client: MemoryClient[str | bytes], heard: list[dict[str, Any]]) -> None:
    while (frame := await client.receive()) is not None:
        heard.append(json.loads(frame))
