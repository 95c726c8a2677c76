"""Captions that read well, from words and their times.

The rules are those of broadcasters: at most two lines of at most 42 characters, split where a sentence or a clause
ends, on screen for a second at least and seven at most, one cue at a time. Netflix, Timed Text Style Guide: English (42
characters a line, two lines, 7 s at most); BBC, Subtitle Guidelines (two lines, breaks at clauses, at least a second or
so even for a single word).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from streamer.transcripts.transcript import Word

LINE = 42
"""Characters of a line."""
LINES = 2
MIN_S = 1.0
MAX_S = 7.0
_PAUSE_S = 1.5
"""A pause between two words after which another cue begins."""
_SENTENCE = (".", "?", "!", "…", "。", "\uff1f", "\uff01")  # the last two are the wide forms of ? and !
_CLAUSE = (*_SENTENCE, ",", ";", ":", "、")


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines that stand on screen from `start_time` to `end_time`, in seconds."""

    start_time: float
    end_time: float
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def cues(words: Sequence[Word]) -> list[Cue]:
    """Return the captions of words in the order of their times. Every word is in one cue; cues do not overlap.

    A word longer than a line is cut.
    """
    result: list[Cue] = []
    for group in _groups([part for word in words for part in _cut(word)]):
        start = max(group[0].start_time, result[-1].end_time if result else 0.0)
        end = max(group[-1].end_time, start + MIN_S)
        result.append(Cue(round(start, 3), round(end, 3), _lines([word.word for word in group])))
    return [_shortened(cue, after) for cue, after in pairwise(result)] + result[-1:]


def _shortened(cue: Cue, after: Cue) -> Cue:
    """Return the cue with its end limited to the start of the next cue."""
    return Cue(cue.start_time, min(cue.end_time, after.start_time), cue.lines)


def _cut(word: Word) -> Iterator[Word]:
    """Yield the word in pieces that fit a line, with its time shared out."""
    text = word.word.strip()
    count = -(-len(text) // LINE)
    length = (word.end_time - word.start_time) / max(1, count)
    for index in range(count):
        start = word.start_time + index * length
        yield Word(text[index * LINE : (index + 1) * LINE], start, start + length)


def _groups(words: Sequence[Word]) -> Iterator[list[Word]]:
    """Yield the words of each cue."""
    group: list[Word] = []
    for word in words:
        if group and not _goes_on(group, word):
            complete, group = _at_clause(group, word)
            yield complete
            if group and not _goes_on(group, word):
                yield group
                group = []
        group.append(word)
    if group:
        yield group


def _goes_on(group: Sequence[Word], word: Word) -> bool:
    """Whether a word still belongs to the cue of the words before it."""
    last = group[-1]
    if word.start_time - last.end_time > _PAUSE_S or word.end_time - group[0].start_time > MAX_S:
        return False
    if last.word.endswith(_SENTENCE) and last.end_time - group[0].start_time >= MIN_S:
        return False
    return len(_lines([*(part.word for part in group), word.word])) <= LINES


def _at_clause(group: list[Word], word: Word) -> tuple[list[Word], list[Word]]:
    """Split a cue that is full after its last clause, when a clause ends in its second half and fills a second."""
    if word.start_time - group[-1].end_time > _PAUSE_S or group[-1].word.endswith(_CLAUSE):
        return group, []
    for index in range(len(group) - 1, len(group) // 2, -1):
        if group[index - 1].word.endswith(_CLAUSE) and group[index - 1].end_time - group[0].start_time >= MIN_S:
            return group[:index], group[index:]
    return group, []


def _lines(words: Sequence[str]) -> tuple[str, ...]:
    """Return the words in as few lines as possible; two lines are split after a clause, or about equally."""
    text = " ".join(words)
    if len(text) <= LINE:
        return (text,)
    fitting = [
        (" ".join(words[:at]), " ".join(words[at:]))
        for at in range(1, len(words))
        if len(" ".join(words[:at])) <= LINE and len(" ".join(words[at:])) <= LINE
    ]
    if fitting:
        return min(fitting, key=lambda lines: abs(len(lines[0]) - len(lines[1])) - 12 * lines[0].endswith(_CLAUSE))
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > LINE:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return tuple(lines)
