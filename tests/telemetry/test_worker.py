"""The span around a call of the model: what is below it, and what it says of a model that fails."""

from __future__ import annotations

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import trace

from streamer.telemetry.worker import TracedWorker
from tests.telemetry.collector import http_collector

TRACE, BATCH = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TOLD = f"00-{TRACE}-{BATCH}-01"


def test_a_call_is_the_current_span_meanwhile_and_below_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        worker = TracedWorker()
        with worker.trace_call(TOLD, 3):
            inside = trace.get_current_span().get_span_context()
        outside = trace.get_current_span().get_span_context()
        worker.stop()
    [model] = collector.named("model")
    assert (model.trace, model.parent, model.attributes["streamer.batch.size"]) == (TRACE, BATCH, 3)
    assert (model.id, inside.trace_flags.sampled) == (f"{inside.span_id:016x}", True)
    assert not outside.is_valid
    assert (model.error, model.events) == ("", ())
    assert worker.dropped_since_last() == 0


def test_a_model_that_fails_is_an_error_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        worker = TracedWorker()
        with pytest.raises(ValueError, match="too short"), worker.trace_call(TOLD, 1):
            raise ValueError("too short")
        worker.stop()
    [model] = collector.named("model")
    assert model.error == "ValueError: too short"
    [(name, told)] = model.events
    assert (name, told["exception.type"], told["exception.message"]) == ("exception", "ValueError", "too short")
    assert __file__ in told["exception.stacktrace"]


def test_a_batch_that_is_not_traced_makes_no_span(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        worker = TracedWorker()
        with worker.trace_call(None, 1):
            assert not trace.get_current_span().get_span_context().is_valid
        worker.stop()
    assert collector.spans == []
