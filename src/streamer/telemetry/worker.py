"""A worker's part of a trace: one span around each call of the model, under which the model may make its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opentelemetry import trace

from streamer.inference.observer import WorkerObserver
from streamer.telemetry.otel import provider
from streamer.telemetry.tracing import SCOPE, remote


class TracedWorker(WorkerObserver):
    """Made in the worker, from the OTEL_* variables of its own environment."""

    def __init__(self) -> None:
        self._provider, self._queue = provider(os.environ)
        self._tracer = self._provider.get_tracer(SCOPE)
        self._told = 0

    def calling(self, trace: str | None, items: int) -> AbstractContextManager[object]:
        return nullcontext() if trace is None else self._span(trace, items)

    def take_lost(self) -> int:
        lost, self._told = self._queue.dropped - self._told, self._queue.dropped
        return lost

    def stop(self) -> None:
        self._provider.shutdown()

    @contextmanager
    def _span(self, traceparent: str, items: int) -> Iterator[None]:
        parent = remote(traceparent)
        context = trace.set_span_in_context(trace.NonRecordingSpan(parent or trace.INVALID_SPAN_CONTEXT))
        attributes = {"streamer.batch.size": items, "process.pid": os.getpid()}
        with self._tracer.start_as_current_span("model", context, attributes=attributes):
            yield
