"""Settings of a session: its segmenter, its model's attributes, its limits. Every value has a unit and a bound."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from streamer.errors import BadRequest
from streamer.media.formats import Container
from streamer.session.events import AudioOutInfo, Mode, Started
from streamer.session.messages import Start
from streamer.vad.settings import VadConfig

MEMORY_SHARES = 8
"""A session may use this share of the free memory; if less than this share is free, new sessions are refused."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one stream. Seconds of audio count at the client's own sample rate."""

    max_channels: int = 8
    max_control_bytes: int = 16 * 1024
    max_audio_message_bytes: int = 1024 * 1024
    max_session_bytes: int = 16 * 1024 * 1024
    """Memory for the audio of one session: queued, in open speech, and in the model. Beyond it, reading is paused."""
    start_timeout_s: float = 10.0
    """Time from the connection to its first start."""
    idle_timeout_s: float = 30.0
    """Time without any message; `keepalive` counts as one."""
    max_stream_s: float = 4 * 3600.0
    """Maximum seconds of audio per stream."""
    max_spool_bytes: int = 1024 * 1024 * 1024
    """Maximum bytes on disk for one uploaded file whose index is behind its audio."""
    audio_ahead_s: float = 30.0
    """Seconds of unprocessed audio above which reading from the connection is paused."""
    max_metadata_entries: int = 16
    max_metadata_bytes: int = 256
    """Maximum length of a key or a value."""
    max_options_bytes: int = 8 * 1024
    max_pending_messages: int = 1_000
    """Queued messages while a stream is finished, and flushes that wait for results."""
    max_control_share: float = 0.01
    """Share of a core's time for pings, control messages and empty frames of one connection. A client beyond it is read
    more slowly, and closed if it continues."""
    max_model_failures: int = 5
    """Consecutive failed results after which the stream is ended."""
    max_speech_ms: float = 60_000.0
    """Largest `max_speech_time_ms` that a client may request."""
    max_speech_pad_ms: float = 5_000.0
    """Largest `pre_speech_pad_ms` and `post_speech_pad_ms` that a client may request."""
    max_redemption_ms: float = 10_000.0
    """Largest `redemption_time_ms` that a client may request."""

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if isinstance(value, bool) or not 0 < value < math.inf:
                raise BadRequest(field=f"limits.{limit.name}", expected="a number above 0", got=value)
        if self.max_session_bytes < self.max_audio_message_bytes:
            raise BadRequest(
                field="limits.max_session_bytes",
                expected=f"at least limits.max_audio_message_bytes ({self.max_audio_message_bytes})",
                got=self.max_session_bytes,
            )

    @property
    def max_kept_bytes(self) -> int:
        """Share of `max_session_bytes` for open speech, its interims, and incomplete pieces."""
        return self.max_session_bytes * 3 // 4

    @property
    def max_raw_bytes(self) -> int:
        """Share of `max_session_bytes` for open speech that would be smaller if decoded."""
        return self.max_session_bytes // 16

    @property
    def max_taken_bytes(self) -> int:
        """Share of `max_session_bytes` for audio in one conversion step, in its larger form."""
        return self.max_session_bytes // 16

    @property
    def max_job_bytes(self) -> int:
        """Share of `max_session_bytes` for finals and pieces in the model."""
        return self.max_session_bytes // 4

    @property
    def max_output_bytes(self) -> int:
        """Share of `max_session_bytes` for audio out above which the model has to wait."""
        return self.max_session_bytes // 4

    @property
    def longest_speech_ms(self) -> float:
        """Longest utterance that a client may request, with its padding and the silence that ends it."""
        return self.max_speech_pad_ms + self.max_speech_ms + self.max_redemption_ms

    def announced(self) -> Mapping[str, float]:
        """Return the limits for the client, which `started` contains."""
        return {
            "max_audio_message_bytes": self.max_audio_message_bytes,
            "max_control_bytes": self.max_control_bytes,
            "idle_timeout_s": self.idle_timeout_s,
            "max_stream_s": self.max_stream_s,
            "audio_ahead_s": self.audio_ahead_s,
        }


@dataclass(frozen=True, slots=True)
class AudioOutSettings:
    """Bounds of the audio that models answer with. Seconds count at the rate that the client asked for."""

    ahead_s: float = 0.5
    """Seconds by which an answer on `segmented` is sent ahead of real time, unless the client saves it."""
    max_unsent_s: float = 60.0
    """Seconds of unsent audio of one stream above which the model has to wait. An answer that exceeds twice this is
    cut."""

    def __post_init__(self) -> None:
        for bound in fields(self):
            value = getattr(self, bound.name)
            if isinstance(value, bool) or not 0 < value < math.inf:
                raise BadRequest(field=f"audio_out.{bound.name}", expected="a number above 0", got=value)


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """Audio that the model answers with, as it declares. `sample_rate` in Hz; `channels` per channel of the input."""

    sample_rate: int
    channels: int = 1
    latency_ms: float = 0.0

    def latency(self, sample_rate: int) -> int:
        """Return the model's latency in samples at a rate."""
        return round(self.latency_ms * sample_rate / 1000)


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Settings of a session; the same for every session of one endpoint."""

    mode: Mode
    model: str = "stub"
    model_sample_rate: int = 16_000
    stateful: bool = False
    """Whether the model is a StreamingModel: one piece per channel at a time, and no interims."""
    max_inflight: int = 4
    """Concurrent pieces of one channel in simple mode."""
    model_output: ModelOutput | None = None
    """None for a model that answers without audio."""
    overlap_ms: float = 0.0
    """Audio of the previous piece at the beginning of each piece in simple mode."""
    audio_out: AudioOutSettings = field(default_factory=AudioOutSettings)
    vad: VadConfig = field(default_factory=VadConfig)
    interim_interval_ms: int = 500
    min_interim_interval_ms: int = 200
    min_piece_ms: int = 100
    max_piece_ms: int = 10_000
    stall_timeout_s: float = 2.0
    """Time without audio after which open speech ends; 0: never."""
    lag_warning_s: float = 5.0
    """Delay of a result after the end of its audio above which the client gets a warning."""
    retry_after_s: float = 5.0
    """Retry time in seconds for a client that was closed for overload."""
    containers: frozenset[Container] = frozenset(Container)
    """Containers of compressed audio that are served."""
    libopus: str = ""
    """Path of libopus, see `load_libopus`."""
    limits: Limits = field(default_factory=Limits)

    def started(self, session_id: str, start: Start, traceparent: str | None) -> Started:
        """Return the first event of a stream."""
        return Started(
            session_id=session_id,
            mode=self.mode,
            model=self.model,
            model_sample_rate=self.model_sample_rate,
            limits=self.limits.announced(),
            traceparent=traceparent,
            audio_out=self.audio_out_info(start),
        )

    def audio_out_info(self, start: Start) -> AudioOutInfo | None:
        """Return the format of the audio that a stream answers with; None without."""
        model, request = self.model_output, start.audio_out
        if model is None or request is None:
            return None
        lines = start.declared_channels if self.mode is Mode.SIMPLE else 1
        return AudioOutInfo(request.encoding, request.sample_rate, lines * model.channels, model.latency_ms)
