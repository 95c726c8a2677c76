"""Events of a client of the Realtime API on the wire. Fields that are not listed are ignored.

Of the settings, a field that is left out keeps its value, and null clears it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

MAX_EVENT_ID = 512
MAX_PROMPT = 4_000
_Ms = Annotated[int, msgspec.Meta(ge=0, le=600_000)]
_Text = Annotated[str, msgspec.Meta(max_length=64)]


class RealtimeEvent(msgspec.Struct, frozen=True, tag_field="type", kw_only=True):
    """Base of client events. `event_id`: comes back in errors."""

    event_id: Annotated[str, msgspec.Meta(max_length=MAX_EVENT_ID)] | None = None


class RealtimeFormat(msgspec.Struct, frozen=True, omit_defaults=True):
    """Format of the audio. `rate` in Hz."""

    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"
    rate: int | None = None


class Transcription(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hints for the model."""

    model: _Text | None = None
    language: _Text | None = None
    prompt: Annotated[str, msgspec.Meta(max_length=MAX_PROMPT)] | None = None


class TurnDetection(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rules by which the server ends a turn. `eagerness` belongs to `semantic_vad`, the numbers to `server_vad`."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    prefix_padding_ms: _Ms | None = None
    silence_duration_ms: _Ms | None = None
    eagerness: Literal["low", "medium", "high", "auto"] | None = None


class NoiseReduction(msgspec.Struct, frozen=True, omit_defaults=True):
    """Noise reduction, which has no effect here."""

    type: Literal["near_field", "far_field"] | None = None


class AudioInput(msgspec.Struct, frozen=True):
    """Settings of the audio."""

    format: RealtimeFormat | UnsetType | None = UNSET
    transcription: Transcription | UnsetType | None = UNSET
    noise_reduction: NoiseReduction | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET


class SessionAudio(msgspec.Struct, frozen=True):
    """Settings of the audio of a session."""

    input: AudioInput = AudioInput()


BetaFormat = Literal["pcm16", "g711_ulaw", "g711_alaw"]


class SessionPatch(msgspec.Struct, frozen=True):
    """Changes of the settings: nested, or flat with the names of the beta."""

    type: Literal["transcription"] | UnsetType = UNSET
    audio: SessionAudio | UnsetType | None = UNSET
    include: list[str] | UnsetType | None = UNSET
    input_audio_format: BetaFormat | UnsetType | None = UNSET
    input_audio_transcription: Transcription | UnsetType | None = UNSET
    input_audio_noise_reduction: NoiseReduction | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET


class SessionUpdate(RealtimeEvent, frozen=True, kw_only=True, tag="session.update"):
    """Change the settings."""

    session: SessionPatch


class BetaSessionUpdate(RealtimeEvent, frozen=True, kw_only=True, tag="transcription_session.update"):
    """Change the settings, in the words of the beta."""

    session: SessionPatch


class AppendAudio(RealtimeEvent, frozen=True, kw_only=True, tag="input_audio_buffer.append"):
    """Add audio; base64 on the wire."""

    audio: bytes


class CommitAudio(RealtimeEvent, frozen=True, kw_only=True, tag="input_audio_buffer.commit"):
    """Make an item of the audio since the last one."""


class ClearAudio(RealtimeEvent, frozen=True, kw_only=True, tag="input_audio_buffer.clear"):
    """Drop the audio since the last item."""


RealtimeClientEvent = SessionUpdate | BetaSessionUpdate | AppendAudio | CommitAudio | ClearAudio
CLIENT_EVENTS = (
    "session.update",
    "transcription_session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
)
"""Types of client events."""
