"""The live view on a terminal: progress of sending, active channels, and interim results."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamer.cli.formatting import Times, channel_prefix, format_event, format_output
from streamer.client.events import Draining, Error, Event, Segment, SpeechEnded, SpeechStarted, WarningEvent
from streamer.client.stream import Received

_FRAME_S = 1 / 15


@dataclass(frozen=True, slots=True)
class _SpeechLine:
    """Speech without a final yet. Times in seconds; `end` is None while it continues."""

    start: float
    end: float | None = None
    words: str = ""


class LiveView:
    """Finals scroll up; below them is one line for each active channel, and the progress of sending."""

    def __init__(self, total_s: float, channels: int, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._total_s = total_s
        self._channels = channels
        self._sent_s = 0.0
        self._drawn = 0.0
        self._speaking: dict[int, _SpeechLine] = {}
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def on_sent(self, seconds: float) -> None:
        self._sent_s = seconds
        if monotonic() - self._drawn >= _FRAME_S:
            self._draw()

    def on_event(self, received: Received) -> None:
        event = received.event
        if not self._follow(event) and (line := format_event(event, self._channels)) is not None:
            self._console.print(Text(line, _style(event)))
        self._draw()

    def on_end(self, times: Times) -> None:
        self._live.stop()
        self._console.print(Text(str(times), "dim"))

    def _follow(self, event: Event | None) -> bool:
        """Update the live lines; return whether the event needs no other output."""
        match event:
            case SpeechStarted(channel=channel, time=time):
                self._speaking[channel] = _SpeechLine(time)
            case SpeechEnded(channel=channel, time=time):
                speech = self._speaking.get(channel, _SpeechLine(time))
                self._speaking[channel] = replace(speech, end=time)
            case Segment(is_final=False, channel=channel):
                speech = self._speaking.get(channel, _SpeechLine(event.start_time))
                self._speaking[channel] = replace(speech, words=format_output(event.output))
            case Segment(channel=channel):
                # Speech that was cut at its maximum length has a successor, which does not end with this final.
                if channel in self._speaking and self._speaking[channel].start < event.end_time:
                    del self._speaking[channel]
                return False
            case _:
                return False
        return True

    def _draw(self) -> None:
        self._drawn = monotonic()
        lines = [self._line(channel, speech) for channel, speech in sorted(self._speaking.items())]
        self._live.update(Group(*lines, self._progress()), refresh=True)

    def _line(self, channel: int, speech: _SpeechLine) -> Text:
        """Return one line; of long speech, its last words."""
        end = "     " if speech.end is None else f"{speech.end:.2f}"
        head = f"[{speech.start:5.2f} - {end}] {channel_prefix(channel, self._channels)}"
        words = speech.words or ("speaking" if speech.end is None else "spoke")
        room = max(10, self._console.width - len(head) - 6)
        if len(words) > room:
            words = "…" + words[-room:]
        return Text.assemble((head, "dim"), (words, "cyan" if speech.words else "dim"), (" ...", "dim"), no_wrap=True)

    def _progress(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=self._total_s, completed=self._sent_s, width=30)
        grid.add_row(Text("sent", "dim"), bar, Text(f"{self._sent_s:.1f} / {self._total_s:.1f} s", "dim"))
        return grid


def _style(event: Event | None) -> str:
    match event:
        case Error():
            return "red"
        case WarningEvent() | Draining():
            return "yellow"
        case _:
            return "bold"
