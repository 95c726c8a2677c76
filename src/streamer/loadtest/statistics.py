"""Figures of a step, from the records of streams and the samples of the server. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.loadtest.generator import GeneratorReport
from streamer.loadtest.load_stream import StreamRecord
from streamer.loadtest.process_usage import UsageSample
from streamer.loadtest.results import (
    NONE,
    Distribution,
    FrameCounts,
    LoadStep,
    LoadUse,
    SecondBucket,
    ServerUse,
    StreamRow,
)
from streamer.loadtest.workload import Workload

Float64Array = NDArray[np.float64]

_PUNCTUAL_S = 0.05
"""Largest delay in seconds of the last sample after the end of the measured time."""


@dataclass(frozen=True, slots=True)
class StepObservation:
    """Observations of a step. `go`: start of the schedule. `samples`: from before the first connection on."""

    streams: int
    opened: int
    refused: Counter[str]
    go: float
    dones: Sequence[GeneratorReport]
    samples: Sequence[UsageSample]


def summarise_step(observed: StepObservation, workload: Workload) -> LoadStep:
    """Compute the figures: latencies of audio sent in the measured time, the server's usage then, all frames."""
    records = [record for done in observed.dones for record in done.records]
    since, until = observed.go + workload.quiet_s, observed.go + workload.each_s
    finals, wholes, interims, pieces = (
        _pairs(getattr(record.timings, name) for record in records)
        for name in ("finals", "wholes", "interims", "pieces")
    )
    lags = np.concatenate([finals, interims, pieces])
    load = _load(observed.dones)
    server = _server(observed, records, since, until)
    return LoadStep(
        streams=observed.streams,
        opened=observed.opened,
        seconds=workload.seconds,
        connect=distribution(np.array([record.connect_s for record in records])),
        first=distribution(np.array([record.first_s for record in records if record.first_s is not None])),
        interim=_within(interims, since, until),
        final=_within(finals, since, until),
        final_whole=_within(wholes, since, until),
        lag=_within(lags, since, until),
        frames=_frames(records),
        early=sum(record.early for record in records),
        cut=sum(record.cut for record in records),
        refused=dict(observed.refused),
        errors=dict(sum((record.errors for record in records), Counter[str]())),
        endings=dict(Counter(record.ending for record in records if record.ending)),
        server=server,
        load=load,
        others_cores=_others(observed.samples, since, until, load) if server else None,
        timeline=_timeline(lags, observed, workload),
        audio=_within(_pairs(record.audio_out.delays for record in records), since, until),
        audio_out_s=round(sum(record.audio_out.frames for record in records) / workload.format.sample_rate, 3),
        gap_s=_sum_within(_pairs(record.audio_out.gaps for record in records), since, until),
        each=[_row(record, workload) for record in sorted(records, key=lambda record: record.index)],
    )


def distribution(seconds: Float64Array) -> Distribution:
    if not len(seconds):
        return NONE
    quantiles = np.round(np.percentile(seconds * 1e3, np.arange(101)), 3).tolist()
    return Distribution(
        count=len(seconds),
        mean_ms=round(float(seconds.mean()) * 1e3, 3),
        p50_ms=quantiles[50],
        p90_ms=quantiles[90],
        p95_ms=quantiles[95],
        p99_ms=quantiles[99],
        max_ms=quantiles[100],
        quantiles_ms=quantiles,
    )


def _pairs(timings: Iterable[Sequence[float]]) -> Float64Array:
    """Return [n, 2]: (time of sending the audio, seconds to the result)."""
    return np.concatenate([np.zeros((0, 2)), *(np.array(each).reshape(-1, 2) for each in timings)])


def _within(pairs: Float64Array, since: float, until: float) -> Distribution:
    """Select by the time of sending: a result after the end counts as well."""
    return distribution(pairs[(pairs[:, 0] >= since) & (pairs[:, 0] < until), 1])


def _sum_within(pairs: Float64Array, since: float, until: float) -> float:
    return round(float(pairs[(pairs[:, 0] >= since) & (pairs[:, 0] < until), 1].sum()), 3)


def _frames(records: Sequence[StreamRecord]) -> FrameCounts:
    return FrameCounts(
        sent=sum(record.sent for record in records),
        lost=sum(record.balance.lost for record in records),
        doubled=sum(record.balance.doubled for record in records),
        failed_results=sum(record.balance.failed for record in records),
        miscounted_results=sum(record.balance.miscounted for record in records),
        unfinished_streams=sum(record.balance.unfinished for record in records),
    )


def _load(dones: Sequence[GeneratorReport]) -> LoadUse:
    bins = np.sum([np.frombuffer(done.late, np.int64) for done in dones], axis=0)
    cores = sum(done.cpu_s / done.seconds for done in dones if done.seconds)
    # The middle of each millisecond represents its messages.
    late = distribution(np.repeat((np.arange(len(bins)) + 0.5) / 1e3, _quantiles_of(bins)))
    return LoadUse(len(dones), round(cores, 3), late)


def _quantiles_of(bins: NDArray[np.int64]) -> NDArray[np.int64]:
    """Reduce a distribution to some hundred thousand values, keeping every value that occurs."""
    factor = max(1, int(bins.sum()) // 200_000)
    return -(-bins // factor)


def _server(observed: StepObservation, records: Sequence[StreamRecord], since: float, until: float) -> ServerUse | None:
    """Return the usage between the first and the last sample in the measured time."""
    inside = _inside(observed.samples, since, until)
    if len(inside) < 2:
        return None
    first, last = inside[0], inside[-1]
    seconds, cpu_s = last.at - first.at, last.cpu_s - first.cpu_s
    stream_s = sum(max(0.0, min(record.ended_at, last.at) - max(record.begun, first.at)) for record in records)
    idle = observed.samples[0].rss
    return ServerUse(
        processes=last.processes,
        cpu_s=round(cpu_s, 3),
        stream_s=round(stream_s, 1),
        cpu_ms_per_stream_s=round(cpu_s / stream_s * 1e3, 4) if stream_s else 0.0,
        cores=round(cpu_s / seconds, 4),
        waiting=round(max(0.0, last.waited_s - first.waited_s) / seconds, 3),
        rss_idle=idle,
        rss_end=last.rss,
        rss_peak=max(sample.rss for sample in observed.samples),
        rss_per_stream=round((last.rss - idle) / max(1, observed.opened)),
    )


def _inside(samples: Sequence[UsageSample], since: float, until: float) -> list[UsageSample]:
    return [sample for sample in samples if since <= sample.at <= until + _PUNCTUAL_S]


def _others(samples: Sequence[UsageSample], since: float, until: float, load: LoadUse) -> float:
    """Return the cores used by neither the server nor the load: other programs, the kernel, and this process."""
    inside = _inside(samples, since, until)
    first, last = inside[0], inside[-1]
    seconds = last.at - first.at
    busy = (last.busy_s - first.busy_s) / seconds
    return round(max(0.0, busy - (last.cpu_s - first.cpu_s) / seconds - load.cores), 3)


def _timeline(lags: Float64Array, observed: StepObservation, workload: Workload) -> list[SecondBucket]:
    moments = []
    seconds = ((lags[:, 0] - observed.go) // 1).astype(int) if len(lags) else np.zeros(0, int)
    for second in range(int(np.ceil(workload.each_s))):
        here = lags[seconds == second, 1] * 1e3
        p50, p99 = np.percentile(here, (50, 99)) if len(here) else (0.0, 0.0)
        cores = _cores(observed.samples, observed.go + second)
        moments.append(SecondBucket(second, len(here), round(float(p50), 3), round(float(p99), 3), cores))
    return moments


def _cores(samples: Sequence[UsageSample], at: float) -> float | None:
    """Return the cores of the server around the second that begins at `at`."""
    near = [sample for sample in samples if at - 0.3 <= sample.at <= at + 1.3]
    if len(near) < 2:
        return None
    return round((near[-1].cpu_s - near[0].cpu_s) / (near[-1].at - near[0].at), 3)


def _row(record: StreamRecord, workload: Workload) -> StreamRow:
    lags = _pairs([record.timings.finals, record.timings.interims, record.timings.pieces])[:, 1] * 1e3
    return StreamRow(
        index=record.index,
        sent_s=round(record.sent / workload.format.sample_rate, 3),
        first_ms=None if record.first_s is None else round(record.first_s * 1e3, 3),
        results=len(lags),
        lag_p50_ms=round(float(np.median(lags)), 3) if len(lags) else None,
        lag_max_ms=round(float(lags.max()), 3) if len(lags) else None,
        lost=record.balance.lost,
        doubled=record.balance.doubled,
        ending=record.ending,
    )
