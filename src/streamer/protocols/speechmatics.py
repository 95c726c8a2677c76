"""The codec of Speechmatics' real-time protocol: an answer to each message with audio, and results word by word."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode, InvalidFormat, brief
from streamer.media.formats import Container, MediaFormat, provisional
from streamer.protocols import speechmatics_wire as wire
from streamer.protocols.codec import Reply, Timebase
from streamer.protocols.message_reader import MAX_AUDIO_BYTES, MAX_CONTROL_BYTES, MessageReader, unsupported_format
from streamer.protocols.opening import Opening
from streamer.protocols.small_messages import SmallMessages
from streamer.protocols.speechmatics_channels import NamedChannels, names_of
from streamer.protocols.speechmatics_results import delimiter_of, results_of
from streamer.protocols.transcript import transcript_of
from streamer.session import events
from streamer.session.events import EndReason, Event, FinishReason
from streamer.session.messages import Audio, Configure, Flush, KeepAlive, Malformed, Message, Start, Stop, VadOverrides
from streamer.transcripts.transcript import Transcript

Frame = str | bytes
Steps = Message | list[Message | Reply[Frame]]

FORMAT = "2.9"
"""Version of the form of transcripts."""
INVALID_CONFIG = "invalid_config"
ERROR_TYPES: Mapping[ErrorCode, tuple[str, int]] = MappingProxyType(
    {
        ErrorCode.BAD_REQUEST: ("invalid_message", 1003),
        ErrorCode.WRONG_FRAME_TYPE: ("invalid_message", 1003),
        ErrorCode.INVALID_UTF8: ("invalid_message", 1007),
        ErrorCode.MESSAGE_TOO_BIG: ("invalid_message", 1009),
        ErrorCode.UNKNOWN_MODEL: ("invalid_model", 1003),
        ErrorCode.BAD_STATE: ("protocol_error", 1003),
        ErrorCode.PROTOCOL_ERROR: ("protocol_error", 1002),
        ErrorCode.INVALID_FORMAT: ("invalid_audio_type", 1003),
        ErrorCode.INVALID_AUDIO: ("invalid_audio_type", 1003),
        ErrorCode.UNAUTHENTICATED: ("not_authorised", 4001),
        ErrorCode.TOKEN_EXPIRED: ("not_authorised", 4001),
        ErrorCode.TOKEN_REPLAYED: ("not_authorised", 4001),
        ErrorCode.FORBIDDEN: ("not_allowed", 4003),
        ErrorCode.FORBIDDEN_ORIGIN: ("not_allowed", 4003),
        ErrorCode.START_TIMEOUT: ("idle_timeout", 1008),
        ErrorCode.IDLE_TIMEOUT: ("idle_timeout", 1008),
        ErrorCode.STREAM_TOO_LONG: ("session_timeout", 1008),
        ErrorCode.TOO_FAST: ("quota_exceeded", 4005),
        ErrorCode.RATE_LIMITED: ("quota_exceeded", 4005),
        ErrorCode.OVERLOADED: ("quota_exceeded", 4005),
        ErrorCode.MODEL_ERROR: ("job_error", 4013),
        ErrorCode.MODEL_TIMEOUT: ("job_error", 4013),
        ErrorCode.MODEL_CRASHED: ("job_error", 4013),
        ErrorCode.DRAINING: ("job_error", 1012),
        ErrorCode.SLOW_CONSUMER: ("unknown_error", 1011),
        ErrorCode.INTERNAL: ("unknown_error", 1011),
    }
)
"""Type of the error, and code of the close."""
_ENCODINGS = {"pcm_s16le": Encoding.PCM_S16LE, "pcm_f32le": Encoding.PCM_F32LE, "mulaw": Encoding.MULAW}
_ALWAYS_SENT = frozenset({"model", "operating_point", "max_delay", "max_delay_mode"})
"""Names without effect that every client sends, or that say only how fast finals should come."""
_CHANNEL_DIARIZATIONS = frozenset({"channel", "channel_and_speaker"})
_NO_SPEAKERS = frozenset({"", "none", "channel"})
"""Values of `diarization` for which results have no speakers."""
_NO_LANGUAGE = frozenset({"", "auto", "multi"})


@dataclass(frozen=True, slots=True)
class RecognitionPolicy:
    """Settings of the server. Times in milliseconds. `model_options`: names of the options that the model reads."""

    min_silence_ms: float = 300.0
    max_silence_ms: float = 10_000.0
    refuses_unsupported: bool = False
    version: str = ""
    model_options: tuple[str, ...] = ()


class Speechmatics:
    """Codec of one connection. `sample_rate`: of the model in Hz, the unit of event positions."""

    name: ClassVar[str] = "speechmatics"
    joins_audio: ClassVar[bool] = False
    ends_with_connection: ClassVar[bool] = False

    def __init__(
        self,
        opening: Opening,
        language: str | None,
        policy: RecognitionPolicy,
        sample_rate: int,
        *,
        max_control_bytes: int = MAX_CONTROL_BYTES,
        max_audio_message_bytes: int = MAX_AUDIO_BYTES,
    ) -> None:
        """Create a codec. `language`: that of the path, for a client that names no other."""
        self._opening = opening
        self._policy = policy
        self._clock = Timebase(sample_rate)
        self._encoder = msgspec.json.Encoder()
        self._max_audio = max_audio_message_bytes
        self._reader = _reader_of(max_control_bytes, max_audio_message_bytes)
        self._config = wire.RecognitionConfig(language=language)
        self._is_started = self._is_ended = False
        self._small = SmallMessages()
        self._messages = 0
        """Messages with audio."""
        self._channels: NamedChannels | None = None
        """Named channels of the session; None for one channel in binary messages."""
        self._ends: dict[int, int] = {}
        """End of the last final of each channel, in samples at the model's rate."""
        self._forced: deque[int | None] = deque()
        """Channel of each ForceEndOfUtterance that has not been answered; None for all."""
        self._error_type: str | None = None
        """Type of the error that the codec has returned, if its code does not say it."""

    def begin(self) -> tuple[()]:
        return ()

    def decode(self, frame: Frame) -> Steps:
        if self._is_ended:
            return KeepAlive()
        if not isinstance(frame, str):
            return self._audio(frame)
        message = self._reader.text(frame)
        if isinstance(message, Malformed):
            return replace(message, fatal=True)
        if isinstance(message, wire.StartRecognition):
            return self._start(message)
        if not self._is_started:
            return _out_of_order(f"{type(message).__name__} before StartRecognition")
        return self._control(message)

    def encode(self, event: Event) -> list[Reply[Frame]] | None:  # noqa: PLR0911 (one per event)
        match event:
            case events.Segment():
                return self._segment(event)
            case events.Started():
                return [self._reply(self._started())]
            case events.Flushed():
                return self._ends_of_utterance()
            case events.ErrorEvent(fatal=True):
                type_ = self._error_type or ERROR_TYPES[event.code][0]
                return [self._reply(wire.RecognitionError(type_, event.message))]
            case events.ErrorEvent():
                return [self._reply(wire.RecognitionWarning(ERROR_TYPES[event.code][0], event.message))]
            case events.WarningEvent():
                return [self._reply(wire.RecognitionWarning(event.code.value, event.message))]
            case events.Finished():
                return [self._reply(_last_event(event.reason))]
            case _:
                return None

    # In -----------------------------------------------------------------------------------------

    def _audio(self, frame: bytes) -> Steps:
        if not self._is_started:
            return _out_of_order("audio before StartRecognition")
        if self._channels is not None:
            return _out_of_order("a binary message: expected AddChannelAudio, because the session has named channels")
        audio = self._reader.audio(frame)
        if isinstance(audio, Malformed):
            return audio
        if (refusal := self._small.take(len(frame))) is not None:
            return refusal
        self._messages += 1
        return [audio, self._reply(wire.AudioAdded(self._messages))]

    def _start(self, message: wire.StartRecognition) -> Steps:  # noqa: PLR0911 (one per refusal)
        if self._is_started:
            return _out_of_order("a second StartRecognition: open another connection")
        if message.translation_config is not None:
            return self._wrong_config("translation_config: expected none: this server does not translate")
        ignored = self._without_effect(message)
        if ignored and self._policy.refuses_unsupported:
            text = f"{ignored[0]}: expected no setting without effect (dialects.unsupported_parameters)"
            return self._wrong_config(text)
        refusal = self._merge(message.transcription_config)
        if refusal is not None:
            return refusal
        try:
            names = self._names()
            format_, media = _format(message.audio_format, names)
        except InvalidFormat as error:
            return unsupported_format(error)
        except ValueError as error:
            return self._wrong_config(f"channel_diarization_labels: {error}")
        if names:
            self._channels = NamedChannels(names, format_.encoding)
            self._reader = _reader_of(self._max_audio, self._max_audio)  # audio of named channels is text
        self._is_started = True
        start = Start(
            format_, media=media, interim_results=self._has_partials, vad=self._vad(), options=self._options()
        )
        if not ignored:
            return start
        reason = f"settings without effect here: {', '.join(map(brief, ignored))}"
        return [start, self._reply(wire.RecognitionWarning("unsupported_config", reason))]

    def _control(self, message: wire.RecognitionMessage) -> Steps:  # noqa: PLR0911 (one per message)
        match message:
            case wire.EndOfStream():
                return self._stop()
            case wire.ForceEndOfUtterance(channel=channel):
                return self._force(channel)
            case wire.SetRecognitionConfig(transcription_config=config):
                refusal = self._merge(config)
                if refusal is not None:
                    return refusal
                return Configure(self._vad(), interim_results=self._has_partials, options=self._options())
            case wire.GetSpeakers():
                return [KeepAlive(), self._reply(wire.SpeakersResult(()))]
            case wire.AddChannelAudio() | wire.EndOfChannel() if self._channels is not None:
                return self._channel_message(self._channels, message)
            case _:
                expected = "expected audio in binary messages, because channel_diarization_labels names no channels"
                return Malformed(ErrorCode.FORBIDDEN, f"{type(message).__name__}: {expected}", fatal=True)

    def _force(self, name: str | None) -> Steps:
        """End the utterances of all channels here. `name`: of the only one that the client wants to hear of."""
        index: int | None = None
        if self._channels is not None and name is not None:
            found = self._channels.index_of(name)
            if isinstance(found, Malformed):
                return found
            index = found
        self._forced.append(index)
        return Flush()

    def _channel_message(self, channels: NamedChannels, message: wire.AddChannelAudio | wire.EndOfChannel) -> Steps:
        """Add the audio of a named channel, or end it; the session ends with its last channel."""
        steps: list[Message | Reply[Frame]] = []
        if isinstance(message, wire.EndOfChannel):
            if (refusal := channels.end(message)) is not None:
                return refusal
            if channels.is_ended:
                return self._stop()
        else:
            added = channels.add(message, self._max_audio)
            if isinstance(added, Malformed):
                return added
            if (refusal := self._small.take(added[0])) is not None:
                return refusal
            steps.append(self._reply(added[1]))
        audio = channels.take()
        if isinstance(audio, Malformed):
            return audio
        return [Audio(audio) if audio else KeepAlive(), *steps]

    def _stop(self) -> Steps:
        self._is_ended = True
        if self._channels is None:
            return Stop()
        return [Audio(self._channels.take_all()), Stop()]

    def _merge(self, config: Mapping[str, Any]) -> Malformed | None:
        """Apply a configuration; return the error of one that cannot be read."""
        try:
            changes = msgspec.convert(config, wire.RecognitionConfig)
        except msgspec.ValidationError as error:
            return self._wrong_config(f"transcription_config: {brief(str(error), 160)}")
        present = {name: value for name, value in msgspec.structs.asdict(changes).items() if value is not None}
        merged = msgspec.structs.replace(self._config, **present)
        trigger = _trigger(merged)
        if not 0 <= 1000 * trigger <= self._policy.max_silence_ms:
            expected = f"seconds from 0 to {self._policy.max_silence_ms / 1000:g}"
            return self._wrong_config(f"end_of_utterance_silence_trigger: expected {expected}, got {brief(trigger)}")
        self._config = merged
        return None

    def _without_effect(self, message: wire.StartRecognition) -> list[str]:
        known = {*wire.RecognitionConfig.__struct_fields__, *_ALWAYS_SENT}
        ignored = [name for name in message.transcription_config if name not in known]
        return ignored if message.audio_events_config is None else [*ignored, "audio_events_config"]

    def _wrong_config(self, text: str) -> Malformed:
        self._error_type = INVALID_CONFIG
        return Malformed(ErrorCode.BAD_REQUEST, text, fatal=True)

    def _names(self) -> tuple[str, ...]:
        """Return the names of the channels, empty without. Raises ValueError."""
        labels = self._config.channel_diarization_labels or ()
        return names_of(labels) if self._config.diarization in _CHANNEL_DIARIZATIONS else ()

    @property
    def _has_partials(self) -> bool:
        return bool(self._config.enable_partials)

    def _vad(self) -> VadOverrides:
        trigger = _trigger(self._config)
        silence_ms = max(1000 * trigger, self._policy.min_silence_ms) if trigger else None
        return VadOverrides(redemption_time_ms=silence_ms)

    def _options(self) -> bytes:
        language = self._config.language or ""
        is_read = language not in _NO_LANGUAGE and "language" in self._policy.model_options
        return self._encoder.encode({"language": language}) if is_read else b"{}"

    # Out ----------------------------------------------------------------------------------------

    def _started(self) -> wire.RecognitionStarted:
        language = self._config.language or ""
        info = wire.LanguagePackInfo(language, delimiter_of(language))
        names = None if self._channels is None else self._channels.names
        return wire.RecognitionStarted(self._opening.id, f"streamer {self._policy.version}".strip(), info, names)

    def _segment(self, event: events.Segment) -> list[Reply[Frame]]:
        transcript = transcript_of(event.output) or Transcript("")
        start, end = self._clock.seconds(event.start), self._clock.seconds(event.end)
        language = transcript.language or self._config.language or ""
        speaker = None if (self._config.diarization or "") in _NO_SPEAKERS else "UU"
        name = self._name_of(event.channel)
        results = results_of(transcript, start, end, language=language, speaker=speaker, channel=name)
        text = transcript.text + delimiter_of(language) if transcript.text else ""
        metadata = wire.Metadata(start, end, text)
        if not event.is_final:
            return [self._reply(wire.AddPartialTranscript(metadata, results, FORMAT, name), is_replaceable=True)]
        self._ends[event.channel] = event.end
        final = self._reply(wire.AddTranscript(metadata, results, FORMAT, name))
        by_silence = event.end_reason in (EndReason.SILENCE, EndReason.STALL)
        return [final, self._end_of_utterance(event.channel)] if by_silence and _trigger(self._config) else [final]

    def _ends_of_utterance(self) -> list[Reply[Frame]]:
        """Answer the first ForceEndOfUtterance that waits: for its channel, or for all."""
        only = self._forced.popleft() if self._forced else None
        count = 1 if self._channels is None else len(self._channels.names)
        return [self._end_of_utterance(index) for index in range(count) if only in (None, index)]

    def _end_of_utterance(self, channel: int) -> Reply[Frame]:
        seconds = self._clock.seconds(self._ends.get(channel, 0))
        return self._reply(wire.EndOfUtterance(wire.Metadata(seconds, seconds), self._name_of(channel)))

    def _name_of(self, channel: int) -> str | None:
        return None if self._channels is None else self._channels.names[channel]

    def _reply(self, value: msgspec.Struct, *, is_replaceable: bool = False) -> Reply[Frame]:
        return Reply(self._encoder.encode(value).decode(), is_replaceable)


def _reader_of(max_control_bytes: int, max_audio_bytes: int) -> MessageReader[wire.RecognitionMessage]:
    return MessageReader(
        wire.RecognitionMessage,
        "StartRecognition, SetRecognitionConfig, EndOfStream, ForceEndOfUtterance, GetSpeakers, AddChannelAudio",
        max_control_bytes=max_control_bytes,
        max_audio_message_bytes=max_audio_bytes,
    )


def _format(format_: wire.SourceFormat, names: Sequence[str]) -> tuple[AudioFormat, MediaFormat | None]:
    """Return the format of PCM; or a guess at it, and that of a file. `names`: of channels. Raises InvalidFormat."""
    if format_.type == "file" and not names:
        return provisional(), MediaFormat(Container.AUTO, downmix=True)
    if format_.type != "raw":
        expected = "raw, because the session has named channels" if names else "raw or file"
        raise InvalidFormat(field="audio_format.type", expected=expected, got=format_.type)
    encoding = _ENCODINGS.get(format_.encoding or "")
    if encoding is None:
        raise InvalidFormat(
            field="audio_format.encoding", expected=f"one of {', '.join(_ENCODINGS)}", got=format_.encoding
        )
    if format_.sample_rate is None:
        raise InvalidFormat(field="audio_format.sample_rate", expected="a sample rate in Hz", got=None)
    return AudioFormat(encoding, format_.sample_rate, len(names) or 1).check(), None


def _trigger(config: wire.RecognitionConfig) -> float:
    """Return the silence in seconds that ends an utterance; 0 for the server's, without EndOfUtterance."""
    conversation = config.conversation_config
    return 0.0 if conversation is None else conversation.end_of_utterance_silence_trigger or 0.0


def _out_of_order(text: str) -> Malformed:
    return Malformed(ErrorCode.BAD_STATE, text, fatal=True)


def _last_event(reason: FinishReason) -> msgspec.Struct:
    if reason is FinishReason.DRAINED:
        return wire.RecognitionError(ERROR_TYPES[ErrorCode.DRAINING][0], "the server shuts down: connect again")
    return wire.EndOfTranscript()
