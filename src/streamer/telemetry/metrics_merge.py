"""Metrics of several server processes as one: serialised, added up, and converted back for /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import chain

import msgspec
from prometheus_client import Metric
from prometheus_client.samples import Exemplar

from streamer.telemetry.exposition import in_slices
from streamer.telemetry.instruments import Instruments


class ProcessState(StrEnum):
    """State of a server process, a label of its metric."""

    STARTING = "starting"
    SERVING = "serving"
    DOWN = "down"


_CUMULATIVE = frozenset({"counter", "histogram"})
"""Kinds whose sum over processes never decreases, if exited ones stay in it."""
_NOT_A_SUM: Mapping[str, Callable[[float, float], float]] = {
    "streamer_build_info": max,
    "streamer_ready": min,  # all must be ready
    "streamer_load": max,  # a mean would hide a process that refuses sessions
    "streamer_draining": max,  # one is enough
    "streamer_certificate_expiry_timestamp_seconds": min,
    "process_start_time_seconds": min,
    "process_max_fds": min,
}
"""Gauges that are not summed."""

_Labels = tuple[tuple[str, str], ...]
_Exemplar = tuple[dict[str, str], float, float | None]
"""Labels, value, Unix time."""


class _Series(msgspec.Struct, array_like=True):
    name: str
    labels: _Labels
    value: float
    exemplar: _Exemplar | None = None


class _Family(msgspec.Struct, array_like=True):
    name: str
    help: str
    kind: str
    series: list[_Series]


_DECODER = msgspec.msgpack.Decoder(list[_Family])


def pack(metrics: Iterable[Metric]) -> bytes:
    """Serialise the metrics of a registry."""
    return msgspec.msgpack.encode([_family(metric) for metric in metrics])


async def pack_in_slices(metrics: Iterable[Metric]) -> bytes:
    """Serialise the metrics of a registry, and let the event loop run in between."""
    return msgspec.msgpack.encode([_family(metric) async for metric in in_slices(metrics)])


def unpack(packed: bytes) -> Iterator[Metric]:
    """Return the metrics of a registry, generated lazily."""
    return map(_metric, _DECODER.decode(packed))


class MetricsAggregator:
    """Adds up metrics; implements `supervision.supervisor.MetricsMerger`."""

    def __init__(self) -> None:
        # Not in telemetry.metrics, which would load the whole server into the supervisor.
        self._own = make = Instruments("streamer_")
        self._processes = make.gauge("processes", "Server processes, by state.", state=tuple(ProcessState))
        self._restarts = make.counter("process_restarts", "Server processes that died and were replaced.")

    def supervisor_metrics(self, states: Mapping[ProcessState, int], restarts: int) -> bytes:
        """Return the metrics of the supervisor itself."""
        for state in ProcessState:
            self._processes.child(state).set(states.get(state, 0))
        self._restarts.child().value = float(restarts)
        return pack(self._own.collect())

    def merge(self, now: Sequence[bytes], past: Sequence[bytes]) -> bytes:
        """Add up counters and histograms over all, gauges over `now` only. Empty ones are ignored."""
        families: dict[str, _Family] = {}
        sums: dict[tuple[str, _Labels], _Series] = {}
        living = [_DECODER.decode(packed) for packed in now if packed]
        former = [_only_cumulative(_DECODER.decode(packed)) for packed in past if packed]
        for family in chain.from_iterable((*living, *former)):
            whole = families.setdefault(family.name, _Family(family.name, family.help, family.kind, []))
            _add(whole, family.series, sums)
        return msgspec.msgpack.encode(list(families.values()))


def _family(metric: Metric) -> _Family:
    return _Family(metric.name, metric.documentation, metric.type, list(_series(metric)))


def _metric(family: _Family) -> Metric:
    metric = Metric(family.name, family.help, family.kind)
    for it in family.series:
        exemplar = Exemplar(dict(it.exemplar[0]), *it.exemplar[1:]) if it.exemplar else None
        metric.add_sample(it.name, dict(it.labels), it.value, None, exemplar)
    return metric


def _series(metric: Metric) -> Iterator[_Series]:
    for sample in metric.samples:
        it = sample.exemplar
        exemplar = (dict(it.labels), it.value, None if it.timestamp is None else float(it.timestamp)) if it else None
        yield _Series(sample.name, tuple(sample.labels.items()), sample.value, exemplar)


def _only_cumulative(families: Iterable[_Family]) -> list[_Family]:
    return [family for family in families if family.kind in _CUMULATIVE]


def _add(whole: _Family, series: Iterable[_Series], sums: dict[tuple[str, _Labels], _Series]) -> None:
    """Add series. The labels of an instrument have the same order in every process."""
    join = _NOT_A_SUM.get(whole.name)
    for one in series:
        key = one.name, one.labels
        total = sums.get(key)
        if total is None:
            sums[key] = one
            whole.series.append(one)
        else:
            total.value = join(total.value, one.value) if join else total.value + one.value
            total.exemplar = _newer(total.exemplar, one.exemplar)


def _newer(one: _Exemplar | None, other: _Exemplar | None) -> _Exemplar | None:
    if one is None or other is None:
        return one or other
    return one if (one[2] or 0.0) >= (other[2] or 0.0) else other
