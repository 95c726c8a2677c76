"""What /metrics says: every series from the start, closed label sets, exemplars, what promtool accepts."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from streamer.errors import ErrorCode
from streamer.telemetry.instruments import Histogram, Instruments
from streamer.telemetry.observer import Subsystem
from streamer.telemetry.telemetry import Telemetry

NAMES = [
    "sessions_started", "sessions_closed", "sessions_active", "session_duration_seconds", "handshakes",
    "auth_failures", "protocol_errors", "audio_received_seconds", "audio_received_bytes",
    "audio_processed_seconds", "audio_lead_seconds", "audio_buffered_bytes", "rtf", "media_duration_seconds",
    "processing_duration_seconds", "first_result_latency_seconds", "first_interim_latency_seconds",
    "final_latency_seconds", "endpoint_delay_seconds", "result_lag_seconds", "inference_seconds",
    "inference_queue_wait_seconds", "inference_batch_size", "inference_pending", "workers", "worker_restarts",
    "interims_dropped", "event_loop_lag_seconds", "task_failures", "build_info", "ready", "load", "draining",
    "admission_rejected", "telemetry_dropped", "audio_out_seconds", "audio_out_delay_seconds",
    "audio_out_gap_seconds", "audio_out_cleared_seconds",
]  # fmt: skip


def families(telemetry: Telemetry) -> dict[str, str]:
    return {family.name: family.type for family in telemetry.registry.collect()}


def test_every_metric_of_the_design_is_there() -> None:
    missing = [name for name in NAMES if f"streamer_{name}" not in families(Telemetry("stub"))]
    assert not missing


def test_every_series_is_there_from_the_first_scrape() -> None:
    text = generate_latest(Telemetry("stub").registry).decode()
    assert 'streamer_sessions_closed_total{reason="slow_consumer",transport="grpc"} 0.0' in text
    assert 'streamer_task_slow_polls_total{subsystem="audio_decoding"} 0.0' in text
    assert 'streamer_rtf_bucket{le="1.75",stage="vad_processing"} 0.0' in text
    assert "_created" not in text


def test_a_label_value_outside_its_set_makes_no_series() -> None:
    family = Instruments("x_").counter("things", "Things.", transport=("websocket",))
    with pytest.raises(ValueError, match="transport: expected one of websocket, got 'evil'"):
        family.child("evil")
    assert list(family.children) == [("websocket",)]


def test_promtool_finds_nothing_to_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is in Debian's package prometheus")
    telemetry = Telemetry("stub")
    telemetry.on_refused("websocket", ErrorCode.OVERLOADED, "somebody")
    telemetry.unexpected_error(Subsystem.OTHER, ValueError())
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=generate_latest(telemetry.registry), capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_buckets_count_as_prometheus_counts() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.1, 0.5, 1.0, 7.0):
        histogram.observe(value)
    lines: dict[str, float] = {}
    histogram.samples(lambda name, labels, value, *_: lines.update({name + labels.get("le", ""): value}), "h", {})
    assert lines == {"h_bucket0.1": 1, "h_bucket1.0": 3, "h_bucket+Inf": 4, "h_count": 4, "h_sum": 8.6}


def test_a_traced_observation_is_an_exemplar_in_openmetrics() -> None:
    instruments = Instruments("x_")
    instruments.histogram("wait_seconds", "Wait.", (0.1, 1.0)).child().observe(0.5, "4bf92f3577b34da6a3ce929d0e0e4736")
    [family] = text_string_to_metric_families(openmetrics(instruments).decode())
    exemplars = {sample.labels["le"]: sample.exemplar for sample in family.samples if sample.exemplar}
    assert exemplars["1.0"].labels == {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}


def test_refusals_are_counted_by_what_they_are() -> None:
    telemetry = Telemetry("stub")
    for code in (ErrorCode.OVERLOADED, ErrorCode.TOKEN_EXPIRED, ErrorCode.BAD_REQUEST):
        telemetry.on_refused("websocket", code, "somebody")
    value = telemetry.registry.get_sample_value
    assert value("streamer_admission_rejected_total", {"reason": "overloaded"}) == 1
    assert value("streamer_auth_failures_total", {"reason": "token_expired"}) == 1
    assert value("streamer_handshakes_total", {"transport": "websocket", "outcome": "bad_request"}) == 1
