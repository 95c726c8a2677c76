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
        """Errors per word or character of the reference; 1 when it is empty and the hypothesis is not."""
        return self.errors / self.total if self.total else float(self.errors > 0)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.total + other.total,
        )


class Difference(msgspec.Struct, frozen=True):
    """A stretch of words: those of the reference, and those of the hypothesis in their place."""

    change: Change
    reference: str
    hypothesis: str


class Accuracy(msgspec.Struct, frozen=True):
    """How one hypothesis compares with its reference."""

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


def compare(reference: str, hypothesis: str, normalise: Normalise) -> Accuracy:
    """Compare a hypothesis with its reference. Raises BadRequest when jiwer is not installed."""
    try:
        import jiwer  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise _missing("jiwer") from error
    expected, found = normalise(reference), normalise(hypothesis)
    if not expected:  # jiwer wants a reference
        differences = [Difference("insert", "", found)] if found else []
        return Accuracy(Counts(insertions=len(found.split())), Counts(insertions=len(found)), differences)
    words, characters = jiwer.process_words(expected, found), jiwer.process_characters(expected, found)
    return Accuracy(_counts(words), _counts(characters), _differences(words))


def _counts(output: Any) -> Counts:
    total = output.hits + output.substitutions + output.deletions
    return Counts(output.substitutions, output.deletions, output.insertions, total)


def _differences(output: Any) -> list[Difference]:
    expected: Sequence[str] = output.references[0]
    found: Sequence[str] = output.hypotheses[0]
    return [
        Difference(
            chunk.type,
            " ".join(expected[chunk.ref_start_idx : chunk.ref_end_idx]),
            " ".join(found[chunk.hyp_start_idx : chunk.hyp_end_idx]),
        )
        for chunk in output.alignments[0]
    ]


def _missing(package: str) -> BadRequest:
    return BadRequest(f"{package} is not installed: pip install 'streamer[evaluate]'")
