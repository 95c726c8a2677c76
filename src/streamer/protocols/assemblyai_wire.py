"""The messages of AssemblyAI's streaming protocol v3 on the wire. Times are whole milliseconds of the stream."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class TurnSettings(msgspec.Struct, frozen=True):
    """Settings that a request makes, and that a client may change in mid-stream; None for no change."""

    format_turns: bool | None = None
    include_partial_turns: bool | None = None
    min_turn_silence: int | None = None
    min_end_of_turn_silence_when_confident: int | None = None
    """The old name of `min_turn_silence`."""
    max_turn_silence: int | None = None
    vad_threshold: float | None = None
    language_codes: list[str] | None = None
    language_code: str | None = None
    prompt: str | None = None
    filter_profanity: bool | None = None

    def merged(self, changes: TurnSettings) -> TurnSettings:
        """Return these settings with the changes made."""
        return msgspec.structs.replace(
            self, **{name: value for name, value in msgspec.structs.asdict(changes).items() if value is not None}
        )


class SessionRequest(TurnSettings, frozen=True, kw_only=True):
    """The query of a request, as far as it has an effect. `sample_rate` in Hz, of PCM."""

    encoding: str = "pcm_s16le"
    sample_rate: int | None = None


class UpdateConfiguration(TurnSettings, frozen=True, tag_field="type", tag="UpdateConfiguration"):
    """Change settings from now on."""


class ForceEndpoint(msgspec.Struct, frozen=True, tag_field="type", tag="ForceEndpoint"):
    """End the turn here."""


class SessionKeepAlive(msgspec.Struct, frozen=True, tag_field="type", tag="KeepAlive"):
    """Reset the idle time-out."""


class Terminate(msgspec.Struct, frozen=True, tag_field="type", tag="Terminate"):
    """End the session."""


SessionMessage = UpdateConfiguration | ForceEndpoint | SessionKeepAlive | Terminate


class Begin(msgspec.Struct, frozen=True, tag_field="type", tag="Begin"):
    """The first event. `expires_at`: seconds since 1970."""

    id: str
    expires_at: int
    configuration: Mapping[str, str]


class VoiceDetected(msgspec.Struct, frozen=True, tag_field="type", tag="SpeechStarted"):
    """Speech started."""

    timestamp: int


class TurnWord(msgspec.Struct, frozen=True):
    """A word of a turn."""

    text: str
    start: int
    end: int
    confidence: float
    word_is_final: bool


class Turn(msgspec.Struct, frozen=True, tag_field="type", tag="Turn", omit_defaults=True):
    """The whole turn so far."""

    turn_order: int
    turn_is_formatted: bool
    end_of_turn: bool
    end_of_turn_confidence: float
    transcript: str
    utterance: str
    words: list[TurnWord]
    language_code: str | None = None


class Termination(msgspec.Struct, frozen=True, tag_field="type", tag="Termination"):
    """The last event of a session that the client ended."""

    audio_duration_seconds: int
    session_duration_seconds: int


class SessionError(msgspec.Struct, frozen=True, tag_field="type", tag="Error"):
    """An error, before the close with the same code."""

    error_code: int
    error: str


class SessionWarning(msgspec.Struct, frozen=True, tag_field="type", tag="Warning"):
    """Something that ends nothing."""

    warning_code: int
    warning: str
