"""A worker's part of a trace: one span around each call of the model, which may have children."""

from __future__ import annotations

import os
import traceback
from contextlib import AbstractContextManager, nullcontext
from contextvars import Token
from time import monotonic
from types import TracebackType

from opentelemetry import context, trace
from opentelemetry.sdk.trace import Event
from opentelemetry.trace import NonRecordingSpan, Status, StatusCode

from streamer.inference.observer import WorkerObserver
from streamer.telemetry.otel import provider
from streamer.telemetry.spans import Attributes, Spans, StartedSpan, parse_traceparent


class TracedWorker(WorkerObserver):
    """Traces calls in the worker, configured by the OTEL_* variables of its own environment."""

    def __init__(self) -> None:
        self._provider, self._queue = provider(os.environ)
        self._spans = Spans(self._provider, self._queue.put)
        self._reported = 0

    def trace_call(self, trace: str | None, items: int) -> AbstractContextManager[object]:
        return nullcontext() if trace is None else _CallSpan(self._spans, trace, items)

    def dropped_since_last(self) -> int:
        dropped, self._reported = self._queue.dropped - self._reported, self._queue.dropped
        return dropped

    def stop(self) -> None:
        self._provider.shutdown()


class _CallSpan:
    """A call of the model, whose span is OpenTelemetry's current span meanwhile."""

    __slots__ = ("_before", "_span", "_spans")

    def __init__(self, spans: Spans, traceparent: str, items: int) -> None:
        attributes: Attributes = {"streamer.batch.size": items, "process.pid": os.getpid()}
        self._spans = spans
        self._span: StartedSpan = spans.start_child(parse_traceparent(traceparent), "model", monotonic(), attributes)

    def __enter__(self) -> None:
        self._before: Token[context.Context] = context.attach(
            trace.set_span_in_context(NonRecordingSpan(self._span.context))
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        context.detach(self._before)
        if isinstance(error, Exception):
            status = Status(StatusCode.ERROR, f"{type(error).__name__}: {error}")
            self._spans.end(self._span, monotonic(), status=status, events=[_event(error)])
        else:
            self._spans.end(self._span, monotonic())


def _event(error: Exception) -> Event:
    """Return an exception as an event of the semantic conventions."""
    fields = {
        "exception.type": type(error).__qualname__,
        "exception.message": str(error),
        "exception.stacktrace": "".join(traceback.format_exception(error)),
    }
    return Event("exception", fields)
