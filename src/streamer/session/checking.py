"""Whether a start can be served: every field within its range, named where it is not."""

from __future__ import annotations

from dataclasses import fields, replace

from streamer.errors import BadRequest
from streamer.session.messages import Start, VadOverrides
from streamer.session.settings import Limits, SessionSettings
from streamer.vad.settings import VadConfig


def checked_vad(start: Start, settings: SessionSettings) -> VadConfig:
    """The start's endpointing, after everything else in it has been checked. Raises StreamerError naming the field."""
    limits = settings.limits
    start.format.check(max_channels=limits.max_channels)
    _check_range("chunk_ms", start.chunk_ms, 20, settings.max_piece_ms)
    _check_range("interim_interval_ms", start.interim_interval_ms, 1, 60_000)
    _check_metadata(start, limits)
    return _merged(settings.vad, start.vad)


def _check_range(field: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise BadRequest(field=field, expected=f"an integer from {low} to {high}", got=value)


def _check_metadata(start: Start, limits: Limits) -> None:
    if len(start.metadata) > limits.max_metadata_entries:
        raise BadRequest(
            field="metadata", expected=f"at most {limits.max_metadata_entries} entries", got=len(start.metadata)
        )
    for key, value in start.metadata.items():
        if max(len(key.encode()), len(value.encode())) > limits.max_metadata_bytes:
            raise BadRequest(
                field="metadata", expected=f"keys and values of at most {limits.max_metadata_bytes} bytes", got=key
            )
    if len(start.options) > limits.max_options_bytes:
        raise BadRequest(
            field="options", expected=f"at most {limits.max_options_bytes} bytes of JSON", got=len(start.options)
        )


def _merged(config: VadConfig, overrides: VadOverrides) -> VadConfig:
    given = {field.name: value for field in fields(VadConfig) if (value := getattr(overrides, field.name)) is not None}
    return replace(config, **given) if given else config
