"""Word and character error rates, after the normalisation that makes spellings comparable."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from streamer.errors import BadRequest

Normalise = Callable[[str], str]
Change = Literal["equal", "substitute", "insert", "delete"]


class Counts(msgspec.Struct, frozen=True):
    """Errors against a reference of `total` words or characters."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    total: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors of all that was said; nothing said and something heard is 1."""
        return self.errors / self.total if self.total else float(self.errors > 0)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.total + other.total,
        )


class Difference(msgspec.Struct, frozen=True):
    """A stretch of words: those of the reference, and those heard in their place."""

    change: Change
    reference: str
    heard: str


class Accuracy(msgspec.Struct, frozen=True):
    """How one text was heard."""

    words: Counts
    characters: Counts
    differences: list[Difference]


def normaliser(name: str) -> Normalise:
    """Return a normaliser: `english` (Whisper's: numbers, spellings, short forms), `basic` (case, marks) or `none`.

    Raises BadRequest when whisper-normalizer is not installed or the name is unknown.
    """
    if name == "none":
        return lambda text: " ".join(text.split())
    if name not in ("english", "basic"):
        raise BadRequest(field="--normaliser", expected="english, basic or none", got=name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how it is written
            from whisper_normalizer import basic, english  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise _missing("whisper-normalizer") from error
    normalise: Normalise = english.EnglishTextNormalizer() if name == "english" else basic.BasicTextNormalizer()
    return lambda text: " ".join(normalise(text).split())


def compare(reference: str, heard: str, normalise: Normalise) -> Accuracy:
    """Compare what was heard with what was said. Raises BadRequest when jiwer is not installed."""
    try:
        import jiwer  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise _missing("jiwer") from error
    said, got = normalise(reference), normalise(heard)
    if not said:  # jiwer wants a reference
        differences = [Difference("insert", "", got)] if got else []
        return Accuracy(Counts(insertions=len(got.split())), Counts(insertions=len(got)), differences)
    words, characters = jiwer.process_words(said, got), jiwer.process_characters(said, got)
    return Accuracy(_counts(words), _counts(characters), _differences(words))


def _counts(output: Any) -> Counts:
    total = output.hits + output.substitutions + output.deletions
    return Counts(output.substitutions, output.deletions, output.insertions, total)


def _differences(output: Any) -> list[Difference]:
    said: Sequence[str] = output.references[0]
    got: Sequence[str] = output.hypotheses[0]
    return [
        Difference(
            chunk.type,
            " ".join(said[chunk.ref_start_idx : chunk.ref_end_idx]),
            " ".join(got[chunk.hyp_start_idx : chunk.hyp_end_idx]),
        )
        for chunk in output.alignments[0]
    ]


def _missing(package: str) -> BadRequest:
    return BadRequest(f"{package} is not installed: pip install 'streamer[evaluate]'")
