"""The messages of Speechmatics' real-time protocol on the wire. Times are seconds of the stream."""

from __future__ import annotations

from typing import Any

import msgspec


class Spoken(msgspec.Struct, frozen=True, tag_field="message", omit_defaults=True):
    """Base of messages in both directions. Unknown fields are ignored, as there."""


class SourceFormat(msgspec.Struct, frozen=True):
    """Format of the audio. `type`: `raw`, with `encoding` and `sample_rate` in Hz; or `file`, which is sniffed."""

    type: str
    encoding: str | None = None
    sample_rate: int | None = None


class ConversationConfig(msgspec.Struct, frozen=True):
    """`end_of_utterance_silence_trigger`: seconds of silence that end an utterance; 0 for no EndOfUtterance."""

    end_of_utterance_silence_trigger: float | None = None


class RecognitionConfig(msgspec.Struct, frozen=True):
    """The part of `transcription_config` that has an effect; None for no change."""

    language: str | None = None
    enable_partials: bool | None = None
    diarization: str | None = None
    conversation_config: ConversationConfig | None = None
    channel_diarization_labels: tuple[str, ...] | None = None
    """Names of the channels of a session that has them."""


class StartRecognition(Spoken, frozen=True, tag="StartRecognition"):
    """Begin the session."""

    audio_format: SourceFormat
    transcription_config: dict[str, Any]
    translation_config: dict[str, Any] | None = None
    audio_events_config: dict[str, Any] | None = None


class SetRecognitionConfig(Spoken, frozen=True, tag="SetRecognitionConfig"):
    """Change settings from now on."""

    transcription_config: dict[str, Any]


class EndOfStream(Spoken, frozen=True, tag="EndOfStream"):
    """End the session after all audio. `last_seq_no`: number of the messages with audio."""

    last_seq_no: int | None = None


class ForceEndOfUtterance(Spoken, frozen=True, tag="ForceEndOfUtterance"):
    """End the utterances here. `channel`: one of the named channels."""

    channel: str | None = None


class GetSpeakers(Spoken, frozen=True, tag="GetSpeakers"):
    """Ask for the speakers that were told apart."""


class AddChannelAudio(Spoken, frozen=True, tag="AddChannelAudio"):
    """Audio of a named channel. `data`: in base64."""

    channel: str
    data: str


class EndOfChannel(Spoken, frozen=True, tag="EndOfChannel"):
    """The end of a named channel. `last_seq_no`: number of its messages."""

    channel: str
    last_seq_no: int | None = None


RecognitionMessage = (
    StartRecognition
    | SetRecognitionConfig
    | EndOfStream
    | ForceEndOfUtterance
    | GetSpeakers
    | AddChannelAudio
    | EndOfChannel
)


class LanguagePackInfo(msgspec.Struct, frozen=True):
    """How the text of a language is written."""

    language_description: str
    word_delimiter: str = " "
    writing_direction: str = "left-to-right"
    adapted: bool = False
    itn: bool = False


class RecognitionStarted(Spoken, frozen=True, tag="RecognitionStarted"):
    """The session has begun."""

    id: str
    orchestrator_version: str
    language_pack_info: LanguagePackInfo
    channel_ids: tuple[str, ...] | None = None
    """Names of the channels."""


class AudioAdded(Spoken, frozen=True, tag="AudioAdded"):
    """The answer to each message with audio, counted from 1."""

    seq_no: int


class ChannelAudioAdded(Spoken, frozen=True, tag="ChannelAudioAdded"):
    """The answer to each message with audio of a named channel, counted from 1 for each."""

    channel: str
    seq_no: int


class Alternative(msgspec.Struct, frozen=True, omit_defaults=True):
    """One reading of a result; the only one here."""

    content: str
    confidence: float
    language: str | None = None
    speaker: str | None = None


class RecognitionResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """A word, or a punctuation mark that is written without a space before it. `channel`: its name, if it has one."""

    type: str
    start_time: float
    end_time: float
    alternatives: list[Alternative]
    attaches_to: str | None = None
    is_eos: bool | None = None
    channel: str | None = None


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """The range of an event. `transcript` ends with the word delimiter, because clients join them."""

    start_time: float
    end_time: float
    transcript: str | None = None


class AddTranscript(Spoken, frozen=True, tag="AddTranscript"):
    """A final."""

    metadata: Metadata
    results: list[RecognitionResult]
    format: str
    channel: str | None = None


class AddPartialTranscript(Spoken, frozen=True, tag="AddPartialTranscript"):
    """An interim, which the next one or the final replaces."""

    metadata: Metadata
    results: list[RecognitionResult]
    format: str
    channel: str | None = None


class EndOfUtterance(Spoken, frozen=True, tag="EndOfUtterance"):
    """The utterance has ended, by silence or because the client asked."""

    metadata: Metadata
    channel: str | None = None


class EndOfTranscript(Spoken, frozen=True, tag="EndOfTranscript"):
    """The last event of a session that the client ended."""


class SpeakersResult(Spoken, frozen=True, tag="SpeakersResult"):
    """The answer to GetSpeakers."""

    speakers: tuple[()]


class RecognitionWarning(Spoken, frozen=True, tag="Warning"):
    """Something that ends nothing."""

    type: str
    reason: str


class RecognitionError(Spoken, frozen=True, tag="Error"):
    """An error; the close follows."""

    type: str
    reason: str
