"""One shape of transcript for models, dialects, captions, the page and the clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

_DIGITS = 3
"""Decimals of a time: a millisecond is finer than any recogniser is."""


class Word(msgspec.Struct, omit_defaults=True):
    """One word of a transcript.

    `word`: as it stands in the text, with its case and punctuation. `start_time`, `end_time`: seconds. `confidence`:
    from 0 to 1. `spoken`: bare and in lower case. `language`: BCP 47.
    """

    word: str
    start_time: float
    end_time: float
    confidence: float | None = None
    spoken: str | None = None
    speaker: str | None = None
    language: str | None = None


class Transcript(msgspec.Struct, omit_defaults=True):
    """The words of a piece of audio; only `text` is required.

    A `Model` counts the times of `words` from the beginning of its segment, and the engine adds the segment's place in
    the stream. A `StreamingModel` counts them from the beginning of the stream. `confidence`: from 0 to 1. `language`:
    BCP 47. `stable`: characters of `text` that no later interim of this segment changes. `endpoint`: this piece ends an
    utterance (streaming models on `simple`). `extra`: JSON that only some clients ask for, such as `no_speech_prob`.
    """

    text: str
    words: list[Word] = []
    confidence: float | None = None
    language: str | None = None
    stable: int | None = None
    endpoint: bool | None = None
    extra: dict[str, Any] = {}


def shift_words(transcript: Transcript, seconds: float) -> Transcript:
    """Return the transcript with `seconds` added to the times of its words, which are rounded to milliseconds."""
    if not transcript.words:
        return transcript
    words = [
        replace(
            word,
            start_time=round(word.start_time + seconds, _DIGITS),
            end_time=round(word.end_time + seconds, _DIGITS),
        )
        for word in transcript.words
    ]
    return replace(transcript, words=words)


def estimate_words(text: str, start_time: float, end_time: float) -> list[Word]:
    """Return the words of `text` with times shared out over [start_time, end_time) by their length in characters.

    For recognisers that give no times of words.
    """
    parts = text.split()
    total = sum(len(part) for part in parts)
    words, before = [], 0
    for part in parts:
        begin = start_time + (end_time - start_time) * before / total
        before += len(part)
        end = start_time + (end_time - start_time) * before / total
        words.append(Word(part, round(begin, _DIGITS), round(end, _DIGITS)))
    return words


def words_of(transcript: Transcript, start_time: float, end_time: float) -> Sequence[Word]:
    """Return the words that the model gave, or estimated ones when it gave none."""
    return transcript.words or estimate_words(transcript.text, start_time, end_time)


def read_transcript(output: object) -> Transcript | None:
    """Read a model's output, as JSON values, as a transcript; None when it is not one.

    A string is a transcript with that text. Unknown fields of an object are ignored. `text` is trimmed.
    """
    if isinstance(output, str):
        return Transcript(output.strip())
    try:
        transcript = msgspec.convert(output, Transcript)
    except msgspec.ValidationError:
        return None
    transcript.text = transcript.text.strip()
    return transcript
