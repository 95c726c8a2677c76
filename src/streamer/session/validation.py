"""Validation of a start message: every field within its range; an error names the field."""

from __future__ import annotations

from dataclasses import fields, replace

from streamer.audio.buffer import SAMPLE_BYTES
from streamer.audio.format import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from streamer.errors import BadRequest
from streamer.media.formats import Container
from streamer.session.channel import kept_bytes_per_second
from streamer.session.events import Mode
from streamer.session.messages import Configure, Start, VadOverrides
from streamer.session.settings import Limits, SessionSettings
from streamer.vad.settings import VadConfig

IN_FLIGHT_MS = 2_500
"""Milliseconds of audio that are stored besides speech: audio being scored, and audio that is not forgotten yet."""


def validate_vad(start: Start, settings: SessionSettings) -> VadConfig:
    """Return the endpointing of a start, after validating all other fields.

    Speech that could exceed the session's memory is split earlier than the server's settings say; a client that
    requests such speech explicitly is refused. Raises StreamerError, naming the field.
    """
    limits = settings.limits
    start.format.check(max_channels=limits.max_channels)
    _check_range("chunk_ms", start.chunk_ms, 20, settings.max_piece_ms)
    _check_range("interim_interval_ms", start.interim_interval_ms, 1, 60_000)
    _check_range("progress_ms", start.progress_ms, 1, 60_000)
    _check_metadata(start, limits)
    _check_audio_out(start, settings)
    vad = _merge(settings.vad, start.vad, limits)
    return _fitted(vad, start, settings)


def with_changes(start: Start, changes: Configure) -> Start:
    """Return the start with the settings of a later message."""
    return replace(
        start,
        vad=changes.vad,
        interim_results=changes.interim_results,
        interim_interval_ms=changes.interim_interval_ms,
        options=changes.options,
    )


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


def _check_audio_out(start: Start, settings: SessionSettings) -> None:
    request = start.audio_out
    if request is None:
        return
    if settings.model_output is None:
        raise BadRequest(f"audio_out: the model {settings.model} answers without audio; leave audio_out out")
    media = start.media
    if settings.mode is Mode.SIMPLE and media is not None and not (media.downmix or media.container is Container.OPUS):
        raise BadRequest("audio_out: on simple, compressed audio needs format.downmix: its channels are not known yet")
    _check_range("audio_out.sample_rate", request.sample_rate, MIN_SAMPLE_RATE, MAX_SAMPLE_RATE)


def _merge(config: VadConfig, overrides: VadOverrides, limits: Limits) -> VadConfig:
    """Return the server's endpointing with the client's overrides, each within its limit."""
    overridden = {
        field.name: value for field in fields(VadConfig) if (value := getattr(overrides, field.name)) is not None
    }
    merged = replace(config, **overridden) if overridden else config
    for name, limit in _limits(limits).items():
        max_value = max(limit, getattr(config, name))
        if overridden.get(name, 0) > max_value:
            raise BadRequest(field=f"vad.{name}", expected=f"at most {max_value:g}", got=overridden[name])
    return merged


def _limits(limits: Limits) -> dict[str, float]:
    """Return the limits of the client's overrides, by field of `vad`."""
    return {
        "max_speech_time_ms": limits.max_speech_ms,
        "pre_speech_pad_ms": limits.max_speech_pad_ms,
        "post_speech_pad_ms": limits.max_speech_pad_ms,
        "redemption_time_ms": limits.max_redemption_ms,
    }


def _fitted(vad: VadConfig, start: Start, settings: SessionSettings) -> VadConfig:
    """Shorten speech, or pieces of `simple`, so that they fit into the session's memory."""
    form, limits = start.format, settings.limits
    max_bytes = limits.max_kept_bytes - limits.max_raw_bytes
    fits_ms = max(0.0, 1000 * max_bytes / kept_bytes_per_second(settings, start) - IN_FLIGHT_MS)
    job_ms = 1000 * limits.max_job_bytes / (settings.model_sample_rate * SAMPLE_BYTES)
    why = f"for {form.channels} channels of {form.encoding} at {form.sample_rate} Hz (limits.max_session_bytes)"
    if settings.mode is Mode.SIMPLE:
        most_ms = min(fits_ms, job_ms)
        if start.chunk_ms is not None and start.chunk_ms > most_ms:
            raise BadRequest(field="chunk_ms", expected=f"at most {most_ms:.0f} {why}", got=start.chunk_ms)
        return vad
    # Silence in speech does not split it until the end of `redemption_time_ms`.
    longest_ms = float(int(min(fits_ms - vad.redemption_time_ms, job_ms)))
    least_ms = max(vad.pre_speech_pad_ms, vad.redemption_time_ms) + vad.min_speech_time_ms
    if least_ms >= fits_ms or longest_ms <= vad.min_speech_time_ms:
        raise BadRequest(field="vad", expected=f"pads and times of at most {fits_ms:.0f} ms {why}", got=least_ms)
    if vad.max_speech_time_ms <= longest_ms:
        return vad
    if start.vad.max_speech_time_ms is not None:
        asked_ms = start.vad.max_speech_time_ms
        raise BadRequest(field="vad.max_speech_time_ms", expected=f"at most {longest_ms:.0f} {why}", got=asked_ms)
    return replace(vad, max_speech_time_ms=longest_ms)
