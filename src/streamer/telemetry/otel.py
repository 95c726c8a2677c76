"""Export of finished spans to a collector, configured by OTEL_* variables. A slow collector blocks nothing."""

from __future__ import annotations

import importlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult

from streamer.errors import ConfigError, install_command
from streamer.telemetry.otel_env import protocol_of

if TYPE_CHECKING:
    from opentelemetry.context import Context

log = logging.getLogger(__name__)

FLUSH_TIMEOUT_S = 2.0
"""Time in seconds that the end of a process waits for the last spans."""


class SpanQueue(SpanProcessor):
    """Queues finished spans until its thread builds and exports them; spans beyond the limit are dropped and counted.

    The SDK's own BatchSpanProcessor logs a line per dropped span on the thread that ended it, and does not count the
    spans that a collector rejected.
    """

    def __init__(
        self, exporter: SpanExporter, *, max_spans: int = 2_048, batch: int = 512, delay_s: float = 5.0
    ) -> None:
        self._exporter = exporter
        self._queued_count = self._dequeued_count = self._overflowed = self._export_failed = (
            0  # numbers of spans; each is written by one thread
        )
        self._reported = 0
        self._max_spans, self._batch, self._delay_s = max_spans, batch, delay_s
        self._ended: deque[tuple[int, Callable[[], Iterable[ReadableSpan]]]] = deque()
        self._readable: deque[ReadableSpan] = deque()
        self._full = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="streamer-spans", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Spans that were dropped because of a full queue, or rejected by the collector."""
        return self._overflowed + self._export_failed

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Do nothing: a span is sent after its end."""

    def on_end(self, span: ReadableSpan) -> None:
        self.put(1, lambda: (span,))

    def put(self, count: int, make: Callable[[], Iterable[ReadableSpan]]) -> None:
        """Queue `count` finished spans. `make` builds them on the exporting thread. Called by one thread."""
        if self._waiting + count > self._max_spans or self._stopping:
            self._overflowed += count
            return
        self._ended.append((count, make))
        self._queued_count += count
        if self._waiting >= self._batch:
            self._full.set()

    def shutdown(self) -> None:
        """Export the queued spans within a time-out. Idempotent."""
        if self._stopping:
            return
        self._stopping = True
        self._full.set()
        self._thread.join(FLUSH_TIMEOUT_S)
        if not self._thread.is_alive():
            self._exporter.shutdown()
            return
        self._overflowed += self._waiting
        self._ended.clear()
        self._readable.clear()
        # Stopping the running export may block, so it happens on another thread.
        threading.Thread(target=self._exporter.shutdown, name="streamer-spans-end", daemon=True).start()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Do nothing: the thread exports within its delay, and `shutdown` exports the rest."""
        return True

    @property
    def _waiting(self) -> int:
        return self._queued_count - self._dequeued_count

    def _run(self) -> None:
        while True:
            self._full.wait(self._delay_s)
            self._full.clear()
            self._export_batch()
            # Spans that `shutdown` gave up on are still counted as waiting, but are not queued any more.
            while (self._ended or self._readable) and (self._stopping or self._waiting >= self._batch):
                self._export_batch()
            if self._stopping:
                return

    def _make(self) -> None:
        """Build a batch of spans. An error costs its spans, not this thread."""
        while self._ended and len(self._readable) < self._batch:
            count, make = self._ended.popleft()
            try:
                self._readable += tuple(make())
            except Exception:
                log.exception("building spans failed")
                self._dequeued_count += count
                self._export_failed += count

    def _export_batch(self) -> None:
        self._make()
        spans = [self._readable.popleft() for _ in range(min(len(self._readable), self._batch))]
        self._dequeued_count += len(spans)
        if not spans:
            return
        try:
            sent = self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception:
            log.exception("exporting spans failed")
            sent = False
        if not sent:
            self._export_failed += len(spans)
        if (dropped_total := self.dropped) > self._reported:
            log.warning(
                "%d spans were lost: the collector rejected them, or the queue was full", dropped_total - self._reported
            )
            self._reported = dropped_total


def provider(environment: Mapping[str, str]) -> tuple[TracerProvider, SpanQueue]:
    """Return the provider and the queue for the OTEL_* variables. Raises ConfigError, naming a wrong one."""

    def number(name: str, default: int) -> int:
        text = environment.get(name, "")
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or int(text) < 1:
            raise ConfigError(field=name, expected="a whole number of at least 1", got=text)
        return int(text)

    batch = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)
    queue = SpanQueue(
        _exporter(environment),
        max_spans=max(batch, number("OTEL_BSP_MAX_QUEUE_SIZE", 2_048)),
        batch=batch,
        delay_s=number("OTEL_BSP_SCHEDULE_DELAY", 5_000) / 1_000,
    )
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, read by the SDK, take precedence.
    name = environment.get("OTEL_SERVICE_NAME") or "streamer"
    made = TracerProvider(resource=_HashedResource(Resource.create({"service.name": name})), shutdown_on_exit=False)
    made.add_span_processor(queue)
    return made, queue


class _HashedResource(Resource):
    """A resource with a cached hash: the encoder needs it for each span, and computing it involves JSON."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource.attributes, resource.schema_url)
        self._hash = hash(resource)

    def __hash__(self) -> int:
        return self._hash


def _exporter(environment: Mapping[str, str]) -> SpanExporter:
    protocol = protocol_of(environment)
    if protocol == "console":
        return ConsoleSpanExporter()
    kind = "grpc" if protocol == "grpc" else "http"
    try:
        module = importlib.import_module(f"opentelemetry.exporter.otlp.proto.{kind}.trace_exporter")
    except ImportError as error:
        raise ConfigError(f"traces over OTLP/{kind}: {error}; {install_command('otel')}") from None
    exporter: SpanExporter = module.OTLPSpanExporter()  # reads the other variables itself
    return exporter
