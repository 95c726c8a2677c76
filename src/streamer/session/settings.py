"""What a session lives under: its segmenter, its model's numbers, its limits. Every value has a unit and a bound."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from streamer.errors import BadRequest
from streamer.media.formats import Container
from streamer.session.events import Mode, Started
from streamer.vad.settings import VadConfig

MEMORY_SHARES = 8
"""A session may hold this part of the memory that is free; with less than this part free, new sessions are refused."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one stream may ask of the server. Seconds of audio count at the client's own sample rate."""

    max_channels: int = 8
    max_control_bytes: int = 16 * 1024
    max_audio_message_bytes: int = 1024 * 1024
    max_session_bytes: int = 16 * 1024 * 1024
    """Memory for the audio of one session, past which the connection is not read for a while: audio that waits, speech
    that goes on, audio that the model has."""
    start_timeout_s: float = 10.0
    """From the connection to its first start."""
    idle_timeout_s: float = 30.0
    """Without any message; `keepalive` counts as one."""
    max_stream_s: float = 4 * 3600.0
    """Seconds of audio in one stream."""
    max_spool_bytes: int = 1024 * 1024 * 1024
    """Bytes on disk for one file sent by POST whose index is behind its audio."""
    audio_ahead_s: float = 30.0
    """Seconds of audio received but not yet processed, past which the connection is not read for a while."""
    max_metadata_entries: int = 16
    max_metadata_bytes: int = 256
    """Of one key or one value."""
    max_options_bytes: int = 8 * 1024
    max_pending_messages: int = 1_000
    """Messages that may wait for a stream to finish, and flushes for the results before them."""
    max_control_share: float = 0.01
    """Share of a core's time for pings, control messages and empty frames of one connection. A client past it is read
    more slowly, and closed if it goes on."""
    max_model_failures: int = 5
    """Results in a row that failed, after which the stream is given up."""
    max_speech_ms: float = 60_000.0
    """The longest `max_speech_time_ms` that a client may ask for."""
    max_speech_pad_ms: float = 5_000.0
    """The longest `pre_speech_pad_ms` and `post_speech_pad_ms` that a client may ask for."""
    max_redemption_ms: float = 10_000.0
    """The longest `redemption_time_ms` that a client may ask for."""

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
        """The share of `max_session_bytes` for speech that goes on, its interims, and pieces that are not complete."""
        return self.max_session_bytes * 3 // 4

    @property
    def max_raw_bytes(self) -> int:
        """The share of `max_session_bytes` for speech that goes on and could be smaller, were it decoded."""
        return self.max_session_bytes // 16

    @property
    def max_taken_bytes(self) -> int:
        """The share of `max_session_bytes` for audio that is converted at once, in its larger form."""
        return self.max_session_bytes // 16

    @property
    def max_job_bytes(self) -> int:
        """The share of `max_session_bytes` for finals and pieces that the model has."""
        return self.max_session_bytes // 4

    def announced(self) -> Mapping[str, float]:
        """The part a client wants to know, as `started` tells it."""
        return {
            "max_audio_message_bytes": self.max_audio_message_bytes,
            "max_control_bytes": self.max_control_bytes,
            "idle_timeout_s": self.idle_timeout_s,
            "max_stream_s": self.max_stream_s,
            "audio_ahead_s": self.audio_ahead_s,
        }


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Everything a session is built from; the same for every session of one endpoint."""

    mode: Mode
    model: str = "stub"
    model_sample_rate: int = 16_000
    stateful: bool = False
    """A StreamingModel: one piece per channel at a time, and no interims (they would disturb the state)."""
    max_inflight: int = 4
    """Pieces of one channel that may run side by side in simple mode."""
    vad: VadConfig = field(default_factory=VadConfig)
    interim_interval_ms: int = 500
    min_interim_interval_ms: int = 200
    min_piece_ms: int = 100
    max_piece_ms: int = 10_000
    stall_timeout_s: float = 2.0
    """Open speech ends when no audio has come for so long (0: never, for files)."""
    lag_warning_s: float = 5.0
    """A result that takes longer from its audio's end makes a warning."""
    retry_after_s: float = 5.0
    """Seconds after which a client that was ended for load may come back."""
    containers: frozenset[Container] = frozenset(Container)
    """Of compressed audio, those that are served."""
    limits: Limits = field(default_factory=Limits)

    def started(self, session_id: str, traceparent: str | None) -> Started:
        """Return the first event of a session."""
        return Started(
            session_id=session_id,
            mode=self.mode,
            model=self.model,
            model_sample_rate=self.model_sample_rate,
            limits=self.limits.announced(),
            traceparent=traceparent,
        )
