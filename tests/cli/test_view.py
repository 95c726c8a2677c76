"""What a person sees: finals stay, interims replace each other on one line, nothing moves the cursor unasked."""

from __future__ import annotations

import io
import re

from rich.console import Console

from streamer.cli.formatting import Times, format_event, format_output
from streamer.cli.tui import LiveView
from streamer.client.events import Error, Event, Segment, SpeechEnded, SpeechStarted
from streamer.client.stream import Received

WIDTH = 40


def watched(*events: Event, channels: int = 1) -> str:
    """Everything written to a terminal of 40 columns."""
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=True, width=WIDTH, highlight=False, color_system=None, legacy_windows=False
    )
    view = LiveView(10.0, channels, console)
    with view:
        view.on_sent(5.0)
        for event in events:
            view.on_event(Received("", event))
        view.on_end(Times(0.5, 1.0))
    return out.getvalue()


def screen(written: str) -> list[str]:
    """The lines that a terminal shows in the end."""
    lines, at = [""], 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if token == "\n":
            at += 1
            lines += [""] * (at + 1 - len(lines))
        elif token == "\x1b[2K":
            lines[at] = ""
        elif up := re.fullmatch(r"\x1b\[(\d+)A", token):
            at -= int(up[1])
        elif not token.startswith("\x1b") and token != "\r":
            lines[at] = token
    return [line.rstrip() for line in lines if line.strip()]


def interim(words: str, channel: int = 0) -> Segment:
    return Segment(channel, 1, 0.17, 1.5, False, {"text": words})


def final(words: str, channel: int = 0) -> Segment:
    return Segment(channel, 1, 0.17, 2.59, True, {"text": words})


def test_finals_stay_and_interims_leave_nothing() -> None:
    written = watched(
        SpeechStarted(0, 0.17),
        interim("the"),
        interim("the weather"),
        SpeechEnded(0, 2.59),
        final("the weather today"),
    )
    assert "the weather ..." in written
    assert screen(written) == ["[ 0.17 - 2.59] the weather today", "first message after 0.50 s, total 1.00 s"]


def test_speech_and_interims_take_one_line_however_long() -> None:
    written = watched(SpeechStarted(0, 0.17), interim("word " * 40))
    assert "[ 0.17 -      ] speaking ..." in written
    assert all(len(line) <= WIDTH for line in re.split(r"[\r\n]|\x1b\[[0-9;?]*[A-Za-z]", written))
    assert "…" in written


def test_each_channel_that_speaks_has_its_line() -> None:
    written = watched(
        SpeechStarted(0, 0.17),
        SpeechStarted(1, 0.3),
        interim("left"),
        interim("right", 1),
        final("left", 0),
        channels=2,
    )
    assert "channel 0: left ...\n" in written
    assert "channel 1: right ...\n" in written
    assert screen(written)[0] == "[ 0.17 - 2.59] channel 0: left"


def test_the_final_of_speech_that_was_cut_leaves_its_successor() -> None:
    written = watched(SpeechStarted(0, 0.17), SpeechEnded(0, 2.59), SpeechStarted(0, 2.59), final("first half"))
    assert "[ 2.59 -      ] speaking" in written.rpartition("first half")[2]


def test_errors_are_shown_with_their_range() -> None:
    line = format_event(Error("model_error", "no\x1b[2Jluck", False, True, 0, 1.0, 2.0), 1)
    assert line == "error model_error [1.00 - 2.00]: no [2Jluck"


def test_outputs_show_their_text_or_compact_json() -> None:
    assert format_output({"text": "a\nb", "words": []}) == "a b"
    assert format_output({"text": 1, "n": [1]}) == '{"text":1,"n":[1]}'
    assert format_output("plain\r") == "plain "
    assert format_output(None) == "null"


def test_an_interim_without_words_is_no_line_and_a_final_without_words_is_one() -> None:
    assert format_event(interim(""), 1) is None
    assert format_event(interim("on"), 1) == "[ 0.17 - 1.50] on ..."
    assert format_event(final(""), 1) == "[ 0.17 - 2.59] "
