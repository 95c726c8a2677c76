"""Figures of a run, as written to JSON and read by the table and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

LATE_MS = 20.0
"""Delay in ms: a generator is late if more than one message in a hundred exceeds it, so the load was too low."""


class Distribution(msgspec.Struct, frozen=True):
    """Milliseconds. `quantiles_ms`: 101 values, at 0, 1, ... 100 %. All are empty or 0 if `count` is 0."""

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    quantiles_ms: Sequence[float]


NONE = Distribution(0, 0, 0, 0, 0, 0, 0, ())


class ServerUse(msgspec.Struct, frozen=True):
    """Usage of the server in the measured time; `processes` at the end. Bytes; `rss_idle`: before the first connection.

    `waiting`: mean number of threads that were ready but had no core.
    """

    processes: int
    cpu_s: float
    stream_s: float
    cpu_ms_per_stream_s: float
    cores: float
    waiting: float
    rss_idle: int
    rss_end: int
    rss_peak: int
    rss_per_stream: float


class LoadUse(msgspec.Struct, frozen=True):
    """Usage of the generator. `late`: delay of each message after its scheduled time."""

    processes: int
    cores: float
    late: Distribution

    @property
    def was_late(self) -> bool:
        return self.late.p99_ms > LATE_MS


class FrameCounts(msgspec.Struct, frozen=True):
    """Frames at the client's rate over all streams, and the number of faulty streams and results."""

    sent: int
    lost: int
    doubled: int
    failed_results: int
    miscounted_results: int
    unfinished_streams: int

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.miscounted_results or self.unfinished_streams)


class SecondBucket(msgspec.Struct, frozen=True):
    """One second of the run, counted from the first stream's start; lag of the results for audio sent in it."""

    second: int
    results: int
    lag_p50_ms: float
    lag_p99_ms: float
    server_cores: float | None


class StreamRow(msgspec.Struct, frozen=True):
    """One stream."""

    index: int
    sent_s: float
    first_ms: float | None
    results: int
    lag_p50_ms: float | None
    lag_max_ms: float | None
    lost: int
    doubled: int
    ending: str


class LoadStep(msgspec.Struct, frozen=True):
    """A step with `streams` concurrent streams, `opened` of them. `refused`, `errors` and `endings` count by text.

    Latencies, each from the sending of the audio in question to the result's arrival: `first` from the stream's first
    message; `final` from the audio that decided the end (endpointing excluded), `final_whole` from the last voiced
    audio (endpointing included); `interim` from the last audio that it covers; `lag`: all results, endpointing
    excluded. `early`: finals that arrived before the audio expected to decide them. `cut`: finals at the maximum
    length. `audio`: from the sending of audio to the arrival of the audio out in its place. `audio_out_s`: seconds of
    audio out of all streams; `gap_s`: silence in it for listeners with a jitter buffer of 40 ms, in the measured time.
    """

    streams: int
    opened: int
    seconds: float
    connect: Distribution
    first: Distribution
    interim: Distribution
    final: Distribution
    final_whole: Distribution
    lag: Distribution
    frames: FrameCounts
    early: int
    cut: int
    refused: Mapping[str, int]
    errors: Mapping[str, int]
    endings: Mapping[str, int]
    server: ServerUse | None
    load: LoadUse
    others_cores: float | None
    timeline: Sequence[SecondBucket]
    each: Sequence[StreamRow]
    audio: Distribution = NONE
    audio_out_s: float = 0.0
    gap_s: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether all streams were served completely."""
        return self.opened == self.streams and self.frames.is_clean


class MachineInfo(msgspec.Struct, frozen=True):
    """The machine of the load."""

    cores: int
    cpu: str
    system: str
    python: str


class WorkloadInfo(msgspec.Struct, frozen=True):
    """The workload of the report: everything that determines the load."""

    encoding: str
    sample_rate: int
    chunk_ms: float
    chunk_bytes: int
    duty: float
    speech: float
    jitter_ms: float
    seed: int
    ramp_s: float
    warmup_s: float
    seconds: float
    interim_results: bool
    recordings: Sequence[str]
    redemption_ms: float


class CapacityResult(msgspec.Struct, frozen=True):
    """Result of a search: the most streams that met the goal, the fewest tried that did not (None: none tried)."""

    goal: str
    most: int
    too_many: int | None
    why: str


class LoadReport(msgspec.Struct, frozen=True):
    """One run of `streamer bench`. `started_at`: ISO 8601 UTC.

    `compiled`: whether the message path of the package was compiled here, and so in a server that it started.
    """

    version: str
    started_at: str
    server: str
    command: str
    machine: MachineInfo
    workload: WorkloadInfo
    steps: Sequence[LoadStep]
    capacity: CapacityResult | None = None
    compiled: bool = False
