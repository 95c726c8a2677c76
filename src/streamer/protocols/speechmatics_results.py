"""Transcripts as the results of Speechmatics: words, and the punctuation that is attached to them."""

from __future__ import annotations

from streamer.protocols.speechmatics_wire import Alternative, RecognitionResult
from streamer.transcripts.transcript import Transcript, Word, words_of

_ENDS = frozenset(".!?\u3002\uff01\uff1f\u2026\u061f\u0964")
"""Marks that end a sentence, also those of Chinese, Japanese, Arabic and Hindi."""
_MARKS = _ENDS | frozenset(",;:\uff0c\u3001\uff1b\uff1a\u060c")
_WITHOUT_SPACES = frozenset({"zh", "cmn", "yue", "ja", "th", "lo", "km", "my"})
"""Languages that are written without spaces between words."""


def delimiter_of(language: str) -> str:
    """Return the text between two words of a language (BCP 47)."""
    return "" if language.partition("-")[0].partition("_")[0].lower() in _WITHOUT_SPACES else " "


def results_of(
    transcript: Transcript,
    start_time: float,
    end_time: float,
    *,
    language: str,
    speaker: str | None,
    channel: str | None = None,
) -> list[RecognitionResult]:
    """Return the results of a segment in [start_time, end_time).

    `language`: of words that have no other; empty if it is unknown. `speaker`: of words without one; None if the client
    wants no speakers. `channel`: the name of the segment's channel.
    """
    results: list[RecognitionResult] = []
    for word in words_of(transcript, start_time, end_time):
        bare = word.word.rstrip("".join(_MARKS))
        marks = word.word[len(bare) :]
        if bare:
            results.append(_result("word", word.start_time, word.end_time, bare, word, language, speaker, channel))
        for mark in marks:
            result = _result("punctuation", word.end_time, word.end_time, mark, word, language, speaker, channel)
            results.append(result)
    return results


def _result(
    type_: str,
    start: float,
    end: float,
    content: str,
    word: Word,
    language: str,
    speaker: str | None,
    channel: str | None,
) -> RecognitionResult:
    confidence = 1.0 if word.confidence is None else word.confidence
    who = None if speaker is None else word.speaker or speaker
    alternative = Alternative(content, confidence, word.language or language or None, who)
    if type_ == "word":
        return RecognitionResult(type_, start, end, [alternative], channel=channel)
    is_end = True if content in _ENDS else None
    alternatives = [alternative]
    return RecognitionResult(type_, start, end, alternatives, attaches_to="previous", is_eos=is_end, channel=channel)
