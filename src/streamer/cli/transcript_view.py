"""The transcript of a stream, written at its end in one of the formats of `streamer transcribe`."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from streamer.cli.formatting import PlainView, Problem, Times, View
from streamer.cli.transcribe import OutputFormat, part_of
from streamer.client.stream import Received
from streamer.errors import BadRequest
from streamer.transcripts.formats import FORMATS, Part


class TranscriptView:
    """A view that writes the transcript at the end, in addition to what another view shows.

    A stream that fails leaves the transcript up to there. An output that is no transcript raises StreamerError.
    """

    def __init__(self, shown: View, format_: OutputFormat, path: Path | None) -> None:
        """Show the stream in `shown`. `path`: of the file; None for stdout."""
        self._shown = shown
        self._format = format_
        self._path = path
        self._parts: list[Part] = []

    def __enter__(self) -> Self:
        """Create the file. Raises BadRequest if that is not possible."""
        try:
            if self._path is not None:
                self._path.touch()
        except OSError as error:
            raise BadRequest(f"--output: {self._path} cannot be written: {error.strerror}") from error
        self._shown.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.__exit__(kind, error, trace)

    def on_sent(self, seconds: float) -> None:
        self._shown.on_sent(seconds)

    def on_event(self, received: Received) -> None:
        self._shown.on_event(received)
        if (part := part_of(received.event)) is not None:
            self._parts.append(part)

    def on_end(self, times: Times) -> None:
        self._shown.on_end(times)
        text = FORMATS[self._format](sorted(self._parts, key=lambda part: part.start_time))  # of all channels
        if self._path is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            self._path.write_text(text, "utf-8")


class QuietView(PlainView):
    """Problems and times on stderr, if stdout is for the transcript."""

    def __init__(self, channels: int) -> None:
        super().__init__(sys.stderr, sys.stderr, channels)

    def on_event(self, received: Received) -> None:
        if isinstance(received.event, Problem):
            super().on_event(received)
