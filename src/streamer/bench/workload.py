"""What the streams of a run say and when: pure and seeded, so that two runs send the same bytes at the same times."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ConfigError

MAX_STREAMS = 100_000
MAX_CHUNK_BYTES = 64 * 1024
"""Of one audio message: what a server takes unless it was told otherwise."""
JITTER_STEPS = 1_021
"""Delays drawn in advance; a prime, so that streams do not fall into step with them."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Each stream sends `format` in messages of `chunk_frames` frames, each when a microphone would have it.

    `duty`: the share of the time in which somebody speaks, 0..1. `jitter_ms`: each message is held back by up to so
    much, evenly drawn, and never overtakes. Streams begin spread over `ramp_s`; what happens in the `warmup_s` after
    that is not measured; then `seconds` are; then streams end as they began. Raises ConfigError naming the option.
    """

    format: AudioFormat = AudioFormat(Encoding.PCM_S16LE, 16_000, 1)
    chunk_frames: int = 320
    duty: float = 0.5
    jitter_ms: float = 0.0
    seed: int = 0
    ramp_s: float = 1.0
    warmup_s: float = 2.0
    seconds: float = 20.0
    interim_results: bool = False

    def __post_init__(self) -> None:
        self.format.check(max_channels=1)
        for name, value, low, high in (
            ("duty", self.duty, 0.01, 1.0),
            ("jitter-ms", self.jitter_ms, 0.0, 10_000.0),
            ("ramp", self.ramp_s, 0.0, 600.0),
            ("warmup", self.warmup_s, 0.0, 600.0),
            ("seconds", self.seconds, 0.5, 86_400.0),
        ):
            if not (math.isfinite(value) and low <= value <= high):
                raise ConfigError(field=f"--{name}", expected=f"a number from {low:g} to {high:g}", got=value)
        if not 1 <= self.chunk_frames <= MAX_CHUNK_BYTES // self.format.frame_bytes:
            raise ConfigError(
                field="chunk", expected=f"1 byte to {MAX_CHUNK_BYTES // 1024} KiB of whole frames", got=self.chunk_bytes
            )

    @property
    def chunk_s(self) -> float:
        return self.chunk_frames / self.format.sample_rate

    @property
    def chunk_bytes(self) -> int:
        return self.chunk_frames * self.format.frame_bytes

    @property
    def quiet_s(self) -> float:
        """From the first stream's begin to the measured time."""
        return self.ramp_s + self.warmup_s

    @property
    def each_s(self) -> float:
        """What a stream speaks for; of the first one, until the end of the measured time."""
        return self.quiet_s + self.seconds

    @property
    def total_s(self) -> float:
        """Until the last stream has ended."""
        return self.each_s + self.ramp_s


def chunk_frames(format: AudioFormat, *, chunk_ms: float | None, chunk_bytes: int | None) -> int:
    """Frames of one message, given its length in one of two ways. Raises ConfigError for a length that cannot be."""
    if chunk_bytes is not None:
        if chunk_bytes < 1 or chunk_bytes % format.frame_bytes:
            expected = f"a multiple of the {format.frame_bytes} bytes of one frame"
            raise ConfigError(field="--chunk-bytes", expected=expected, got=chunk_bytes)
        return chunk_bytes // format.frame_bytes
    if chunk_ms is None or not 0 < chunk_ms <= 10_000:
        raise ConfigError(field="--chunk-ms", expected="more than 0 and at most 10000", got=chunk_ms)
    return max(1, round(chunk_ms * format.sample_rate / 1_000))


@dataclass(frozen=True, slots=True)
class Tape:
    """Audio in the workload's format, a whole number of chunks. `speech`: the share of it that is utterances."""

    pcm: bytes
    chunk_bytes: int
    speech: float

    @property
    def chunks(self) -> list[bytes]:
        return [self.pcm[at : at + self.chunk_bytes] for at in range(0, len(self.pcm), self.chunk_bytes)]


@dataclass(frozen=True, slots=True)
class Schedule:
    """When one stream sends what. Times are seconds after the go; `offset`: where on the tape it begins, in chunks."""

    begin_s: float
    chunk_s: float
    count: int
    offset: int
    delays: Sequence[float]
    delays_at: int

    def dues_s(self) -> Iterator[float]:
        """The time of each message: once its last frame has been spoken, and the jitter after that, in order."""
        last = 0.0
        for chunk in range(self.count):
            delay = self.delays[(self.delays_at + chunk) % len(self.delays)]
            last = max(last, self.begin_s + (chunk + 1) * self.chunk_s + delay)
            yield last


def delays(workload: Workload) -> list[float]:
    """The jitter of a run, in seconds."""
    draws: list[float] = (
        np.random.default_rng((workload.seed, 1)).uniform(0, workload.jitter_ms / 1e3, JITTER_STEPS).tolist()
    )
    return draws


def schedule(workload: Workload, stream: int, streams: int, tape_chunks: int, jitter: Sequence[float]) -> Schedule:
    """Stream `stream` of `streams`: evenly spread over the ramp, at a phase and a place on the tape drawn for it.

    They end as they began, after the measured time: all are live in it, and it does not feel a thousand stops at once,
    which nobody meets.
    """
    draw = np.random.default_rng((workload.seed, 2, stream))
    phase_s = float(draw.uniform(0, workload.chunk_s))
    begin_s = workload.ramp_s * stream / streams + phase_s
    return Schedule(
        begin_s=begin_s,
        chunk_s=workload.chunk_s,
        count=max(1, math.ceil((workload.each_s - phase_s) / workload.chunk_s)),
        offset=int(draw.integers(tape_chunks)),
        delays=jitter,
        delays_at=int(draw.integers(JITTER_STEPS)),
    )


def shares(streams: int, processes: int) -> list[range]:
    """The streams of each process, as even as can be."""
    processes = min(processes, streams)
    bounds = [streams * part // processes for part in range(processes + 1)]
    return [range(low, high) for low, high in pairwise(bounds)]
