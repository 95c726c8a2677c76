"""Logging with the ids of a session, limited in rate, through a bounded queue to one thread: the loop never waits."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import msgspec


class LogRateLimiter:
    """Passes `burst` records of each key per `window_s`; remembers at most the latest `keys` keys."""

    def __init__(self, burst: int = 5, window_s: float = 10.0, keys: int = 1_000) -> None:
        self._burst = burst
        self._window_s = window_s
        self._keys = keys
        self._windows: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def allow(self, key: Hashable, now: float) -> int | None:
        """Return None to suppress a record, otherwise the number suppressed since the last one of this key."""
        started_at, count = self._windows.get(key, (now, 0))
        suppressed = 0
        if now - started_at >= self._window_s:
            suppressed = max(0, count - self._burst)
            started_at, count = now, 0
        self._windows[key] = (started_at, count + 1)
        self._windows.move_to_end(key)
        if len(self._windows) > self._keys:
            self._windows.popitem(last=False)
        return suppressed if count < self._burst else None


class Ids:
    """Ids of one session. The trace is known after the client's start, so they change."""

    __slots__ = ("session_id", "span_id", "trace_id")

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.trace_id: str | None = None
        """32 hex digits, if the session is traced."""
        self.span_id: str | None = None
        """16 hex digits: the session's span."""


CURRENT: ContextVar[Ids | None] = ContextVar("streamer_ids", default=None)
"""Set in the task that runs a connection, and so in its tasks and timers."""


QUEUE = 10_000
"""Queued records for a slow terminal, pipe or disk; further ones are dropped and counted."""
STOP_TIMEOUT_S = 2.0

Style = Literal["auto", "text", "json"]


class LogFields(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of a record besides its message; subclasses name them. Pass them as `extra={"facts": ...}`."""

    @property
    def kind(self) -> str | None:
        """Return the key by which repeated records are limited; None for records that are never limited."""
        return None


class TextSink(Protocol):
    """Destination of lines."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record as JSON; its fields follow."""

    time: str
    level: str
    logger: str
    message: str
    pid: int | None
    session_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    exception: str | None = None


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        ids: Ids | None = getattr(record, "ids", None)
        line = _Line(
            time=datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            level=record.levelname.lower(),
            logger=record.name,
            message=record.getMessage(),
            pid=record.process,
            session_id=ids.session_id if ids is not None else None,
            trace_id=ids.trace_id if ids is not None else None,
            span_id=ids.span_id if ids is not None else None,
            exception=record.exc_text,
        )
        facts: LogFields | None = getattr(record, "facts", None)
        encoded = msgspec.json.encode(line)
        if facts is not None and (more := msgspec.json.encode(facts)) != b"{}":
            encoded = encoded[:-1] + b"," + more[1:]
        return encoded.decode()


class TextFormatter(logging.Formatter):
    """Formats a record for people: time, level, logger, message, then the fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        text = f"{at} {record.levelname:<7} {record.name}: {format_line(record)}"
        return f"{text}\n{record.exc_text}" if record.exc_text else text


def format_line(record: logging.LogRecord) -> str:
    """Return a record's message and fields on one line."""
    ids: Ids | None = getattr(record, "ids", None)
    facts: LogFields | None = getattr(record, "facts", None)
    parts = [record.getMessage()]
    if ids is not None and ids.session_id not in parts[0]:
        parts.append(f"session={ids.session_id}")
    if ids is not None and ids.trace_id:
        parts.append(f"trace={ids.trace_id}")
    if facts is not None:
        named = {name: getattr(facts, name) for name in facts.__struct_fields__}
        parts += [f"{name}={_text(value)}" for name, value in named.items() if value is not None]
    return " ".join(parts)


def _text(value: object) -> str:
    """Return a field's value as one word: a float with three digits, a list of codes with commas."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return ",".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


class _QueueHandler(logging.Handler):
    """Queues records: adds ids and limits repeated ones on the logging thread. Never waits, never raises."""

    def __init__(self, repeats: LogRateLimiter) -> None:
        super().__init__()
        self.queue: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        self.dropped = 0
        self.ids_of: Callable[[str], Ids | None] = Ids
        self._rate_limiter = repeats
        self._plain = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        facts: LogFields | None = getattr(record, "facts", None)
        kind = facts.kind if facts is not None else ""
        if kind is not None:
            suppressed = self._rate_limiter.allow((record.name, record.levelno, record.msg, kind), time.monotonic())
            if suppressed is None:
                return
            if suppressed:
                record.msg = f"{record.msg} (and {suppressed} more like this)"
        if self.queue.qsize() >= QUEUE:
            self.dropped += 1
            return
        session_id: str | None = getattr(record, "session_id", None)
        record.ids = CURRENT.get() or (self.ids_of(session_id) if session_id else None)
        try:
            record.msg, record.args = record.getMessage(), None  # formatted now, because its arguments may change
        except (TypeError, ValueError):
            record.msg, record.args = f"{record.msg} (its arguments do not match)", None
        if record.exc_info:
            record.exc_text = self._plain.formatException(record.exc_info)
            record.exc_info = None  # frames hold audio
        self.queue.put(record)


class Logs:
    """The log of a process while open: `with Logs(...)`. Replaces the root logger's handlers and restores them."""

    def __init__(
        self,
        level: str = "info",
        style: Style = "auto",
        *,
        stream: TextSink | None = None,
        repeats: LogRateLimiter | None = None,
    ) -> None:
        self._level = level.upper()
        self._stream: TextSink = stream or sys.stderr
        self._unwritten = 0
        self._write = _writer(self._stream, style)
        self._handler = _QueueHandler(repeats or LogRateLimiter())
        self._thread = threading.Thread(target=self._run, name="streamer-log", daemon=True)
        self._before: tuple[list[logging.Handler], int] = ([], logging.WARNING)

    @property
    def dropped(self) -> int:
        """Records lost: the queue was full, or writing failed."""
        return self._handler.dropped + self._unwritten

    def set_ids_source(self, ids_of: Callable[[str], Ids | None]) -> None:
        """Set the source of a session's trace, for records from outside of its tasks."""
        self._handler.ids_of = ids_of

    def __enter__(self) -> Self:
        root = logging.getLogger()
        self._before = root.handlers[:], root.level
        root.handlers[:] = [self._handler]
        root.setLevel(self._level)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write queued records within a time-out: a reader that has stopped must not block the process."""
        root = logging.getLogger()
        root.handlers[:], level = self._before
        root.setLevel(level)
        self._handler.queue.put(None)
        self._thread.join(STOP_TIMEOUT_S)
        with suppress(Empty):
            while self._thread.is_alive() and self._handler.queue.get_nowait() is not None:
                self._handler.dropped += 1

    def _run(self) -> None:
        while (record := self._handler.queue.get()) is not None:
            try:
                self._write(record)
            except Exception:  # noqa: BLE001 (a full disk or a closed pipe: counted)
                self._unwritten += 1


def _writer(stream: TextSink, style: Style) -> Callable[[logging.LogRecord], None]:
    terminal = getattr(stream, "isatty", bool)()
    if style == "json" or (style == "auto" and not terminal):
        return _lines(stream, JsonFormatter())
    if terminal:
        return _is_coloured(stream)
    return _lines(stream, TextFormatter())


def _lines(stream: TextSink, formatter: logging.Formatter) -> Callable[[logging.LogRecord], None]:
    def write(record: logging.LogRecord) -> None:
        stream.write(formatter.format(record) + "\n")
        stream.flush()

    return write


def _is_coloured(stream: Any) -> Callable[[logging.LogRecord], None]:
    from rich.console import Console  # noqa: PLC0415 (only on a terminal)
    from rich.syntax import Syntax  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=stream, highlight=False, soft_wrap=True)
    styles = {"DEBUG": "dim", "INFO": "cyan", "WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red"}

    def write(record: logging.LogRecord) -> None:
        at = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        line = Text(f"{at} ", style="dim")
        line.append(f"{record.levelname.lower():<8}", style=styles.get(record.levelname, ""))
        line.append(f"{record.name} ", style="dim")
        text, detail = format_line(record), getattr(record, "detail", "")
        before, found, after = text.partition(detail) if "\n" in detail else (text, "", "")
        line.append(before + after.lstrip(), style="")
        console.print(line)
        if found:
            console.print(Syntax(found, "pytb", theme="ansi_dark", background_color="default"))
        if record.exc_text:
            console.print(Text(record.exc_text, style="red"))

    return write
