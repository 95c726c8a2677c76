"""Counters, gauges and histograms as plain numbers of one thread, with the shape of prometheus_client.

Its own instruments take a lock per call, which a single event loop does not need: 0.3 us for a counter and 0.6 to 0.9
us for a histogram with 21 buckets, against 0.03 and 0.14 us here (benchmarks/bench_metrics.py).
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import accumulate, product
from math import inf
from typing import Generic, Protocol, TypeVar

from prometheus_client import Metric
from prometheus_client.samples import Exemplar

LabelValues = tuple[str, ...]
"""Values of a family's labels, in their order."""


class InstrumentKind(StrEnum):
    """Prometheus type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Instrument(Protocol):
    """One series (for a histogram: one set of series)."""

    def samples(self, add: Callable[..., None], name: str, labels: Mapping[str, str]) -> None:
        """Call `add`, as `Metric.add_sample`, for each line of the exposition."""


class Counter:
    """A value that only increases."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, amount: float = 1.0) -> None:
        self.value += amount

    def samples(self, add: Callable[..., None], name: str, labels: Mapping[str, str]) -> None:
        add(f"{name}_total", labels, self.value)


class Gauge:
    """A current value."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, amount: float = 1.0) -> None:
        self.value += amount

    def set(self, value: float) -> None:
        self.value = float(value)

    def samples(self, add: Callable[..., None], name: str, labels: Mapping[str, str]) -> None:
        add(name, labels, self.value)


class Histogram:
    """Counts observations by size. `bounds`: upper bounds of the buckets, ascending, without infinity."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0
        self.exemplars: list[tuple[str, float, float] | None] = [None] * len(self.counts)
        """The last traced observation of each bucket: trace id, value, Unix time."""

    def observe(self, value: float, trace_id: str | None = None) -> None:
        index = bisect_left(self.bounds, value)
        self.counts[index] += 1
        self.total += value
        if trace_id is not None:
            self.exemplars[index] = (trace_id, value, time.time())

    def samples(self, add: Callable[..., None], name: str, labels: Mapping[str, str]) -> None:
        for bound, count, traced in zip((*self.bounds, inf), accumulate(self.counts), self.exemplars, strict=True):
            exemplar = Exemplar({"trace_id": traced[0]}, traced[1], traced[2]) if traced else None
            add(
                f"{name}_bucket",
                {**labels, "le": "+Inf" if bound == inf else repr(float(bound))},
                count,
                None,
                exemplar,
            )
        add(f"{name}_count", labels, sum(self.counts))
        add(f"{name}_sum", labels, self.total)


InstrumentT = TypeVar("InstrumentT", bound=Instrument)


class Family(Generic[InstrumentT]):
    """One metric with all of its label values. The values are closed sets, so a client cannot create a series."""

    def __init__(
        self,
        name: str,
        help: str,
        kind: InstrumentKind,
        make: Callable[[], InstrumentT],
        labels: Mapping[str, Sequence[str]],
        *,
        eager: bool,
    ) -> None:
        """Define a family.

        `labels`: each label with all of its values. `eager`: all series exist from the first scrape.
        """
        self.name = name
        self.help = help
        self.kind = kind
        self.labels = {label: tuple(values) for label, values in labels.items()}
        self._make = make
        self.children: dict[LabelValues, InstrumentT] = {}
        if eager:
            for values in product(*self.labels.values()):
                self.child(*values)

    def child(self, *values: str) -> InstrumentT:
        """Return the instrument with these label values, to be kept. Raises ValueError for an unknown value."""
        found = self.children.get(values)
        if found is None:
            for (label, allowed), value in zip(self.labels.items(), values, strict=True):
                if value not in allowed:
                    raise ValueError(f"{self.name}: {label}: expected one of {', '.join(allowed)}, got {value!r}")
            found = self.children[tuple(map(str, values))] = self._make()
        return found

    def metric(self) -> Metric:
        """Return the family in the form of prometheus_client."""
        metric = Metric(self.name, self.help, self.kind)
        for values, child in self.children.items():
            child.samples(metric.add_sample, self.name, dict(zip(self.labels, values, strict=True)))
        return metric


class Instruments:
    """Families by name: a `prometheus_client` collector. `refresh` is called before each scrape, to update gauges."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.families: dict[str, Family[Counter] | Family[Gauge] | Family[Histogram]] = {}
        self.refresh: list[Callable[[], None]] = []

    def counter(self, name: str, help: str, *, eager: bool = True, **labels: Sequence[str]) -> Family[Counter]:
        """Create a counter. `name`: without `_total`."""
        family = Family(self._prefix + name, help, InstrumentKind.COUNTER, Counter, labels, eager=eager)
        self.families[family.name] = family
        return family

    def gauge(self, name: str, help: str, *, eager: bool = True, **labels: Sequence[str]) -> Family[Gauge]:
        family = Family(self._prefix + name, help, InstrumentKind.GAUGE, Gauge, labels, eager=eager)
        self.families[family.name] = family
        return family

    def histogram(self, name: str, help: str, bounds: Sequence[float], **labels: Sequence[str]) -> Family[Histogram]:
        def make() -> Histogram:
            return Histogram(bounds)

        family = Family(self._prefix + name, help, InstrumentKind.HISTOGRAM, make, labels, eager=True)
        self.families[family.name] = family
        return family

    def collect(self) -> Iterator[Metric]:
        for refresh in self.refresh:
            refresh()
        for family in self.families.values():
            yield family.metric()
