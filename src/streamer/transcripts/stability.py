"""LocalAgreement-2: words that two interims in a row agree on are stable and are never taken back.

Macháček, Dabre, Bojar: Turning Whisper into Real-Time Transcription System (2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from streamer.transcripts.transcript import Transcript, Word, estimate_words

Words = tuple[str, ...]


def agreed(previous: Sequence[str], new: Sequence[str]) -> int:
    """Return how many leading words of `new` are those of `previous`."""
    count = 0
    for old, fresh in zip(previous, new, strict=False):
        if old != fresh:
            break
        count += 1
    return count


@dataclass(frozen=True, slots=True)
class Agreement:
    """The state of one segment: its stable words, and the words of its latest interim."""

    stable: Words = ()
    latest: Words = ()

    def update(self, words: Sequence[str]) -> Agreement:
        """Return the state after another interim with `words`.

        The stable words stay as they are. Words behind them join when both the latest interim and this one have them.
        """
        settled = len(self.stable)
        fresh = tuple(words[settled:])
        joined = agreed(self.latest[settled:], fresh)
        return Agreement(self.stable + fresh[:joined], self.stable + fresh)

    def finish(self, words: Sequence[str]) -> Words:
        """Return the words of the final for clients that can only append: the stable ones, then the rest of `words`."""
        return self.stable + tuple(words[len(self.stable) :])


def steady(agreement: Agreement, interim: Transcript, separator: str = " ") -> tuple[Agreement, Transcript]:
    """Return the state after `interim`, and the interim with its stable words kept and `stable` set.

    `separator`: what stands between two words; empty for languages that are written without, whose words are their
    characters.
    """
    state = agreement.update(_split(interim.text, separator))
    prefix = separator.join(state.stable)
    text = separator.join(state.latest)
    return state, _rewritten(interim, text, state.latest, stable=len(prefix))


def steady_final(agreement: Agreement, final: Transcript, separator: str = " ") -> Transcript:
    """Return the final for clients that can only append: it begins with the stable words of its interims."""
    words = agreement.finish(_split(final.text, separator))
    text = separator.join(words)
    return _rewritten(final, text, words, stable=len(text))


def _split(text: str, separator: str) -> list[str]:
    return text.split() if separator else list(text.strip())


def _rewritten(transcript: Transcript, text: str, words: Words, *, stable: int) -> Transcript:
    """Return the transcript with another text, and with words that fit it when the model gave words."""
    if not transcript.words or text == transcript.text:
        return replace(transcript, text=text, stable=stable)
    return replace(transcript, text=text, stable=stable, words=_timed(words, transcript.words))


def _timed(words: Words, old: Sequence[Word]) -> list[Word]:
    if len(words) == len(old):
        return [
            known if known.word == word else Word(word, known.start_time, known.end_time)
            for word, known in zip(words, old, strict=True)
        ]
    return estimate_words(" ".join(words), old[0].start_time, old[-1].end_time)
