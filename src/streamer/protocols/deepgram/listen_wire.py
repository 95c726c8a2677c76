"""Wire format of `/v1/listen`, in Deepgram's own names. Times in seconds."""

from __future__ import annotations

from typing import Annotated

import msgspec


class ListenKeepAlive(msgspec.Struct, tag="KeepAlive", frozen=True):
    """Reset the idle time-out."""


class Finalize(msgspec.Struct, tag="Finalize", frozen=True):
    """End the running utterance here. `channel`: only this one has to be answered."""

    channel: Annotated[int, msgspec.Meta(ge=0)] | None = None


class CloseStream(msgspec.Struct, tag="CloseStream", frozen=True):
    """Send the last results, then close."""


class Reconfigure(msgspec.Struct, tag="Configure", frozen=True):
    """Change the stream. `keyterms`: replace all of them; None keeps them. `features`: of formatting."""

    keyterms: list[str] | None = None
    features: dict[str, bool] | None = None


ListenMessage = ListenKeepAlive | Finalize | CloseStream | Reconfigure
"""The control messages of a client."""


class ListenWord(msgspec.Struct, omit_defaults=True):
    """`word` is bare and in lower case, `punctuated_word` as in the text. `confidence`: from 0 to 1."""

    word: str
    start: float
    end: float
    confidence: float
    punctuated_word: str | None = None
    language: str | None = None
    speaker: int | None = None


class ListenAlternative(msgspec.Struct, omit_defaults=True):
    """The only alternative of a result."""

    transcript: str
    confidence: float
    words: list[ListenWord]
    languages: list[str] | None = None


class ChannelResult(msgspec.Struct):
    """The alternatives of one channel."""

    alternatives: list[ListenAlternative]


class ListenModel(msgspec.Struct):
    """The served model."""

    name: str
    version: str
    arch: str = "streamer"


class ResultMetadata(msgspec.Struct):
    """The request and the model of a result."""

    request_id: str
    model_info: ListenModel
    model_uuid: str


class Results(msgspec.Struct, tag="Results"):
    """A result for [start, start + duration). `channel_index`: the channel, and the number of channels."""

    channel_index: list[int]
    start: float
    duration: float
    is_final: bool
    speech_final: bool
    channel: ChannelResult
    metadata: msgspec.Raw
    from_finalize: bool


class ListenSpeechStarted(msgspec.Struct, tag="SpeechStarted"):
    """Speech started. `channel`: as `channel_index` of a result."""

    channel: list[int]
    timestamp: float


class UtteranceEnd(msgspec.Struct, tag="UtteranceEnd"):
    """No word has followed the last one for the time that the client asked for."""

    channel: list[int]
    last_word_end: float


class ListenMetadata(msgspec.Struct, tag="Metadata"):
    """Summary of a stream, the last message. `sha256`: of its audio as it came."""

    transaction_key: str
    request_id: str
    sha256: str
    created: str
    duration: float
    channels: int


class ListenError(msgspec.Struct, tag="Error", omit_defaults=True):
    """An error. `message`: the client's message, if that was the error."""

    variant: str
    description: str
    message: str | None = None


class ConfigureSuccess(msgspec.Struct, tag="ConfigureSuccess", omit_defaults=True):
    """A change was applied. `keyterms`: those in effect, if they were changed."""

    request_id: str
    keyterms: list[str] | None = None


class ConfigureFailure(msgspec.Struct, tag="ConfigureFailure"):
    """A change was refused."""

    request_id: str
    code: str
    description: str
