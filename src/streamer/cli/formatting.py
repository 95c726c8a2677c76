"""Views of a stream: live on a terminal, plain lines in a pipe, or JSON."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

import msgspec

from streamer.client.events import (
    AudioChunk,
    DataEvent,
    Draining,
    Error,
    Event,
    Segment,
    SpeechEnded,
    SpeechStarted,
    WarningEvent,
)
from streamer.client.stream import Received

Problem = Error | WarningEvent | Draining
"""Events that are no results."""

_INDENT = " " * len("[ 0.17 - 2.59] ")


@dataclass(frozen=True, slots=True)
class Times:
    """Durations. `first_s`: until the first event about the audio; None without one.

    `trace`: the id of the server's trace.
    """

    first_s: float | None
    total_s: float
    trace: str | None = None

    def __str__(self) -> str:
        first = "no message" if self.first_s is None else f"first message after {self.first_s:.2f} s"
        trace = f", trace {self.trace}" if self.trace else ""
        return f"{first}, total {self.total_s:.2f} s{trace}"


class View(Protocol):
    """Shows a stream from its first byte to its end."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def on_sent(self, seconds: float) -> None:
        """Show the progress: seconds of audio sent in total."""
        ...

    def on_event(self, received: Received) -> None:
        """Show an event."""
        ...

    def on_end(self, times: Times) -> None:
        """Show the end."""
        ...


class _LineView:
    """A view that only adds lines."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def on_sent(self, seconds: float) -> None:
        pass


class JsonView(_LineView):
    """The received JSON, one event per line, without audio; everything else goes to stderr."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err

    def on_event(self, received: Received) -> None:
        if isinstance(received.event, AudioChunk):
            return
        frame = received.frame
        line = frame if isinstance(frame, str) else msgspec.json.encode(received.event).decode()
        print(line, file=self._out, flush=True)

    def on_end(self, times: Times) -> None:
        print(times, file=self._err, flush=True)


class PlainView(_LineView):
    """Lines for a log or a pipe."""

    def __init__(self, out: TextIO, err: TextIO, channels: int) -> None:
        self._out = out
        self._err = err
        self._channels = channels

    def on_event(self, received: Received) -> None:
        line = format_event(received.event, self._channels)
        if line is not None:
            where = self._err if isinstance(received.event, Problem) else self._out
            print(line, file=where, flush=True)

    def on_end(self, times: Times) -> None:
        print(times, file=self._out, flush=True)


def format_event(event: Event | None, channels: int) -> str | None:  # noqa: PLR0911 (one per event)
    """Format an event as one line; None for events that are not shown."""
    match event:
        case SpeechStarted():
            return f"{_INDENT}{channel_prefix(event.channel, channels)}speech starts at {event.time:.2f}"
        case SpeechEnded():
            return f"{_INDENT}{channel_prefix(event.channel, channels)}speech ends at {event.time:.2f}"
        case Segment():
            text, more = format_output(event.output), "" if event.is_final else " ..."
            if not (text or event.is_final):
                return None  # nothing is certain yet
            return f"{format_span(event)} {channel_prefix(event.channel, channels)}{text}{more}"
        case DataEvent():
            return f"{_INDENT}{channel_prefix(event.channel, channels)}{format_output(event.output)}"
        case Error():
            at = f" [{event.start_time:.2f} - {event.end_time:.2f}]" if event.start_time is not None else ""
            return f"error {event.code}{at}: {strip_control(event.message)}"
        case WarningEvent():
            return f"warning {event.code}: {strip_control(event.message)}"
        case Draining():
            return f"the server is going away in {event.deadline_ms / 1000:.0f} s"
        case _:
            return None


def format_span(segment: Segment) -> str:
    """Format `[ 0.17 - 2.59]`, in seconds."""
    return f"[{segment.start_time:5.2f} - {segment.end_time:.2f}]"


def channel_prefix(channel: int, channels: int) -> str:
    """Return a prefix with the channel, if there are several."""
    return f"channel {channel}: " if channels > 1 else ""


def format_output(output: Any) -> str:
    """Format a model's output: its `text` if it has one, otherwise compact JSON."""
    if isinstance(output, dict) and isinstance(output.get("text"), str):
        return strip_control(output["text"])
    return strip_control(output) if isinstance(output, str) else msgspec.json.encode(output).decode()


def strip_control(text: str) -> str:
    """Replace characters that could move a terminal's cursor."""
    return "".join(character if character.isprintable() else " " for character in text)
