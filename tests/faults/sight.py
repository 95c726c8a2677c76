"""What was seen of a fault: by its clients, in the metrics, in the log; compared with what is to be seen."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from prometheus_client.samples import Sample

from streamer.errors import ErrorCode
from streamer.session.events import ErrorEvent, Event
from streamer.telemetry.logs import JsonFormatter
from streamer.telemetry.observer import Observer, SessionInfo, SessionObserver, SessionView
from tests.faults.fault import CLOSED, REFUSED, SOME, Fault, Record

Line = Mapping[str, Any]
"""A record of the log as it is written."""

COUNTERS = {
    "sessions_closed": "reason",
    "handshakes": "outcome",
    "auth_failures": "reason",
    "admission_rejected": "reason",
    "protocol_errors": "code",
    "warnings": "code",
    "inference_failures": "code",
    "worker_restarts": "cause",
    "task_failures": "subsystem",
    "telemetry_dropped": "signal",
    "clients_held": "",
    "interims_unread": "",
}
"""All that a server counts when something goes wrong, each with the label that says what."""
NO_FAULTS = {"handshakes.accepted", "clients_held", "warnings.lagging"}
"""Looked at only where a test declares them; the last says how busy the machine is."""
PATIENCE_S = 20.0
PROPERTY = "fault"
"""Name of the property of a test's report."""


class ObservableServer(Protocol):
    """A server as its operator sees it."""

    async def samples(self) -> Iterable[Sample]:
        """What /metrics says."""

    def records(self) -> Sequence[Line]:
        """The log so far."""


@dataclass(frozen=True, slots=True)
class ObservedFault:
    """What one test saw, for the table of all faults."""

    told: tuple[str, ...]
    ends: tuple[str, ...]
    counted: Mapping[str, int]
    logged: tuple[str, ...]

    def to_property(self, row: int) -> tuple[str, str]:
        """Return it as a property of a test's report: text, which a worker of pytest-xdist can send."""
        return PROPERTY, msgspec.json.encode((row, self)).decode()


def from_property(text: str) -> tuple[int, ObservedFault]:
    """Return the row of the fault table, and what was seen, from the text of a property."""
    return msgspec.json.decode(text, type=tuple[int, ObservedFault])


class FaultObservation:
    """What was seen of a server since `begin`."""

    def __init__(self, server: ObservableServer) -> None:
        self._server = server
        self._before: Counter[str] = Counter()
        self._counted: Counter[str] = Counter()
        self._skip = 0
        self.told: list[str] = []
        self.ends: list[str] = []

    async def begin(self) -> None:
        self._before = await self._counts()
        self._skip = len(self._server.records())
        self.told.clear()
        self.ends.clear()

    def heard(self, event: Mapping[str, Any]) -> None:
        """A client heard this."""
        if event["type"] in ("error", "warning"):
            self.told.append(event["code"])

    async def until(self, words: str, times: int = 1) -> None:
        """Wait until so many records have these words."""
        async with asyncio.timeout(PATIENCE_S):
            while sum(words in line["message"] for line in self.logged()) < times:
                await asyncio.sleep(0.01)

    async def until_counted(self, name: str, times: int = 1) -> None:
        """Wait until a counter has grown by so much."""
        async with asyncio.timeout(PATIENCE_S):
            while (await self.counted())[name] < times:
                await asyncio.sleep(0.01)

    async def counted(self) -> Counter[str]:
        """What the counters of faults have grown by."""
        return await self._counts() - self._before

    def logged(self) -> list[Line]:
        """The records that came."""
        return list(self._server.records()[self._skip :])

    async def comes(self, expected: Fault) -> None:
        """Wait until all of this is seen. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_S):
            while not await self._all_there(expected):
                await asyncio.sleep(0.01)

    async def shows(self, expected: Fault) -> None:
        """Exactly this is seen, as soon as all of it is there: what is counted and logged may take a moment."""
        with suppress(TimeoutError):  # the comparison says what is missing
            await self.comes(expected)
        counted = await self.counted()
        counted = self._counted = Counter(
            {n: c for n, c in counted.items() if n not in NO_FAULTS or n in expected.counted}
        )
        for name, most in expected.last.items():
            least = expected.counted.get(name, 0)
            assert least <= counted[name] <= least + most
            counted = counted - Counter({name: counted[name] - least})
        some = {name for name, times in expected.counted.items() if times == SOME}
        assert {name: SOME if name in some else times for name, times in counted.items()} == expected.counted
        missing, left = matched(expected.logged, self.logged())
        assert not missing, left
        assert not [line for line in left if line["level"] == "error" or line["message"] in (CLOSED, REFUSED)]
        assert Counter(self.told) == Counter(expected.told)
        assert Counter(self.ends) == Counter(expected.ends)

    def summed_up(self, less: Fault) -> ObservedFault:
        """All that was seen but for what a healthy neighbour adds."""
        counted = Counter(self._counted) - Counter(less.counted)
        lines = matched(less.logged, self.logged())[1]
        ends = Counter(self.ends) - Counter(less.ends)
        return ObservedFault(tuple(self.told), tuple(ends.elements()), dict(counted), tuple(map(_brief, lines)))

    async def _all_there(self, expected: Fault) -> bool:
        counted = await self.counted()
        return (
            all(counted[name] >= abs(times) for name, times in expected.counted.items())
            and not (matched(expected.logged, self.logged())[0])
        )

    async def _counts(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for sample in await self._server.samples():
            family = sample.name.removeprefix("streamer_").removesuffix("_total")
            if sample.name.endswith("_total") and family in COUNTERS:
                label = COUNTERS[family]
                name = f"{family}.{sample.labels[label]}" if label else family
                found[name] += round(sample.value)
        return found


def matched(expected: Iterable[Record], lines: Iterable[Line]) -> tuple[list[Record], list[Line]]:
    """The records that did not come, and the lines that nobody expected. Who says most of a line is given it."""
    left, missing = list(lines), []
    for record in sorted(expected, key=lambda one: -len(one.fields)):
        fitting = [line for line in left if record.fits(line)]
        if len(fitting) < abs(record.times):
            missing.append(record)
        taken = fitting if record.times < 0 else fitting[: record.times]
        left = [line for line in left if not any(line is one for one in taken)]
    return missing, left


class RecordingObserver(Observer, SessionObserver):
    """What all sessions of a server were told of faults, whether they read it or not."""

    def __init__(self) -> None:
        self.codes: list[ErrorCode] = []

    def new_session(self, info: SessionInfo, view: SessionView, now: float) -> SessionObserver:
        return self

    def on_event(self, event: Event, now: float) -> None:
        if isinstance(event, ErrorEvent):
            self.codes.append(event.code)

    async def until(self, code: ErrorCode, times: int = 1) -> None:
        """Wait until somebody was told so, so often since the fault began."""
        async with asyncio.timeout(PATIENCE_S):
            while self.codes.count(code) < times:
                await asyncio.sleep(0.01)


def _brief(line: Line) -> str:
    """A record's message, and what names the fault."""
    said = [str(line[name]) for name in ("reason", "code") if name in line]
    message = line["message"].partition("\n")[0][:100]
    return " ".join([message, *said, *line.get("errors", ()), *line.get("warnings", ())])


class Log(logging.Handler):
    """The log of a server in this process, as it would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[Line] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While the log is heard, from `info` on."""
        log = logging.getLogger("streamer")
        level = log.level
        log.setLevel(logging.INFO)
        log.addHandler(self)
        try:
            yield
        finally:
            log.removeHandler(self)
            log.setLevel(level)
