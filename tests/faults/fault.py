"""What is to be seen of a fault from outside, all of it in one value: told, closed, counted, logged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from streamer.errors import ErrorCode
from streamer.telemetry.metrics import AUTH_FAILURES, GONE, PROTOCOL_ERRORS, REFUSALS, STOPPED

NORMAL = "normal"
SOME = -1
"""In place of a number: once or more, it depends on when."""
CLOSED, REFUSED = "session closed", "session refused"


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the log that has these words in its message, and these fields."""

    words: str
    times: int = 1
    level: str = "info"
    fields: Mapping[str, Any] = field(default_factory=dict)

    def fits(self, record: Mapping[str, Any]) -> bool:
        return (
            self.words in record["message"]
            and record["level"] == self.level
            and all(record.get(name) == value for name, value in self.fields.items())
        )


@dataclass(frozen=True, slots=True)
class Fault:
    """All that is to be seen of it, and nothing else: `+` joins those of several sessions."""

    told: tuple[str, ...] = ()
    """Codes of the errors and warnings that clients heard."""
    ends: tuple[str, ...] = ()
    """How their connections ended, where they listened for it: the code, or `normal`."""
    counted: Mapping[str, int] = field(default_factory=dict)
    """By how much the counters of faults have grown: `name.label` of the metrics."""
    logged: tuple[Record, ...] = ()
    last: Mapping[str, int] = field(default_factory=dict)
    """By how much more they grow in the last moments of a server, which may end before they are read."""

    def __add__(self, other: Fault) -> Fault:
        counted = dict(self.counted)
        for name, times in other.counted.items():
            counted[name] = SOME if SOME in (times, counted.get(name)) else counted.get(name, 0) + times
        last = dict(Counter(self.last) + Counter(other.last))
        return Fault(self.told + other.told, self.ends + other.ends, counted, self.logged + other.logged, last)

    def __mul__(self, times: int) -> Fault:
        """The same, of so many sessions."""
        counted = {name: count if count == SOME else count * times for name, count in self.counted.items()}
        logged = tuple(replace(record, times=record.times * times) for record in self.logged)
        last = {name: count * times for name, count in self.last.items()}
        return Fault(self.told * times, self.ends * times, counted, logged, last)


def session(reason: str, *, end: str = "", errors: Sequence[str] = (), **fields: Any) -> Fault:
    """A session that ended so, as its clients (`end`, where they listen), its metrics and its record have it."""
    if errors:
        fields["errors"] = list(dict.fromkeys(errors))
    counted = Counter({f"sessions_closed.{reason}": 1})
    counted.update(f"protocol_errors.{code}" for code in errors if code in PROTOCOL_ERRORS)
    record = Record(CLOSED, fields={"reason": reason, **fields})
    return Fault(tuple(errors), (end,) if end else (), counted, (record,))


def harmless(**fields: Any) -> Fault:
    """Nothing happens at all: a session that hears its end."""
    return session(STOPPED, end=NORMAL, **fields)


def gone(**fields: Any) -> Fault:
    """The client is gone, and nobody else knows of it."""
    return session(GONE, **fields)


def complaint(*codes: ErrorCode, **fields: Any) -> Fault:
    """Errors that end nothing."""
    return session(STOPPED, end=NORMAL, errors=codes, **fields)


def fatal(code: ErrorCode, **fields: Any) -> Fault:
    """An error, and a close with its code."""
    return session(code, end=code, errors=(code,), **fields)


def warned(*codes: str, **fields: Any) -> Fault:
    """Warnings, and nothing worse."""
    plain = harmless(warnings=list(codes), **fields)
    return replace(plain, told=codes) + Fault(counted={f"warnings.{code}": 1 for code in codes})


def refusal(code: ErrorCode, times: int = 1) -> Fault:
    """Sessions that are not taken on."""
    counted = {f"handshakes.{code}": times}
    for family, codes in (("auth_failures", AUTH_FAILURES), ("admission_rejected", REFUSALS)):
        if code in codes:
            counted[f"{family}.{code}"] = times
    return Fault(counted=counted, logged=(Record(REFUSED, times, fields={"code": code}),))


def lost(code: ErrorCode, *, restarts: Mapping[str, int] | None = None, logged: Record) -> Fault:
    """The model owes one answer: an error for its range, and the stream goes on."""
    counted = {f"inference_failures.{code}": 1}
    counted.update({f"worker_restarts.{cause}": times for cause, times in (restarts or {}).items()})
    return complaint(code, failed=1) + Fault(counted=counted, logged=(logged,))


Expected = Fault | Callable[[Mapping[str, Any]], Fault]


def fault(row: int, seen: Expected) -> pytest.MarkDecorator:
    """Of which row of the table a test is, and what is to be seen of it; a function: it depends on the parameters."""
    return pytest.mark.fault(row, seen)
