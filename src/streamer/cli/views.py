"""Which view of a stream fits the output: live on a terminal, plain lines in a pipe, JSON if asked."""

from __future__ import annotations

import sys

from streamer.cli.formatting import JsonView, PlainView, View


def view_for(total_s: float, channels: int, *, as_json: bool = False) -> View:
    """Return the view that fits stdout. `total_s`: seconds of audio that will be sent."""
    if as_json:
        return JsonView(sys.stdout, sys.stderr)
    if sys.stdout.isatty():
        from streamer.cli.tui import LiveView

        return LiveView(total_s, channels)
    return PlainView(sys.stdout, sys.stderr, channels)
