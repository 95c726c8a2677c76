"""The queue before a collector: bounded, counted, quick to end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from streamer.errors import ConfigError
from streamer.telemetry import otel
from streamer.telemetry.otel import SpanQueue
from streamer.telemetry.otel_env import are_traces_enabled, protocol_of

OK, FAILED = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


class Exporter(SpanExporter):
    """Does what it is told with each batch, and keeps their sizes."""

    def __init__(self, export: Callable[[], SpanExportResult] = lambda: OK) -> None:
        self.sizes: list[int] = []
        self.names: list[str] = []
        self.ended = threading.Event()
        self._export = export

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.sizes.append(len(spans))
        self.names += [span.name for span in spans]
        return self._export()

    def shutdown(self) -> None:
        self.ended.set()


def ended(queue: SpanQueue, spans: int) -> None:
    for number in range(spans):
        queue.on_end(ReadableSpan(str(number)))


def test_the_end_sends_what_waits_in_batches() -> None:
    exporter = Exporter()
    queue = SpanQueue(exporter, batch=4, delay_s=60)
    ended(queue, 3)
    queue.shutdown()
    queue.shutdown()
    assert (sum(exporter.sizes), queue.dropped, exporter.ended.is_set()) == (3, 0, True)
    ended(queue, 1)
    assert queue.dropped == 1


def test_spans_are_made_where_they_are_sent_and_no_batch_is_larger_than_it_may_be() -> None:
    exporter, makers = Exporter(), set[str]()

    def three() -> Iterator[ReadableSpan]:
        makers.add(threading.current_thread().name)
        yield from (ReadableSpan(name) for name in "abc")

    queue = SpanQueue(exporter, batch=2, delay_s=60)
    for _ in range(3):
        queue.put(3, three)
    queue.shutdown()
    assert (max(exporter.sizes), "".join(exporter.names), queue.dropped) == (2, "abcabcabc", 0)
    assert makers == {"streamer-spans"}


def test_what_has_no_room_as_a_whole_is_dropped_as_a_whole() -> None:
    exporter = Exporter()
    queue = SpanQueue(exporter, max_spans=5, batch=5, delay_s=60)
    for _ in range(2):
        queue.put(3, lambda: map(ReadableSpan, "abc"))
    ended(queue, 1)
    queue.shutdown()
    assert (sum(exporter.sizes), queue.dropped) == (4, 3)


def test_spans_that_cannot_be_made_are_counted_and_keep_nobody_elses_back() -> None:
    def broken() -> Iterator[ReadableSpan]:
        yield ReadableSpan("half")
        raise RuntimeError("a bug")

    exporter = Exporter()
    queue = SpanQueue(exporter, delay_s=60)
    queue.put(2, broken)
    ended(queue, 3)
    queue.shutdown()
    assert (exporter.names, queue.dropped) == (["0", "1", "2"], 2)


def test_what_a_collector_does_not_take_is_counted() -> None:
    def crash() -> SpanExportResult:
        raise OSError("no")

    for export in (lambda: FAILED, crash):
        queue = SpanQueue(Exporter(export), delay_s=60)
        ended(queue, 5)
        queue.shutdown()
        assert queue.dropped == 5


def test_a_silent_collector_costs_spans_and_a_bounded_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel, "FLUSH_TIMEOUT_S", 0.05)
    go, begun = threading.Event(), threading.Event()

    def hang() -> SpanExportResult:
        begun.set()
        go.wait(30)
        return OK

    exporter = Exporter(hang)
    queue = SpanQueue(exporter, max_spans=10, batch=2, delay_s=60)
    ended(queue, 2)
    assert begun.wait(5)
    ended(queue, 15)
    assert queue.dropped == 5
    queue.shutdown()
    assert queue.dropped == 15
    assert exporter.ended.wait(5)
    go.set()
    queue._thread.join(5)
    assert not queue._thread.is_alive(), "a sender that nobody waits for any more still runs"


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "me"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_traces_are_made_where_the_variables_say_where_to(environment: dict[str, str], wanted: bool) -> None:
    assert are_traces_enabled(environment) is wanted


def test_a_wrong_variable_is_named() -> None:
    assert protocol_of({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}) == "grpc"
    assert protocol_of({}) == "http/protobuf"
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_PROTOCOL: expected 'grpc' or 'http/protobuf', got 'udp'"):
        protocol_of({"OTEL_EXPORTER_OTLP_PROTOCOL": "udp"})
    with pytest.raises(ConfigError, match="OTEL_BSP_MAX_QUEUE_SIZE: expected a whole number of at least 1, got 'many'"):
        otel.provider({"OTEL_BSP_MAX_QUEUE_SIZE": "many", "OTEL_TRACES_EXPORTER": "console"})
