"""Spans of a session: handshake, session, each segment and what became of it, each batch of the model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Tracer, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import streamer
from streamer.errors import ErrorCode
from streamer.inference.observer import Ended
from streamer.session.messages import Start
from streamer.session.summary import Summary
from streamer.telemetry.chronicle import Passage, Reader
from streamer.telemetry.context import Ids
from streamer.telemetry.observer import SessionInfo

LONG_S = 300.0
"""In a session older than this, segments are roots of their own: a span that never ends is never seen."""

SCOPE = "streamer"
Attributes = Mapping[str, str | int | float | bool]
NONE: Attributes = MappingProxyType({})
UNSET = Status(StatusCode.UNSET)


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


class Tracing:
    """Makes spans. Times come in as monotonic seconds.

    Roots are the provider's, with its sampler. What is below one is sampled as it is, and made without the tracer: that
    takes 50 us a span for limits, locks and a decision which is made already.
    """

    def __init__(self, provider: TracerProvider, model: str) -> None:
        tracer = provider.get_tracer(SCOPE, streamer.__version__)
        assert isinstance(tracer, Tracer)
        self._provider = provider
        self._tracer = tracer
        self._scope = InstrumentationScope(SCOPE, streamer.__version__)
        self._model = model
        self._epoch_ns = time.time_ns() - time.monotonic_ns()
        self._batches: dict[int, Begun] = {}
        self.segments: dict[Passage, Begun] = {}
        self.calls: dict[Passage, SpanContext] = {}
        """The batch in which each of them went to the model last."""

    def close(self) -> None:
        """Send what waits, within a bound. May block for that long."""
        self._provider.shutdown()

    def reader(self, info: SessionInfo, ids: Ids, now: float) -> Reader:
        """Traces one session."""
        return _SessionTracing(self, info, ids, now, self._model)

    def leave(self, passage: Passage) -> tuple[Begun | None, SpanContext | None]:
        """A segment is over: its span, and its last call of the model."""
        return self.segments.pop(passage, None), self.calls.pop(passage, None)

    def trace_of(self, passage: Passage) -> str | None:
        """The trace id of a segment, where it is sampled."""
        span = self.segments.get(passage)
        return f"{span.context.trace_id:032x}" if span is not None and span.sampled else None

    def batch_started(self, worker: int, passages: Sequence[Passage], now: float) -> str | None:
        """The model is called for these segments. Returns the traceparent of the call, where any of them is sampled.

        One trace has to be the batch's own: that of its first segment. It links to all.
        """
        spans = [span for passage in passages if (span := self.segments.get(passage)) and span.sampled]
        if not spans:
            return None
        attributes: Attributes = {
            "streamer.batch.size": len(passages),
            "streamer.worker": worker,
            "streamer.model": self._model,
        }
        links = [Link(span.context) for span in spans]
        batch = self._batches[worker] = self.below(spans[0].context, "batch", now, attributes, links)
        for passage in passages:
            if passage in self.segments:
                self.calls[passage] = batch.context
        return traceparent(batch.context)

    def batch_finished(self, worker: int, ended: Ended, now: float) -> None:
        if (batch := self._batches.pop(worker, None)) is not None:
            status = UNSET if ended is Ended.ANSWERED else Status(StatusCode.ERROR, ended)
            self.over(batch, now, {"streamer.outcome": ended}, status)

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

    def over(self, span: Begun, ended: float, attributes: Attributes = NONE, status: Status | None = None) -> None:
        """It ended then, with what is known of it now."""
        if not span.sampled:
            return
        told = ReadableSpan(
            span.name,
            span.context,
            span.parent,
            self._provider.resource,
            {**span.attributes, **attributes},
            links=span.links,
            status=status or UNSET,
            start_time=self.ns(span.at),
            end_time=self.ns(max(span.at, ended)),
            instrumentation_scope=self._scope,
        )
        self._tracer.span_processor.on_end(told)

    def told(
        self,
        parent: SpanContext,
        name: str,
        began: float | None,
        ended: float | None,
        attributes: Attributes = NONE,
        links: Sequence[Link] = (),
    ) -> None:
        """A span that is over already; nothing where a time is not known."""
        if began is not None and ended is not None:
            self.over(self.below(parent, name, began, attributes, links), ended)

    def ns(self, monotonic_s: float) -> int:
        """Nanoseconds since the epoch."""
        return self._epoch_ns + int(monotonic_s * 1e9)


class _SessionTracing(Reader):
    """Traces one session. Its span begins with the connection and is made once the client's context is known."""

    def __init__(self, tracing: Tracing, info: SessionInfo, ids: Ids, now: float, model: str) -> None:
        self._tracing = tracing
        self._info = info
        self._ids = ids
        self._born = now
        self._span: Span | None = None
        self._attributes: Attributes = {
            "streamer.session.id": info.id,
            "streamer.transport": info.transport,
            "streamer.dialect": info.dialect,
            "streamer.mode": info.mode,
            "streamer.model": model,
        }

    def starting(self, start: Start, now: float) -> str | None:
        said = remote(start.traceparent, start.tracestate)
        if self._span is None:
            self._attributes = {**self._attributes, "streamer.mode": start.mode or self._info.mode}
            self._begin(said)
        elif said is not None:
            self._span.add_link(said)
        assert self._span is not None
        return traceparent(self._span.get_span_context())

    def opened(self, passage: Passage) -> None:
        tracing, above = self._tracing, self._session().get_span_context()
        attributes: Attributes = {
            "streamer.session.id": self._info.id,
            "streamer.channel": passage.channel,
            "streamer.segment.id": passage.segment_id,
            "streamer.segment.start_s": passage.start / passage.rate,
        }
        if passage.began - self._born <= LONG_S:
            tracing.segments[passage] = tracing.below(above, "segment", passage.began, attributes)
            return
        links = [Link(above)]
        root = tracing.root("segment", passage.began, None, attributes, links).get_span_context()
        tracing.segments[passage] = Begun("segment", root, None, passage.began, attributes, links)

    def done(self, passage: Passage) -> None:
        span, call = self._tracing.leave(passage)
        if span is None or not span.sampled:
            return
        self._tell(span.context, passage, call)
        attributes: Attributes = {
            "streamer.segment.end_s": passage.end / passage.rate,
            "streamer.interims": passage.interims,
            "streamer.outcome": passage.code or "answered",
        }
        status = UNSET if passage.code is None else Status(StatusCode.ERROR, passage.code)
        self._tracing.over(span, passage.written or passage.began, attributes, status)

    def lost(self, passage: Passage, now: float) -> None:
        span, _ = self._tracing.leave(passage)
        if span is not None:
            self._tracing.over(span, now, {"streamer.outcome": "lost"})

    def closed(self, summary: Summary, code: ErrorCode | None, *, gone: bool, now: float) -> None:
        span = self._session()
        span.set_attributes(
            {
                "streamer.outcome": code or ("gone" if gone else "stopped"),
                "streamer.audio_s": summary.received_s,
                "streamer.segments": summary.segments,
                "streamer.failed": summary.failed,
            }
        )
        if code is not None:
            span.set_status(Status(StatusCode.ERROR, code))
        span.end(self._tracing.ns(now))

    def _session(self) -> Span:
        """The session's span, also where no start ever came."""
        if self._span is None:
            self._begin(None)
        assert self._span is not None
        return self._span

    def _begin(self, said: SpanContext | None) -> None:
        """`said`: the start's own word on the trace; it comes before that of the headers, which is then linked."""
        handshake, tracing = self._info.handshake, self._tracing
        came = remote(handshake.traceparent, handshake.tracestate)
        links = [Link(came)] if said is not None and came is not None and said.trace_id != came.trace_id else []
        began = self._born if handshake.began is None else handshake.began
        span = self._span = tracing.root("session", began, said or came, self._attributes, links, SpanKind.SERVER)
        context = span.get_span_context()
        self._ids.trace_id, self._ids.span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
        tracing.told(context, "handshake", began, self._born)

    def _tell(self, segment: SpanContext, passage: Passage, call: SpanContext | None) -> None:
        """What became of a segment, as children of its span."""
        told = self._tracing.told
        told(segment, "decode", passage.began, passage.heard, {"streamer.busy_s": passage.busy_s})
        if passage.speech:
            told(segment, "vad", passage.heard, passage.ended)
        told(segment, "queue", passage.asked, passage.started)
        links = [Link(call)] if call is not None else ()
        told(segment, "inference", passage.started, passage.finished, NONE, links)
        told(segment, "emit", passage.answered, passage.written)
