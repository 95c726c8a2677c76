"""Items of a Realtime session: the transcript of a turn, and its text for clients that can only append."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from streamer.protocols.openai.faults import RequestFault
from streamer.transcripts.stability import Agreement
from streamer.transcripts.transcript import Transcript, Word

_PUNCTUATION = ".,;:!?…\"'()-"


class AppendedText:
    """The deltas of one item. Words are appended once no later interim changes them, and are never taken back."""

    def __init__(self) -> None:
        self._is_empty = True
        self._agreement = Agreement()
        self._appended: tuple[str, ...] = ()
        """Words of the running segment that were appended."""

    def interim(self, transcript: Transcript) -> str:
        """Return the delta for an interim: the words that have become stable."""
        if transcript.stable is None:
            self._agreement = self._agreement.update(transcript.text.split())
            stable = self._agreement.stable
        else:
            stable = tuple(transcript.text[: transcript.stable].split())
        return self._append(stable)

    def final(self, transcript: Transcript) -> str:
        """Return the delta for a final: the rest of its text, or nothing if its words contradict the appended ones."""
        words, appended = transcript.text.split(), self._appended
        count = len(appended)
        is_agreed = [_bare(word) for word in words[:count]] == [_bare(word) for word in appended]
        delta = ""
        if is_agreed:
            if count and words[count - 1].startswith(appended[-1]):  # a final has a full stop that interims lack
                delta = words[count - 1].removeprefix(appended[-1])
            delta += self._joined(words[count:])
        self._agreement, self._appended = Agreement(), ()
        return delta

    def _append(self, words: Sequence[str]) -> str:
        count = len(self._appended)
        if tuple(words[:count]) != self._appended:
            return ""
        self._appended = tuple(words)
        return self._joined(words[count:])

    def _joined(self, words: Sequence[str]) -> str:
        """Return words for appending: with a space in front of all but the first ones."""
        if not words:
            return ""
        text = " ".join(words)
        if not self._is_empty:
            text = f" {text}"
        self._is_empty = False
        return text


def _bare(word: str) -> str:
    """Return a word without its case and the punctuation around it."""
    return word.strip(_PUNCTUATION).casefold()


@dataclass(slots=True)
class RealtimeItem:
    """One turn. `samples`: of its speech, at the model's rate. `is_dropped`: its results go to nobody."""

    id: str
    text: AppendedText = field(default_factory=AppendedText)
    texts: list[str] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    samples: int = 0
    fault: RequestFault | None = None
    is_dropped: bool = False
    is_cleared: bool = False
    """It began before a clear that ends it."""
    is_committed: bool = False

    @property
    def transcript(self) -> str:
        """Text of the whole turn."""
        return " ".join(self.texts)

    @property
    def has_result(self) -> bool:
        """Whether anything was said in it, or was lost."""
        return bool(self.texts) or self.fault is not None

    def add(self, transcript: Transcript, samples: int) -> str:
        """Add the final of a segment; return the delta."""
        self.samples += samples
        self.words += transcript.words
        if transcript.text:
            self.texts.append(transcript.text)
        return self.text.final(transcript)
