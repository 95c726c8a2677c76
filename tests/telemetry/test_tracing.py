"""The tree of spans, by values: parents, links, sampling, long sessions, batches of several sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode
from streamer.inference.observer import CallOutcome
from streamer.session.events import Mode
from streamer.session.messages import Start
from streamer.session.summary import Summary
from streamer.telemetry.logs import Ids
from streamer.telemetry.observer import HandshakeInfo, SessionInfo
from streamer.telemetry.session_recorder import SegmentTimeline, SessionSink
from streamer.telemetry.spans import remote_context
from streamer.telemetry.tracing import LONG_S, Tracing

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAID = f"00-{TRACE}-{PARENT}-01"
FORMAT = AudioFormat(Encoding.PCM_S16LE, 16_000, 1)


class RecordingProcessor(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)

    def put(self, count: int, make: Callable[[], Iterable[ReadableSpan]]) -> None:
        made = list(make())
        assert len(made) == count
        self.spans += made

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]


class Traced:
    """A tracer whose spans are kept."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        provider = TracerProvider(sampler=ParentBased(sampler), shutdown_on_exit=False)
        self.kept = RecordingProcessor()
        provider.add_span_processor(self.kept)
        self.tracing = Tracing(provider, self.kept.put, "stub")

    def session(
        self, start: Start, handshake: HandshakeInfo | None = None, now: float = 100.0
    ) -> tuple[SessionSink, str | None]:
        info = SessionInfo("s", "websocket", "v2", Mode.SEGMENTED, "127.0.0.1", handshake or HandshakeInfo())
        self.ids = Ids("s")
        reader = self.tracing.session_sink(info, self.ids, now)
        return reader, reader.on_start(start, now)

    def close(self, reader: SessionSink, code: ErrorCode | None = None) -> ReadableSpan:
        reader.on_close(Summary(), code, peer_disconnected=False, now=200.0)
        return self.kept.named("session")[-1]


def passage(segment_id: int = 1, began: float = 101.0) -> SegmentTimeline:
    return SegmentTimeline(
        0, segment_id, 0, 16_000, began, 0.01, end=16_000, audio_ended_at=began + 1, endpointed_at=began + 1.6,
        queued_at=began + 1.6, inference_started_at=began + 1.7, inference_finished_at=began + 2,
        result_at=began + 2, written_at=began + 2.1, speech=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "said",
    [
        None,
        "",
        "nonsense",
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "ff-" + TRACE + "-" + PARENT + "-01",
        "x" * 10_000,
    ],
)
def test_garbage_is_no_context(said: str | None) -> None:
    assert remote_context(said) is None


def test_a_bad_tracestate_does_not_cost_the_traceparent() -> None:
    context = remote_context(SAID, "\x00" * 600)
    assert context is not None
    assert f"{context.trace_id:032x}" == TRACE


def test_the_starts_word_goes_before_the_headers_which_is_linked() -> None:
    traced = Traced()
    other = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    reader, answer = traced.session(Start(FORMAT, traceparent=SAID), HandshakeInfo(99.0, other))
    session = traced.close(reader)
    assert answer == f"00-{TRACE}-{session.context.span_id:016x}-01"
    assert f"{session.parent.span_id:016x}" == PARENT
    assert [f"{link.context.trace_id:032x}" for link in session.links] == ["a" * 32]
    assert traced.ids.trace_id == TRACE
    assert session.start_time == traced.kept.named("handshake")[0].start_time == traced.tracing.spans.ns(99.0)


def test_a_client_that_is_not_sampled_is_not_traced_and_keeps_its_trace() -> None:
    traced = Traced()
    reader, answer = traced.session(Start(FORMAT, traceparent=SAID[:-2] + "00"))
    one = passage()
    reader.on_segment_start(one)
    assert traced.tracing.batch_started(0, ("s", 1), [one], 102.0) is None
    assert traced.tracing.trace_of(one) is None
    reader.on_segment_done(one)
    reader.on_close(Summary(), None, peer_disconnected=False, now=200.0)
    assert traced.kept.spans == []
    assert answer is not None
    assert answer.startswith(f"00-{TRACE}-")
    assert answer.endswith("-00")


def test_a_sampler_that_says_no_is_heard() -> None:
    traced = Traced(ALWAYS_OFF)
    reader, _ = traced.session(Start(FORMAT))
    reader.on_segment_start(one := passage())
    reader.on_segment_done(one)
    assert traced.kept.spans == []


def test_segments_of_a_long_session_are_traces_of_their_own() -> None:
    traced = Traced()
    reader, _ = traced.session(Start(FORMAT))
    early, late = passage(1), passage(2, 100.0 + LONG_S + 1)
    for each in (early, late):
        reader.on_segment_start(each)
        reader.on_segment_done(each)
    session = traced.close(reader)
    one, other = traced.kept.named("segment")
    assert (one.parent.span_id, one.context.trace_id) == (session.context.span_id, session.context.trace_id)
    assert other.parent is None
    assert other.context.trace_id != session.context.trace_id
    assert [link.context.span_id for link in other.links] == [session.context.span_id]
    assert len(traced.kept.named("emit")) == 2


def test_a_batch_of_several_sessions_links_to_every_segment() -> None:
    traced = Traced()
    readers = [traced.session(Start(FORMAT))[0] for _ in range(3)]
    passages = [passage() for _ in readers]
    for reader, each in zip(readers, passages, strict=True):
        reader.on_segment_start(each)
    told = traced.tracing.batch_started(7, ("s", 1), passages, 102.0)
    traced.tracing.batch_finished(("s", 1), CallOutcome.ANSWERED, 103.0)
    for reader, each in zip(readers, passages, strict=True):
        reader.on_segment_done(each)
    [batch] = traced.kept.named("batch")
    segments = traced.kept.named("segment")
    assert told is not None
    assert f"{batch.context.span_id:016x}" in told
    assert {link.context.span_id for link in batch.links} == {segment.context.span_id for segment in segments}
    assert batch.parent.span_id == segments[0].context.span_id
    assert all(span.links[0].context.span_id == batch.context.span_id for span in traced.kept.named("inference"))
    assert batch.attributes["streamer.batch.size"] == 3


def test_faults_are_errors_of_their_spans() -> None:
    traced = Traced()
    reader, _ = traced.session(Start(FORMAT))
    failed, lost = passage(1), passage(2)
    failed.error_code = ErrorCode.MODEL_ERROR
    reader.on_segment_start(failed)
    reader.on_segment_done(failed)
    reader.on_segment_start(lost)
    reader.on_segment_lost(lost, 110.0)
    session = traced.close(reader, ErrorCode.INTERNAL)
    outcomes = [span.attributes["streamer.outcome"] for span in traced.kept.named("segment")]
    assert outcomes == ["model_error", "lost"]
    assert not session.status.is_ok
    assert not traced.tracing.segments
    assert not traced.tracing.calls


def test_children_cover_a_segment_from_its_first_audio_to_the_wire() -> None:
    traced = Traced()
    reader, _ = traced.session(Start(FORMAT))
    reader.on_segment_start(one := passage())
    reader.on_segment_done(one)
    names = ("decode", "vad", "queue", "inference", "emit")
    spans = [traced.kept.named(name)[0] for name in names]
    times: Sequence[int] = [at for span in spans for at in (span.start_time, span.end_time)]
    assert list(times) == sorted(times)
    [segment] = traced.kept.named("segment")
    assert (times[0], times[-1]) == (segment.start_time, segment.end_time)
    assert set(segment.attributes) == {
        "streamer.session.id", "streamer.channel", "streamer.segment.id", "streamer.segment.start_s",
        "streamer.segment.end_s", "streamer.interims", "streamer.outcome",
    }  # fmt: skip


def test_batches_that_run_at_the_same_time_on_workers_of_the_same_number_are_told_apart() -> None:
    traced = Traced()
    tracing = traced.tracing
    reader, _ = traced.session(Start(FORMAT))
    mine, other = passage(1), passage(2)
    for each in (mine, other):
        reader.on_segment_start(each)
    tracing.batch_started(0, ("s", 1), [mine], 102.0, "english")
    tracing.batch_started(0, ("s", 2), [other], 103.0, "any")
    tracing.batch_finished(("s", 1), CallOutcome.ANSWERED, 104.0)
    tracing.batch_finished(("s", 2), CallOutcome.CRASHED, 105.0)
    batches = {span.attributes["streamer.model"]: span for span in traced.kept.named("batch") if span.attributes}
    assert {name: (span.attributes or {})["streamer.outcome"] for name, span in batches.items()} == {
        "english": CallOutcome.ANSWERED,
        "any": CallOutcome.CRASHED,
    }
    assert batches["any"].end_time == tracing.spans.ns(105.0)
    traced.close(reader)


def test_a_session_of_one_of_several_models_names_it() -> None:
    traced = Traced()
    info = SessionInfo("s", "websocket", "v2", Mode.SEGMENTED, "127.0.0.1", HandshakeInfo(), "any")
    reader = traced.tracing.session_sink(info, Ids("s"), 100.0)
    reader.on_start(Start(FORMAT), 100.0)
    assert (traced.close(reader).attributes or {})["streamer.model"] == "any"
