"""Settings of a Realtime session: changed by its client, shown to it, and translated to the words of the core."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import UnsetType
from msgspec.structs import asdict, replace

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import BadRequest
from streamer.protocols.openai.file_request import TurnFloor, lower_threshold
from streamer.protocols.openai.realtime_wire import (
    AudioInput,
    NoiseReduction,
    RealtimeFormat,
    SessionPatch,
    Transcription,
    TurnDetection,
)
from streamer.session.messages import Configure, Start, VadOverrides
from streamer.session.settings import Limits

LOGPROBS = "item.input_audio_transcription.logprobs"
PROGRESS_MS = 1
"""A report of the progress of speech detection after each piece of audio, however short."""
_PCM_RATE, _TELEPHONE_RATE = 24_000, 8_000
_ENCODINGS = {"audio/pcm": Encoding.PCM_S16LE, "audio/pcmu": Encoding.MULAW, "audio/pcma": Encoding.ALAW}
_BETA_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
_SILENCE_MS = {"low": 1_200, "medium": 700, "auto": 700, "high": 400}
"""Silence that ends a turn, by eagerness; a turn that has not ended by its words waits longer (`turn.model`)."""
_SERVER_VAD = TurnDetection("server_vad", threshold=0.5, prefix_padding_ms=300, silence_duration_ms=500)
_SEMANTIC_VAD = TurnDetection("semantic_vad", eagerness="auto")
_INPUT = "session.audio.input"
ValueT = TypeVar("ValueT")


class RealtimeSettings(msgspec.Struct, frozen=True):
    """Settings of one session. `turn_detection`: None if the client commits."""

    format: RealtimeFormat = RealtimeFormat("audio/pcm", _PCM_RATE)
    transcription: Transcription | None = None
    noise_reduction: NoiseReduction | None = None
    turn_detection: TurnDetection | None = _SERVER_VAD
    include: tuple[str, ...] = ()
    known_options: tuple[str, ...] = ()
    """Names of the options that the model reads."""

    @property
    def audio_format(self) -> AudioFormat:
        """Format of the audio. Raises InvalidFormat."""
        return AudioFormat(_ENCODINGS[self.format.type], self.rate, 1).check()

    @property
    def rate(self) -> int:
        """Sample rate of the audio in Hz."""
        if self.format.rate is not None:
            return self.format.rate
        return _PCM_RATE if self.format.type == "audio/pcm" else _TELEPHONE_RATE

    @property
    def options(self) -> bytes:
        """JSON object for the model."""
        hints = self.transcription
        values = {} if hints is None else {"language": hints.language, "prompt": hints.prompt}
        return msgspec.json.encode(
            {name: value for name, value in values.items() if value and name in self.known_options}
        )

    @property
    def vad(self) -> VadOverrides:
        """Endpointing. A client that commits by itself leaves it to the server."""
        turn = self.turn_detection
        if turn is None:
            return VadOverrides()
        if turn.type == "semantic_vad":
            silence_ms = _SILENCE_MS[turn.eagerness or "auto"]
            return VadOverrides(redemption_time_ms=silence_ms)
        return VadOverrides(
            positive_speech_threshold=turn.threshold,
            negative_speech_threshold=None if turn.threshold is None else lower_threshold(turn.threshold),
            pre_speech_pad_ms=turn.prefix_padding_ms,
            redemption_time_ms=turn.silence_duration_ms,
        )

    def start(self) -> Start:
        """Return the start of the stream."""
        return Start(
            self.audio_format, interim_results=True, vad=self.vad, options=self.options, progress_ms=PROGRESS_MS
        )

    def configure(self) -> Configure:
        """Return the change of the running stream."""
        return Configure(self.vad, interim_results=True, options=self.options)

    def raised(self, floor: TurnFloor) -> RealtimeSettings:
        """Return settings whose turns are not below the floor."""
        turn = self.turn_detection
        if turn is None or turn.type == "semantic_vad":
            return self
        turn = replace(
            turn,
            prefix_padding_ms=max(turn.prefix_padding_ms or 0, floor.prefix_padding_ms),
            silence_duration_ms=max(turn.silence_duration_ms or 0, floor.silence_duration_ms),
        )
        return replace(self, turn_detection=turn)

    def updated(self, patch: SessionPatch, limits: Limits, floor: TurnFloor) -> RealtimeSettings:
        """Return the settings after a change. Raises StreamerError, naming the field."""
        changes = _input_of(patch)
        settings = replace(
            self,
            format=_given(changes.format, self.format) or RealtimeFormat("audio/pcm", _PCM_RATE),
            transcription=_merged(changes.transcription, self.transcription),
            noise_reduction=_given(changes.noise_reduction, self.noise_reduction),
            turn_detection=_turn_detection(changes.turn_detection, self.turn_detection),
            include=self.include if isinstance(patch.include, UnsetType) else tuple(patch.include or ()),
        )
        settings.audio_format  # noqa: B018 (raises)
        _check(settings, limits)
        return settings.raised(floor)

    def shown(self) -> dict[str, Any]:
        """Return the settings for the client."""
        return {
            "type": "transcription",
            "object": "realtime.transcription_session",
            "audio": {
                "input": {
                    "format": {"type": self.format.type} | ({"rate": self.rate} if self._is_pcm else {}),
                    "transcription": _shown(self.transcription),
                    "noise_reduction": _shown(self.noise_reduction),
                    "turn_detection": _shown(self.turn_detection),
                }
            },
            "include": list(self.include) or None,
        }

    def shown_to_beta(self) -> dict[str, Any]:
        """Return the settings in the words of the beta."""
        names = {kind: name for name, kind in _BETA_FORMATS.items()}
        return {
            "object": "realtime.transcription_session",
            "input_audio_format": names[self.format.type],
            "input_audio_transcription": _shown(self.transcription),
            "input_audio_noise_reduction": _shown(self.noise_reduction),
            "turn_detection": _shown(self.turn_detection),
            "include": list(self.include) or None,
        }

    @property
    def _is_pcm(self) -> bool:
        return self.format.type == "audio/pcm"


def _input_of(patch: SessionPatch) -> AudioInput:
    """Return the changes of the audio from either place."""
    if isinstance(patch.audio, UnsetType) or patch.audio is None:
        beta = patch.input_audio_format
        named = beta if isinstance(beta, UnsetType) or beta is None else RealtimeFormat(_BETA_FORMATS[beta])  # type: ignore[arg-type]
        return AudioInput(
            named, patch.input_audio_transcription, patch.input_audio_noise_reduction, patch.turn_detection
        )
    return patch.audio.input


def _given(new: ValueT | UnsetType, old: ValueT) -> ValueT:
    return old if isinstance(new, UnsetType) else new


def _merged(new: Transcription | UnsetType | None, old: Transcription | None) -> Transcription | None:
    """Return the hints with those that are given in place of the old ones."""
    if isinstance(new, UnsetType):
        return old
    if new is None or old is None:
        return new
    return replace(old, **{name: value for name, value in asdict(new).items() if value is not None})


def _turn_detection(new: TurnDetection | UnsetType | None, old: TurnDetection | None) -> TurnDetection | None:
    if isinstance(new, UnsetType):
        return old
    if new is None:
        return None
    defaults = _SERVER_VAD if new.type == "server_vad" else _SEMANTIC_VAD
    base = old if old is not None and old.type == new.type else defaults
    known = {name for name, value in asdict(defaults).items() if value is not None}
    return replace(base, **{name: value for name, value in asdict(new).items() if name in known and value is not None})


def _shown(part: msgspec.Struct | None) -> dict[str, Any] | None:
    """Return a part of the settings without what it leaves open."""
    return None if part is None else {name: value for name, value in asdict(part).items() if value is not None}


def _check(settings: RealtimeSettings, limits: Limits) -> None:
    """Raise BadRequest for a time above its limit."""
    turn = settings.turn_detection
    if turn is None:
        return
    for name, limit in (
        ("prefix_padding_ms", limits.max_speech_pad_ms),
        ("silence_duration_ms", limits.max_redemption_ms),
    ):
        value = getattr(turn, name)
        if value is not None and value > limit:
            raise BadRequest(field=f"{_INPUT}.turn_detection.{name}", expected=f"at most {limit:g}", got=value)
