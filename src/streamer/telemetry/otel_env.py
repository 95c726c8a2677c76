"""The standard OTEL_* variables, read without importing OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping

from streamer.errors import ConfigError

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def are_traces_enabled(environment: Mapping[str, str]) -> bool:
    """Return True if an exporter or an endpoint is set, and traces are not disabled."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    named = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    return named != "none" if named else any(environment.get(name) for name in ENDPOINTS)


def protocol_of(environment: Mapping[str, str]) -> str:
    """Return `grpc`, `http/protobuf` (the standard's default) or `console`. Raises ConfigError for another value."""
    named = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    if named == "console":
        return named
    if named != "otlp":
        raise ConfigError(field="OTEL_TRACES_EXPORTER", expected="'otlp', 'console' or 'none'", got=named)
    variable = next((name for name in PROTOCOLS if environment.get(name)), PROTOCOLS[1])
    protocol = environment.get(variable) or "http/protobuf"
    if protocol not in ("grpc", "http/protobuf"):
        raise ConfigError(field=variable, expected="'grpc' or 'http/protobuf'", got=protocol)
    return protocol
