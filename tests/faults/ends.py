"""How a server's sessions end, as its metrics and its log have it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry

from streamer.telemetry.session_log import SessionFacts

GONE, STOPPED = "gone", "stopped"


def series(registry: CollectorRegistry, name: str, label: str) -> Counter[str]:
    """The values of a counter by one of its labels."""
    found: Counter[str] = Counter()
    for family in registry.collect():
        for sample in family.samples:
            if sample.name == f"streamer_{name}_total":
                found[sample.labels[label]] += round(sample.value)
    return found


class Ends(logging.Handler):
    """What happened since `begin`: by the metric, and by the one record that each session leaves."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._registry = registry
        self.records: list[SessionFacts] = []
        self._before: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.__dict__["facts"])

    def begin(self) -> None:
        self.records.clear()
        self._before = self._counted()

    async def ended(self, *reasons: str) -> list[SessionFacts]:
        """So sessions have ended, and no others: their records. Then the slate is clean."""
        for _ in range(1_000):
            if len(self.records) >= len(reasons):
                break
            await asyncio.sleep(0.01)
        assert Counter(facts.reason for facts in self.records) == Counter(reasons)
        assert self._counted() - self._before == Counter(reasons)
        records = self.records.copy()
        self.begin()
        return records

    def _counted(self) -> Counter[str]:
        return series(self._registry, "sessions_closed", "reason")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While the log is heard."""
        log = logging.getLogger("streamer.session")
        level = log.level
        log.setLevel(logging.INFO)
        log.addHandler(self)
        try:
            yield
        finally:
            log.removeHandler(self)
            log.setLevel(level)
