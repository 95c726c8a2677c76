"""Results of an evaluation: each file, and all of them together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from streamer.evaluation.accuracy import Accuracy, Counts


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds over segments; None when there were none. `count`: segments."""

    count: int
    p50_ms: float | None = None
    p95_ms: float | None = None
    max_ms: float | None = None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        if not seconds:
            return cls(0)
        p50, p95, max_ms = (round(float(value) * 1000, 1) for value in np.percentile(seconds, [50, 95, 100]))
        return cls(len(seconds), p50, p95, max_ms)


class File(msgspec.Struct, frozen=True):
    """One recording. `seconds` of audio; `first_s`, `final_s`: latencies of its segments, when it was streamed live."""

    path: str
    seconds: float
    reference: str
    hypothesis: str
    accuracy: Accuracy
    first_s: list[float] = []
    final_s: list[float] = []


class Report(msgspec.Struct, frozen=True):
    """All recordings together.

    `real_time_factor`: wall-clock seconds for each second of audio, `cpu_factor`: seconds of CPU; both as fast as it
    goes, `jobs` at a time. `first_interim`: from where a segment begins to its first result. `final`: from where it
    ends to its final, the pause that ends it included. Both at real time, `streams` at a time.
    """

    model: str
    normaliser: str
    seconds: float
    words: Counts
    characters: Counts
    word_error_rate: float
    character_error_rate: float
    real_time_factor: float
    cpu_factor: float
    jobs: int
    streams: int
    first_interim: Latency
    final: Latency
    files: list[File]
    failed: dict[str, str] = {}


def report(
    files: Sequence[File], *, model: str, normaliser: str, wall_s: float, cpu_s: float, jobs: int, streams: int,
    failed: dict[str, str],
) -> Report:  # fmt: skip
    """Put the files of one evaluation together."""
    seconds = sum(file.seconds for file in files)
    words = _sum(file.accuracy.words for file in files)
    characters = _sum(file.accuracy.characters for file in files)
    return Report(
        model=model,
        normaliser=normaliser,
        seconds=round(seconds, 3),
        words=words,
        characters=characters,
        word_error_rate=round(words.rate, 5),
        character_error_rate=round(characters.rate, 5),
        real_time_factor=round(wall_s / seconds, 5) if seconds else 0.0,
        cpu_factor=round(cpu_s / seconds, 5) if seconds else 0.0,
        jobs=jobs,
        streams=streams,
        first_interim=Latency.of([value for file in files for value in file.first_s]),
        final=Latency.of([value for file in files for value in file.final_s]),
        files=list(files),
        failed=failed,
    )


def _sum(counts: Iterable[Counts]) -> Counts:
    return sum(counts, Counts())
