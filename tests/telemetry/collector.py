"""A real OTLP receiver over HTTP and gRPC, for tests: keeps the spans that come, or misbehaves as it is told."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class ReceivedSpans:
    """A span as it came over the wire."""

    name: str
    trace: str
    id: str
    parent: str
    service: str
    attributes: dict[str, Any]
    links: tuple[str, ...]
    """Span ids."""
    start_ns: int
    end_ns: int
    error: str
    """What its status says."""
    events: tuple[tuple[str, dict[str, Any]], ...]
    """Names and attributes."""


@dataclass
class Collector:
    """What came so far. `url`: what OTEL_EXPORTER_OTLP_ENDPOINT wants."""

    url: str
    spans: list[ReceivedSpans] = field(default_factory=list)
    came: threading.Condition = field(default_factory=threading.Condition)
    mood: str = "well"
    """`well`, `slow` (answers when it is let go) or `failing`."""
    let_go: threading.Event = field(default_factory=threading.Event)

    def take(self, request: trace_service_pb2.ExportTraceServiceRequest) -> None:
        with self.came:
            for resource in request.resource_spans:
                names = {entry.key: entry.value.string_value for entry in resource.resource.attributes}
                for scope in resource.scope_spans:
                    self.spans += [_received(span, names["service.name"]) for span in scope.spans]
            self.came.notify_all()

    def wait_for(self, *names: str, timeout_s: float = 20.0) -> None:
        """Until spans of all these names are here."""

        def here() -> bool:
            return set(names) <= {span.name for span in self.spans}

        with self.came:
            assert self.came.wait_for(here, timeout_s), f"{names} expected, {[span.name for span in self.spans]} came"

    def named(self, name: str) -> list[ReceivedSpans]:
        return [span for span in self.spans if span.name == name]

    def tree(self) -> list[str]:
        """The spans as an indented list, parents before children, by start."""
        below: dict[str, list[ReceivedSpans]] = defaultdict(list)
        known = {span.id for span in self.spans}
        for span in sorted(self.spans, key=lambda span: span.start_ns):
            below[span.parent if span.parent in known else ""].append(span)

        def lines(parent: str, depth: int) -> Iterator[str]:
            for span in below[parent]:
                links = f"  -> {', '.join(span.links)}" if span.links else ""
                took_ms = (span.end_ns - span.start_ns) / 1e6
                yield f"{'  ' * depth}{span.name} [{span.service}] {span.id} {took_ms:.1f} ms{links}"
                yield from lines(span.id, depth + 1)

        return list(lines("", 0))


def _received(span: Any, service: str) -> ReceivedSpans:
    def value(any_value: Any) -> Any:
        return getattr(any_value, any_value.WhichOneof("value"))

    def attributes(of: Any) -> dict[str, Any]:
        return {entry.key: value(entry.value) for entry in of.attributes}

    return ReceivedSpans(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        service=service,
        attributes=attributes(span),
        links=tuple(link.span_id.hex() for link in span.links),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        error=span.status.message,
        events=tuple((event.name, attributes(event)) for event in span.events),
    )


@contextmanager
def http_collector(mood: str = "well") -> Iterator[Collector]:
    """OTLP over HTTP on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if collector.mood == "slow":
                collector.let_go.wait(60)
            if collector.mood == "failing":
                self.send_error(400)
                return
            request = trace_service_pb2.ExportTraceServiceRequest()
            request.ParseFromString(body)
            self.send_response(200)
            self.end_headers()
            collector.take(request)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}", mood=mood)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield collector
        finally:
            collector.let_go.set()
            server.shutdown()
            thread.join()


@contextmanager
def grpc_collector() -> Iterator[Collector]:
    """OTLP over gRPC on a free port."""

    class Service(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            collector.take(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        collector = Collector(f"http://127.0.0.1:{port}")
        server.start()
        try:
            yield collector
        finally:
            server.stop(0).wait()
