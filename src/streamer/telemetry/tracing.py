"""The spans of a server: handshake, session, each segment and its phases, each batch of the model."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode

from streamer.errors import ErrorCode
from streamer.inference.observer import Ended
from streamer.session.messages import Start
from streamer.session.summary import Summary
from streamer.telemetry.chronicle import Passage, Reader
from streamer.telemetry.logs import Ids
from streamer.telemetry.observer import SessionInfo
from streamer.telemetry.spans import NONE, UNSET, Attributes, Begun, Part, Send, Spans, remote, traceparent

LONG_S = 300.0
"""Age of a session in seconds above which segments are separate traces, because an open span is not visible."""


class Tracing:
    """Traces sessions and batches. Times are monotonic seconds."""

    def __init__(self, provider: TracerProvider, send: Send, model: str) -> None:
        self._provider = provider
        self.spans = Spans(provider, send)
        self._model = model
        self._batches: dict[tuple[str, int], Begun] = {}
        self.segments: dict[Passage, Begun] = {}
        self.calls: dict[Passage, SpanContext] = {}
        """Last batch of each segment."""

    def close(self) -> None:
        """Send queued spans within a time-out, for which it may block."""
        self._provider.shutdown()

    def reader(self, info: SessionInfo, ids: Ids, now: float) -> Reader:
        """Return the tracer of one session."""
        return _SessionTracing(self, info, ids, now, info.model or self._model)

    def leave(self, passage: Passage) -> tuple[Begun | None, SpanContext | None]:
        """Remove a segment that has ended; return its span and its last model call."""
        return self.segments.pop(passage, None), self.calls.pop(passage, None)

    def trace_of(self, passage: Passage) -> str | None:
        """Return the trace id of a segment, if it is sampled."""
        span = self.segments.get(passage)
        return f"{span.context.trace_id:032x}" if span is not None and span.sampled else None

    def batch_started(self, worker: int, passages: Sequence[Passage], now: float, model: str = "") -> str | None:
        """Start the span of a batch; return its traceparent, if any of the segments is sampled.

        A batch belongs to one trace: that of its first segment. It links to all. `model`: name of one of several.
        """
        spans = [span for passage in passages if (span := self.segments.get(passage)) and span.sampled]
        if not spans:
            return None
        attributes: Attributes = {
            "streamer.batch.size": len(passages),
            "streamer.worker": worker,
            "streamer.model": model or self._model,
        }
        links = [Link(span.context) for span in spans]
        batch = self._batches[model, worker] = self.spans.below(spans[0].context, "batch", now, attributes, links)
        for passage in passages:
            if passage in self.segments:
                self.calls[passage] = batch.context
        return traceparent(batch.context)

    def batch_finished(self, worker: int, ended: Ended, now: float, model: str = "") -> None:
        if (batch := self._batches.pop((model, worker), None)) is not None:
            status = UNSET if ended is Ended.ANSWERED else Status(StatusCode.ERROR, ended)
            self.spans.over(batch, now, {"streamer.outcome": ended}, status)


class _SessionTracing(Reader):
    """Traces one session. Its span starts with the connection and is created when the client's context is known."""

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
            tracing.segments[passage] = tracing.spans.below(above, "segment", passage.began, attributes)
            return
        links = [Link(above)]
        root = tracing.spans.root("segment", passage.began, None, attributes, links).get_span_context()
        tracing.segments[passage] = Begun("segment", root, None, passage.began, attributes, links)

    def done(self, passage: Passage) -> None:
        span, call = self._tracing.leave(passage)
        if span is None or not span.sampled:
            return
        attributes: Attributes = {
            "streamer.segment.end_s": passage.end / passage.rate,
            "streamer.interims": passage.interims,
            "streamer.outcome": passage.code or "answered",
        }
        status = UNSET if passage.code is None else Status(StatusCode.ERROR, passage.code)
        ended = passage.written or passage.began
        self._tracing.spans.over(span, ended, attributes, status, parts=_parts(passage, call))

    def lost(self, passage: Passage, now: float) -> None:
        span, _ = self._tracing.leave(passage)
        if span is not None:
            self._tracing.spans.over(span, now, {"streamer.outcome": "lost"})

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
        span.end(self._tracing.spans.ns(now))

    def _session(self) -> Span:
        """Return the session's span, also without a start message."""
        if self._span is None:
            self._begin(None)
        assert self._span is not None
        return self._span

    def _begin(self, said: SpanContext | None) -> None:
        """Start the session's span.

        `said`: context of the start message; it precedes that of the headers, which is linked.
        """
        handshake, spans = self._info.handshake, self._tracing.spans
        came = remote(handshake.traceparent, handshake.tracestate)
        links = [Link(came)] if said is not None and came is not None and said.trace_id != came.trace_id else []
        began = self._born if handshake.began is None else handshake.began
        span = self._span = spans.root("session", began, said or came, self._attributes, links, SpanKind.SERVER)
        context = span.get_span_context()
        self._ids.trace_id, self._ids.span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
        spans.over(spans.below(context, "handshake", began), self._born)


def _parts(passage: Passage, call: SpanContext | None) -> list[Part]:
    """Return the phases of a segment whose times are known."""
    links = [Link(call)] if call is not None else []
    told: tuple[tuple[str, float | None, float | None, Attributes, list[Link]], ...] = (
        ("decode", passage.began, passage.heard, {"streamer.busy_s": passage.busy_s}, []),
        ("vad", passage.heard if passage.speech else None, passage.ended, NONE, []),
        ("queue", passage.asked, passage.started, NONE, []),
        ("inference", passage.started, passage.finished, NONE, links),
        ("emit", passage.answered, passage.written, NONE, []),
    )
    return [
        Part(name, began, ended, attributes, links)
        for name, began, ended, attributes, links in told
        if began is not None and ended is not None
    ]
