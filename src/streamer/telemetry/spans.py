"""Creation of spans: roots by the SDK's tracer, their children directly, on the exporting thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from opentelemetry import trace
from opentelemetry.sdk.trace import Event, ReadableSpan, Tracer, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import streamer

SCOPE = "streamer"
Attributes = Mapping[str, str | int | float | bool]
NONE: Attributes = MappingProxyType({})
UNSET = Status(StatusCode.UNSET)

Send = Callable[[int, Callable[[], Iterable[ReadableSpan]]], None]
"""Takes a number of finished spans, and a function that builds them on another thread; `otel.SpanQueue.put`."""


def remote_context(traceparent: str | None, tracestate: str | None = None) -> SpanContext | None:
    """Return the trace context of a client (W3C Trace Context); None without a valid one."""
    if not traceparent:
        return None
    carrier = {"traceparent": traceparent, **({"tracestate": tracestate} if tracestate else {})}
    try:
        context = TraceContextTextMapPropagator().extract(carrier)
    except ValueError:  # a tracestate that the parser does not handle
        context = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    found = trace.get_current_span(context).get_span_context()
    return found if found.is_valid else None


def traceparent(context: SpanContext) -> str:
    """Return the header of this context."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & TraceFlags.SAMPLED:02x}"


def parse_traceparent(traceparent: str) -> SpanContext:
    """Return the context of a `traceparent` of our own."""
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


@dataclass(frozen=True, slots=True)
class StartedSpan:
    """A started span with its place in the tree; its other data follow at its end."""

    name: str
    context: SpanContext
    parent: SpanContext | None
    at: float
    attributes: Attributes
    links: Sequence[Link]

    @property
    def is_sampled(self) -> bool:
        return self.context.trace_flags.sampled


class ChildSpan(NamedTuple):
    """A finished child span without children of its own."""

    name: str
    started_at: float
    ended_at: float
    attributes: Attributes
    links: Sequence[Link]


class Spans:
    """Creates spans. Times are monotonic seconds.

    Roots are created by the provider, with its sampler. Children have the decision of their root, and are created
    without the tracer, which would take 50 us per span for limits, locks and the decision.
    """

    def __init__(self, provider: TracerProvider, send: Send) -> None:
        tracer = provider.get_tracer(SCOPE, streamer.__version__)
        assert isinstance(tracer, Tracer)
        self._resource = provider.resource
        self._tracer = tracer
        self._scope = InstrumentationScope(SCOPE, streamer.__version__)
        self._send = send
        self._epoch_ns = time.time_ns() - time.monotonic_ns()

    def start_root(
        self,
        name: str,
        at: float,
        parent: SpanContext | None,
        attributes: Attributes,
        links: Sequence[Link] = (),
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Span:
        """Start the root span of this process in a trace; `parent` is the client's. The sampler decides."""
        context = trace.set_span_in_context(trace.NonRecordingSpan(parent or trace.INVALID_SPAN_CONTEXT))
        return self._tracer.start_span(name, context, kind, dict(attributes), links, self.ns(at))

    def start_child(
        self, parent: SpanContext, name: str, at: float, attributes: Attributes = NONE, links: Sequence[Link] = ()
    ) -> StartedSpan:
        """Start a span in the trace of `parent`."""
        span_id = self._tracer.id_generator.generate_span_id()
        context = SpanContext(parent.trace_id, span_id, False, parent.trace_flags, parent.trace_state)
        return StartedSpan(name, context, parent, at, attributes, links)

    def end(
        self,
        span: StartedSpan,
        ended_at: float,
        attributes: Attributes = NONE,
        status: Status = UNSET,
        *,
        parts: Sequence[ChildSpan] = (),
        events: Sequence[Event] = (),
    ) -> None:
        """End a span, with its attributes and the child spans that were not started before."""
        if span.is_sampled:
            self._send(1 + len(parts), partial(self._made, span, ended_at, attributes, status, parts, events))

    def ns(self, monotonic_s: float) -> int:
        """Return nanoseconds since the epoch."""
        return self._epoch_ns + int(monotonic_s * 1e9)

    def _made(
        self,
        span: StartedSpan,
        ended_at: float,
        attributes: Attributes,
        status: Status,
        parts: Sequence[ChildSpan],
        events: Sequence[Event],
    ) -> Iterable[ReadableSpan]:
        """Yield the span, then its children, on the exporting thread."""
        yield self._readable(span, ended_at, {**span.attributes, **attributes}, status, events)
        for name, started_at, over, of_part, links in parts:
            yield self._readable(
                self.start_child(span.context, name, started_at, of_part, links), over, of_part, UNSET, ()
            )

    def _readable(
        self, span: StartedSpan, ended_at: float, attributes: Attributes, status: Status, events: Sequence[Event]
    ) -> ReadableSpan:
        return ReadableSpan(
            span.name,
            span.context,
            span.parent,
            self._resource,
            attributes,
            events,
            span.links,
            status=status,
            start_time=self.ns(span.at),
            end_time=self.ns(max(span.at, ended_at)),
            instrumentation_scope=self._scope,
        )
