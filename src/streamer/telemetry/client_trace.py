"""The client's part of a trace: its own span, if OTEL_* variables enable traces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from streamer.telemetry.otel_env import are_traces_enabled


@contextmanager
def client_trace(environment: Mapping[str, str], address: str) -> Iterator[str | None]:
    """Return the traceparent to send; None without traces, so that the server decides on its own.

    At the end of the context, the client's span is exported (within a time-out). `address` becomes an attribute of the
    span, without its query. Raises ConfigError for a wrong OTEL_* variable.
    """
    if not are_traces_enabled(environment):
        yield None
        return
    from opentelemetry.trace import SpanKind  # noqa: PLC0415 (an extra)

    from streamer.telemetry.otel import provider  # noqa: PLC0415
    from streamer.telemetry.spans import SCOPE, traceparent  # noqa: PLC0415

    made, _ = provider({"OTEL_SERVICE_NAME": "streamer-client", **environment})
    attributes = {"url.full": address.partition("?")[0]}
    try:
        with made.get_tracer(SCOPE).start_as_current_span(
            "client", kind=SpanKind.CLIENT, attributes=attributes
        ) as span:
            yield traceparent(span.get_span_context())
    finally:
        made.shutdown()
