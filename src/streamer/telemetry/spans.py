"""How spans are made: roots by the SDK's tracer, what is below them by hand, on the thread that sends them."""

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
"""Takes so many spans that are over, and what makes them on another thread; `otel.SpanQueue.put`."""


def remote(traceparent: str | None, tracestate: str | None = None) -> SpanContext | None:
    """The context that a client sent, by W3C Trace Context; None for none and for garbage."""
    if not traceparent:
        return None
    carrier = {"traceparent": traceparent, **({"tracestate": tracestate} if tracestate else {})}
    try:
        context = TraceContextTextMapPropagator().extract(carrier)
    except ValueError:  # a tracestate that its parser does not foresee
        context = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    found = trace.get_current_span(context).get_span_context()
    return found if found.is_valid else None


def traceparent(context: SpanContext) -> str:
    """The header that says this context."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & TraceFlags.SAMPLED:02x}"


def parsed(traceparent: str) -> SpanContext:
    """The context that `traceparent`, of our own making, says."""
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


@dataclass(frozen=True, slots=True)
class Begun:
    """A span whose place in the tree is known and that is told of once it is over."""

    name: str
    context: SpanContext
    parent: SpanContext | None
    at: float
    attributes: Attributes
    links: Sequence[Link]

    @property
    def sampled(self) -> bool:
        return self.context.trace_flags.sampled


class Part(NamedTuple):
    """A span that is over, directly below another, with nothing below itself."""

    name: str
    began: float
    ended: float
    attributes: Attributes
    links: Sequence[Link]


class Spans:
    """Makes spans. Times come in as monotonic seconds.

    Roots are the provider's, with its sampler. What is below one is sampled as it is, and made without the tracer: that
    takes 50 us a span for limits, locks and a decision which is made already.
    """

    def __init__(self, provider: TracerProvider, send: Send) -> None:
        tracer = provider.get_tracer(SCOPE, streamer.__version__)
        assert isinstance(tracer, Tracer)
        self._resource = provider.resource
        self._tracer = tracer
        self._scope = InstrumentationScope(SCOPE, streamer.__version__)
        self._send = send
        self._epoch_ns = time.time_ns() - time.monotonic_ns()

    def root(
        self,
        name: str,
        at: float,
        parent: SpanContext | None,
        attributes: Attributes,
        links: Sequence[Link] = (),
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Span:
        """The first span of ours in a trace; `parent` is the client's. The sampler decides."""
        context = trace.set_span_in_context(trace.NonRecordingSpan(parent or trace.INVALID_SPAN_CONTEXT))
        return self._tracer.start_span(name, context, kind, dict(attributes), links, self.ns(at))

    def below(
        self, parent: SpanContext, name: str, at: float, attributes: Attributes = NONE, links: Sequence[Link] = ()
    ) -> Begun:
        """A span in the trace of `parent`."""
        span_id = self._tracer.id_generator.generate_span_id()
        context = SpanContext(parent.trace_id, span_id, False, parent.trace_flags, parent.trace_state)
        return Begun(name, context, parent, at, attributes, links)

    def over(
        self,
        span: Begun,
        ended: float,
        attributes: Attributes = NONE,
        status: Status = UNSET,
        *,
        parts: Sequence[Part] = (),
        events: Sequence[Event] = (),
    ) -> None:
        """It ended then, with what is known of it now: all that is below it where nobody had to know its id before."""
        if span.sampled:
            self._send(1 + len(parts), partial(self._made, span, ended, attributes, status, parts, events))

    def ns(self, monotonic_s: float) -> int:
        """Nanoseconds since the epoch."""
        return self._epoch_ns + int(monotonic_s * 1e9)

    def _made(
        self,
        span: Begun,
        ended: float,
        attributes: Attributes,
        status: Status,
        parts: Sequence[Part],
        events: Sequence[Event],
    ) -> Iterable[ReadableSpan]:
        """The span, then its parts. On the thread that sends them, which has time, and makes many in a row."""
        yield self._readable(span, ended, {**span.attributes, **attributes}, status, events)
        for name, began, over, of_part, links in parts:
            yield self._readable(self.below(span.context, name, began, of_part, links), over, of_part, UNSET, ())

    def _readable(
        self, span: Begun, ended: float, attributes: Attributes, status: Status, events: Sequence[Event]
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
            end_time=self.ns(max(span.at, ended)),
            instrumentation_scope=self._scope,
        )
