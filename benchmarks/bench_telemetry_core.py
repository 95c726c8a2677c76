"""What telemetry adds to a stream-second, alone: sessions in memory, a clock moved by hand, no socket, no network."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections.abc import Callable

import numpy as np
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from streamer.connection.manager import ConnectionManager
from streamer.connection.outbox import OutboxBounds
from streamer.connection.services import Services
from streamer.inference.observer import CallOutcome
from streamer.protocols.v2 import V2Codec
from streamer.session.events import Mode
from streamer.session.settings import SessionSettings
from streamer.telemetry.observer import Observer
from streamer.telemetry.otel import SpanQueue
from streamer.telemetry.telemetry import Telemetry
from streamer.telemetry.tracing import Tracing
from streamer.testing import ManualClock, ScriptedEngine, ScriptedScoring, memory_pair

STREAMS = 20
SECONDS = 20
CHUNK_MS = 20
ROUNDS = 15
START = {"type": "start", "format": {"encoding": "pcm_s16le", "sample_rate": 16_000, "channels": 1}}


def audio() -> list[bytes]:
    """Half a second of speech each second and a half, in messages."""
    rng = np.random.default_rng(0)
    second = np.arange(SECONDS * 16_000) / 16_000 % 1.5 < 0.5
    samples = (rng.normal(0, 4_000, len(second)) * second).astype("<i2").tobytes()
    size = 32 * CHUNK_MS
    return [samples[at : at + size] for at in range(0, len(samples), size)]


class Telling(ScriptedEngine):
    """Tells of batches, as the real engine does."""

    telemetry: Telemetry | None = None

    def submit(self, job, deliver) -> None:  # type: ignore[no-untyped-def]
        if self.telemetry is not None:
            self.telemetry.batch_started(0, [job], [0.0])
            self.telemetry.batch_finished(0, [job], 0.01, CallOutcome.ANSWERED)
        super().submit(job, deliver)


async def run(observe: Callable[[ManualClock], Observer], messages: list[bytes]) -> float:
    """Processor microseconds per stream-second."""
    clock = ManualClock()
    observer, engine = observe(clock), Telling()
    engine.telemetry = observer if isinstance(observer, Telemetry) else None
    manager = ConnectionManager(Services(ScriptedScoring(), engine, observer, clock), OutboxBounds())
    settings = SessionSettings(Mode.SEGMENTED)
    clients, runs = [], []
    for _ in range(STREAMS):
        client, server = memory_pair(bound=4)
        clients.append(client)
        codec = V2Codec(Mode.SEGMENTED, 16_000)
        runs.append(asyncio.create_task(manager.run(server, codec, settings, measure=len)))

    async def hear(client) -> None:  # type: ignore[no-untyped-def]
        while await client.receive() is not None:
            pass

    listening = [asyncio.create_task(hear(client)) for client in clients]
    for client in clients:
        await client.send(json.dumps(START))
    gc.collect()
    began = time.process_time()
    for message in messages:
        clock.advance(CHUNK_MS / 1_000)
        for client in clients:
            await client.send(message)
    for client in clients:
        await client.send('{"type":"stop"}')
    await asyncio.gather(*runs, *listening)
    return (time.process_time() - began) / (STREAMS * SECONDS) * 1e6


def traced(clock: ManualClock) -> Telemetry:
    """Every segment, with an exporter that throws spans away once they are encoded."""

    class Encoding(SpanExporter):
        def export(self, spans):  # type: ignore[no-untyped-def]
            encode_spans(spans).SerializeToString()
            return SpanExportResult.SUCCESS

    made = TracerProvider(shutdown_on_exit=False)
    queue = SpanQueue(Encoding(), max_spans=100_000)
    made.add_span_processor(queue)
    telemetry = Telemetry("stub", {}, clock.now)
    telemetry._tracing = Tracing(made, queue.put, "stub")
    return telemetry


def main() -> None:
    os.environ.pop("OTEL_EXPORTER_OTLP_ENDPOINT", None)
    messages = audio()
    variants: dict[str, Callable[[ManualClock], Observer]] = {
        "nothing": lambda _: Observer(),
        "metrics": lambda clock: Telemetry("stub", {}, clock.now),
        "and traces": traced,
    }
    figures: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, observe in variants.items():
            figures[name].append(asyncio.run(run(observe, messages)))
    base = min(figures["nothing"])
    for name, values in figures.items():
        print(f"{name:<12}{min(values):8.1f} us a stream-second (least of {ROUNDS} runs), +{min(values) - base:6.1f}")


if __name__ == "__main__":
    main()
