"""The metrics of several serving processes as those of one: each sends a snapshot, one adds them up and is scraped."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from streamer.telemetry.instruments import Counter, Family, Gauge, Histogram, Instruments, Kind, Labels

GREATEST = frozenset({"streamer_build_info", "streamer_draining"})
LEAST = frozenset({"streamer_ready"})
"""Gauges that are no sums: a fact, whether any drains, whether all are ready."""


class Series(msgspec.Struct, frozen=True, array_like=True):
    """One instrument's numbers. A counter or gauge has its value in `total`; exemplars stay at home."""

    labels: Labels
    total: float
    counts: tuple[int, ...] = ()


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """One family of one process, ready to be sent (msgpack)."""

    name: str
    help: str
    kind: Kind
    label_values: dict[str, tuple[str, ...]]
    series: tuple[Series, ...]
    bounds: tuple[float, ...] = ()


def snapshot(instruments: Instruments) -> list[Snapshot]:
    """What a process sends: some 40 families."""
    for refresh in instruments.refresh:
        refresh()
    return [_snapshot(family) for family in instruments.families.values()]


def merged(snapshots: Iterable[Iterable[Snapshot]]) -> Instruments:
    """Instruments that hold the sums; a `prometheus_client` collector like any other."""
    instruments = Instruments("")
    for families in snapshots:
        for family in families:
            target = instruments.families.get(family.name)
            if target is None:
                target = instruments.families[family.name] = _empty(family)
            for series in family.series:
                _add(target, family.name, series)
    return instruments


def _snapshot(family: Family[Counter] | Family[Gauge] | Family[Histogram]) -> Snapshot:
    series: list[Series] = []
    bounds: tuple[float, ...] = ()
    for labels, child in family.children.items():
        if isinstance(child, Histogram):
            bounds = child.bounds
            series.append(Series(labels, child.total, tuple(child.counts)))
        else:
            series.append(Series(labels, child.value))
    return Snapshot(family.name, family.help, family.kind, family.labels, tuple(series), bounds)


def _empty(family: Snapshot) -> Family[Counter] | Family[Gauge] | Family[Histogram]:
    name, text, kind, labels = family.name, family.help, family.kind, family.label_values
    if kind is Kind.COUNTER:
        return Family(name, text, kind, Counter, labels, eager=False)
    if kind is Kind.GAUGE:
        return Family(name, text, kind, Gauge, labels, eager=False)
    return Family(name, text, kind, lambda: Histogram(family.bounds), labels, eager=False)


def _add(target: Family[Counter] | Family[Gauge] | Family[Histogram], name: str, series: Series) -> None:
    known = series.labels in target.children
    child = target.child(*series.labels)
    if isinstance(child, Histogram):
        child.counts = [one + other for one, other in zip(child.counts, series.counts, strict=True)]
        child.total += series.total
    elif name in GREATEST:
        child.value = max(child.value, series.total)
    elif name in LEAST:
        child.value = min(child.value, series.total) if known else series.total
    else:
        child.value += series.total
