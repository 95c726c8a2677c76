"""The workload: content and times of all messages. Pure and seeded, so two runs send the same load."""

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
"""Maximum bytes of an audio message: the server's default limit."""
JITTER_STEPS = 1_021
"""Delays drawn in advance; a prime number, so that streams do not fall into step with them."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Each stream sends `format` in messages of `chunk_frames` frames, at the times of a microphone.

    `speech_share`: the share of speech, 0..1. `jitter_ms`: maximum random delay of a message, uniformly distributed;
    messages stay in order. Streams start over `ramp_s`; then `warmup_s` are not measured, `seconds` are measured, and
    streams end as they started. `audio_out`: audio is requested in the same format. Raises ConfigError, naming the
    option.
    """

    format: AudioFormat = AudioFormat(Encoding.PCM_S16LE, 16_000, 1)
    chunk_frames: int = 320
    speech_share: float = 0.5
    jitter_ms: float = 0.0
    seed: int = 0
    ramp_s: float = 1.0
    warmup_s: float = 2.0
    seconds: float = 20.0
    interim_results: bool = False
    audio_out: bool = False

    def __post_init__(self) -> None:
        self.format.check(max_channels=1)
        for name, value, low, high in (
            ("duty", self.speech_share, 0.01, 1.0),
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
        """Time from the first stream's start to the measured time."""
        return self.ramp_s + self.warmup_s

    @property
    def each_s(self) -> float:
        """Duration of each stream; of the first one, until the end of the measured time."""
        return self.quiet_s + self.seconds

    @property
    def total_s(self) -> float:
        """Time until the end of the last stream."""
        return self.each_s + self.ramp_s


def chunk_frames(format: AudioFormat, *, chunk_ms: float | None, chunk_bytes: int | None) -> int:
    """Return the frames of one message from its length in ms or bytes. Raises ConfigError for an invalid length."""
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
    """Audio in the workload's format, a whole number of chunks. `speech`: share of utterances."""

    pcm: bytes
    chunk_bytes: int
    speech: float

    @property
    def chunks(self) -> list[bytes]:
        return [self.pcm[at : at + self.chunk_bytes] for at in range(0, len(self.pcm), self.chunk_bytes)]


@dataclass(frozen=True, slots=True)
class SendSchedule:
    """Schedule of one stream. Times are seconds after the start; `offset`: its first chunk on the tape."""

    begin_s: float
    chunk_s: float
    count: int
    offset: int
    delays: Sequence[float]
    delays_at: int

    def dues_s(self) -> Iterator[float]:
        """Yield the time of each message: when its last frame would be recorded, plus the jitter, in order."""
        last = 0.0
        for chunk in range(self.count):
            delay = self.delays[(self.delays_at + chunk) % len(self.delays)]
            last = max(last, self.begin_s + (chunk + 1) * self.chunk_s + delay)
            yield last


def delays(workload: Workload) -> list[float]:
    """Return the jitter of a run, in seconds."""
    draws: list[float] = (
        np.random.default_rng((workload.seed, 1)).uniform(0, workload.jitter_ms / 1e3, JITTER_STEPS).tolist()
    )
    return draws


def schedule(workload: Workload, stream: int, streams: int, tape_chunks: int, jitter: Sequence[float]) -> SendSchedule:
    """Return the schedule of `stream` of `streams`: evenly spread over the ramp, with a random phase and offset.

    Streams end as they started, after the measured time: all are live in it, and it contains no burst of stops, which
    would be unrealistic.
    """
    draw = np.random.default_rng((workload.seed, 2, stream))
    phase_s = float(draw.uniform(0, workload.chunk_s))
    begin_s = workload.ramp_s * stream / streams + phase_s
    return SendSchedule(
        begin_s=begin_s,
        chunk_s=workload.chunk_s,
        count=max(1, math.ceil((workload.each_s - phase_s) / workload.chunk_s)),
        offset=int(draw.integers(tape_chunks)),
        delays=jitter,
        delays_at=int(draw.integers(JITTER_STEPS)),
    )


def split_streams(streams: int, processes: int) -> list[range]:
    """Distribute the streams evenly over the processes."""
    processes = min(processes, streams)
    bounds = [streams * part // processes for part in range(processes + 1)]
    return [range(low, high) for low, high in pairwise(bounds)]
