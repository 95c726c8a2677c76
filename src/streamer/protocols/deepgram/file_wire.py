"""Wire format of the answer to a file, in Deepgram's own names. Times in seconds."""

from __future__ import annotations

import msgspec

from streamer.protocols.deepgram.listen_wire import ListenModel, ListenWord


class Sentence(msgspec.Struct):
    """A sentence of a paragraph: here the text of one utterance."""

    text: str
    start: float
    end: float


class Paragraph(msgspec.Struct):
    """Sentences between two long pauses: here one utterance."""

    sentences: list[Sentence]
    num_words: int
    start: float
    end: float


class Paragraphs(msgspec.Struct):
    """The paragraphs of a transcript, and their text with an empty line between them."""

    transcript: str
    paragraphs: list[Paragraph]


class FileAlternative(msgspec.Struct, omit_defaults=True):
    """The whole transcript of one channel."""

    transcript: str
    confidence: float
    words: list[ListenWord]
    languages: list[str] | None = None
    paragraphs: Paragraphs | None = None


class FileChannel(msgspec.Struct, omit_defaults=True):
    """One channel of a file."""

    alternatives: list[FileAlternative]
    detected_language: str | None = None


class Utterance(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One utterance of a file."""

    start: float
    end: float
    confidence: float
    channel: int
    transcript: str
    words: list[ListenWord]
    speaker: int | None = None
    id: str


class FileMetadata(msgspec.Struct):
    """The request, its audio and the model."""

    transaction_key: str
    request_id: str
    sha256: str
    created: str
    duration: float
    channels: int
    models: list[str]
    model_info: dict[str, ListenModel]


class FileResults(msgspec.Struct, omit_defaults=True):
    """The channels of a file, and their utterances in the order of their starts if they were asked for."""

    channels: list[FileChannel]
    utterances: list[Utterance] | None = None


class FileResponse(msgspec.Struct):
    """The answer to a file."""

    metadata: FileMetadata
    results: FileResults
