"""The spans of a server: handshake, session, each segment and its phases, each batch of the model."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode

from streamer.errors import ErrorCode
from streamer.inference.observer import CallOutcome
from streamer.session.messages import Start
from streamer.session.summary import Summary
from streamer.telemetry.logs import Ids
from streamer.telemetry.observer import SessionInfo
from streamer.telemetry.session_recorder import SegmentTimeline, SessionSink
from streamer.telemetry.spans import (
    NONE,
    UNSET,
    Attributes,
    ChildSpan,
    Send,
    Spans,
    StartedSpan,
    remote_context,
    traceparent,
)

BatchKey = tuple[str, int]
"""Session and job of the first item of a batch."""

LONG_S = 300.0
"""Age of a session in seconds above which segments are separate traces, because an open span is not visible."""


class Tracing:
    """Traces sessions and batches. Times are monotonic seconds."""

    def __init__(self, provider: TracerProvider, send: Send, model: str) -> None:
        self._provider = provider
        self.spans = Spans(provider, send)
        self._model = model
        self._batches: dict[BatchKey, StartedSpan] = {}
        self.segments: dict[SegmentTimeline, StartedSpan] = {}
        self.calls: dict[SegmentTimeline, SpanContext] = {}
        """Last batch of each segment."""

    def close(self) -> None:
        """Send queued spans within a time-out, for which it may block."""
        self._provider.shutdown()

    def session_sink(self, info: SessionInfo, ids: Ids, now: float) -> SessionSink:
        """Return the tracer of one session."""
        return _SessionTracing(self, info, ids, now, info.model or self._model)

    def pop(self, timeline: SegmentTimeline) -> tuple[StartedSpan | None, SpanContext | None]:
        """Remove a segment that has ended; return its span and its last model call."""
        return self.segments.pop(timeline, None), self.calls.pop(timeline, None)

    def trace_of(self, timeline: SegmentTimeline) -> str | None:
        """Return the trace id of a segment, if it is sampled."""
        span = self.segments.get(timeline)
        return f"{span.context.trace_id:032x}" if span is not None and span.is_sampled else None

    def batch_started(
        self, worker: int, batch_key: BatchKey, timelines: Sequence[SegmentTimeline], now: float, model: str = ""
    ) -> str | None:
        """Start the span of a batch; return its traceparent, if any of the segments is sampled.

        A batch belongs to one trace: that of its first segment. It links to all. `batch_key`: for its end.
        `model`: name of one of several.
        """
        spans = [span for passage in timelines if (span := self.segments.get(passage)) and span.is_sampled]
        if not spans:
            return None
        attributes: Attributes = {
            "streamer.batch.size": len(timelines),
            "streamer.worker": worker,
            "streamer.model": model or self._model,
        }
        links = [Link(span.context) for span in spans]
        batch = self._batches[batch_key] = self.spans.start_child(spans[0].context, "batch", now, attributes, links)
        for timeline in timelines:
            if timeline in self.segments:
                self.calls[timeline] = batch.context
        return traceparent(batch.context)

    def batch_finished(self, batch_key: BatchKey, outcome: CallOutcome, now: float) -> None:
        if (batch := self._batches.pop(batch_key, None)) is not None:
            status = UNSET if outcome is CallOutcome.ANSWERED else Status(StatusCode.ERROR, outcome)
            self.spans.end(batch, now, {"streamer.outcome": outcome}, status)


class _SessionTracing(SessionSink):
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
            "streamer.dialect": info.protocol,
            "streamer.mode": info.mode,
            "streamer.model": model,
        }

    def on_start(self, start: Start, now: float) -> str | None:
        start_context = remote_context(start.traceparent, start.tracestate)
        if self._span is None:
            self._attributes = {**self._attributes, "streamer.mode": start.mode or self._info.mode}
            self._begin(start_context)
        elif start_context is not None:
            self._span.add_link(start_context)
        assert self._span is not None
        return traceparent(self._span.get_span_context())

    def on_segment_start(self, timeline: SegmentTimeline) -> None:
        tracing, above = self._tracing, self._session().get_span_context()
        attributes: Attributes = {
            "streamer.session.id": self._info.id,
            "streamer.channel": timeline.channel,
            "streamer.segment.id": timeline.segment_id,
            "streamer.segment.start_s": timeline.start / timeline.rate,
        }
        if timeline.audio_started_at - self._born <= LONG_S:
            tracing.segments[timeline] = tracing.spans.start_child(
                above, "segment", timeline.audio_started_at, attributes
            )
            return
        links = [Link(above)]
        root = tracing.spans.start_root(
            "segment", timeline.audio_started_at, None, attributes, links
        ).get_span_context()
        tracing.segments[timeline] = StartedSpan("segment", root, None, timeline.audio_started_at, attributes, links)

    def on_segment_done(self, timeline: SegmentTimeline) -> None:
        span, call = self._tracing.pop(timeline)
        if span is None or not span.is_sampled:
            return
        attributes: Attributes = {
            "streamer.segment.end_s": timeline.end / timeline.rate,
            "streamer.interims": timeline.interims,
            "streamer.outcome": timeline.error_code or "answered",
        }
        status = UNSET if timeline.error_code is None else Status(StatusCode.ERROR, timeline.error_code)
        ended_at = timeline.written_at or timeline.audio_started_at
        self._tracing.spans.end(span, ended_at, attributes, status, parts=_child_spans(timeline, call))

    def on_segment_lost(self, timeline: SegmentTimeline, now: float) -> None:
        span, _ = self._tracing.pop(timeline)
        if span is not None:
            self._tracing.spans.end(span, now, {"streamer.outcome": "lost"})

    def on_close(self, summary: Summary, code: ErrorCode | None, *, peer_disconnected: bool, now: float) -> None:
        span = self._session()
        span.set_attributes(
            {
                "streamer.outcome": code or ("gone" if peer_disconnected else "stopped"),
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

    def _begin(self, start_context: SpanContext | None) -> None:
        """Start the session's span.

        `start_context`: context of the start message; it precedes that of the headers, which is linked.
        """
        handshake, spans = self._info.handshake, self._tracing.spans
        header_context = remote_context(handshake.traceparent, handshake.tracestate)
        links = (
            [Link(header_context)]
            if start_context is not None
            and header_context is not None
            and start_context.trace_id != header_context.trace_id
            else []
        )
        started_at = self._born if handshake.started_at is None else handshake.started_at
        span = self._span = spans.start_root(
            "session", started_at, start_context or header_context, self._attributes, links, SpanKind.SERVER
        )
        context = span.get_span_context()
        self._ids.trace_id, self._ids.span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
        spans.end(spans.start_child(context, "handshake", started_at), self._born)


def _child_spans(timeline: SegmentTimeline, call: SpanContext | None) -> list[ChildSpan]:
    """Return the phases of a segment whose times are known."""
    links = [Link(call)] if call is not None else []
    stages: tuple[tuple[str, float | None, float | None, Attributes, list[Link]], ...] = (
        ("decode", timeline.audio_started_at, timeline.audio_ended_at, {"streamer.busy_s": timeline.busy_s}, []),
        ("vad", timeline.audio_ended_at if timeline.speech else None, timeline.endpointed_at, NONE, []),
        ("queue", timeline.queued_at, timeline.inference_started_at, NONE, []),
        ("inference", timeline.inference_started_at, timeline.inference_finished_at, NONE, links),
        ("emit", timeline.result_at, timeline.written_at, NONE, []),
    )
    return [
        ChildSpan(name, started_at, ended_at, attributes, links)
        for name, started_at, ended_at, attributes, links in stages
        if started_at is not None and ended_at is not None
    ]
