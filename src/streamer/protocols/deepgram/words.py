"""Transcripts as alternatives of `/v1/listen`."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import category

from streamer.protocols.deepgram.listen_wire import ListenAlternative, ListenWord
from streamer.transcripts.transcript import Transcript, Word, words_of

CERTAIN = 1.0
"""Confidence of what the model gives none for: clients discard what is below their threshold."""


class Speakers:
    """Numbers of the speakers of one stream, in the order in which they spoke."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str | None) -> int | None:
        """Return the number of a speaker; None for no speaker."""
        return None if name is None else self._numbers.setdefault(name, len(self._numbers))


def bare(word: Word) -> str:
    """Return a word in lower case, without the punctuation around it."""
    if word.spoken is not None:
        return word.spoken
    text = word.word.strip()
    first, last = 0, len(text)
    while first < last and _is_mark(text[first]):
        first += 1
    while first < last and _is_mark(text[last - 1]):
        last -= 1
    return (text[first:last] or text).lower()


def _is_mark(char: str) -> bool:
    return category(char).startswith("P")


def alternative_of(
    transcript: Transcript, start_s: float, end_s: float, speakers: Speakers | None, *, names_languages: bool
) -> ListenAlternative:
    """Return the alternative of a transcript of [start_s, end_s). `speakers`: None if words have no speakers."""
    if not transcript.text:
        return ListenAlternative("", 0.0, [])
    sure = CERTAIN if transcript.confidence is None else transcript.confidence
    words = [
        ListenWord(
            bare(word),
            word.start_time,
            word.end_time,
            sure if word.confidence is None else word.confidence,
            word.word.strip(),
            word.language if names_languages else None,
            speakers.number(word.speaker) if speakers is not None else None,
        )
        for word in words_of(transcript, start_s, end_s)
    ]
    languages = _languages(transcript) if names_languages else None
    return ListenAlternative(transcript.text, sure, words, languages)


def _languages(transcript: Transcript) -> list[str] | None:
    """Return the languages of a transcript, that of the most words first; None if the model gave none."""
    counts: dict[str, int] = {}
    for name in (word.language for word in transcript.words):
        if name is not None:
            counts[name] = counts.get(name, 0) + 1
    found: Sequence[str] = sorted(counts, key=lambda name: -counts[name])
    if not found and transcript.language is not None:
        found = [transcript.language]
    return list(found) or None
