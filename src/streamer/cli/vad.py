"""`streamer vad`: the speech in a file, as a table, JSON, or a picture."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.vad_result import ChannelSpeech
from streamer.vad.endpointer import SpeechOffset
from streamer.vad.settings import VadConfig

if TYPE_CHECKING:
    from rich.text import Text

    from streamer.audio.files import AudioFile

DEFAULTS = VadConfig()
STRIP = 72
"""Characters of the strip that shows a whole channel."""
LEVELS = "▁▂▃▄▅▆▇█"


def vad(
    file: Annotated[str, typer.Argument(help="WAV, FLAC, Ogg, AIFF, ..., or a URL; any rate, any number of channels.")],
    plot: Annotated[
        Path | None, typer.Option(help="Draw waveform, probabilities and segments to this file.", metavar="OUT.png")
    ] = None,
    detector: Annotated[
        list[str] | None,
        typer.Option(
            "--detector",
            help="silero, energy, none or package.module:Detector; repeat it to compare detectors.",
            show_default="silero",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per segment.")] = False,
    positive_speech_threshold: Annotated[
        float, typer.Option(help="A window above this probability may open speech.")
    ] = DEFAULTS.positive_speech_threshold,
    negative_speech_threshold: Annotated[
        float, typer.Option(help="A window below this probability is silence.")
    ] = DEFAULTS.negative_speech_threshold,
    pre_speech_pad_ms: Annotated[
        float, typer.Option(help="Audio before the first window that belongs to the speech.")
    ] = DEFAULTS.pre_speech_pad_ms,
    post_speech_pad_ms: Annotated[
        float, typer.Option(help="Audio after the last window that belongs to the speech.")
    ] = DEFAULTS.post_speech_pad_ms,
    redemption_time_ms: Annotated[float, typer.Option(help="Silence that ends speech.")] = DEFAULTS.redemption_time_ms,
    min_speech_time_ms: Annotated[
        float, typer.Option(help="Shorter speech is discarded as noise.")
    ] = DEFAULTS.min_speech_time_ms,
    max_speech_time_ms: Annotated[
        float, typer.Option(help="Longer speech is split, without a gap.")
    ] = DEFAULTS.max_speech_time_ms,
) -> None:
    """Find the speech in a file, with the detectors and the rules of a stream."""
    from streamer.cli.recordings import file_name, read_recording
    from streamer.errors import StreamerError

    try:
        config = VadConfig(
            positive_speech_threshold=positive_speech_threshold,
            negative_speech_threshold=negative_speech_threshold,
            pre_speech_pad_ms=pre_speech_pad_ms,
            post_speech_pad_ms=post_speech_pad_ms,
            redemption_time_ms=redemption_time_ms,
            min_speech_time_ms=min_speech_time_ms,
            max_speech_time_ms=max_speech_time_ms,
        )
        audio = read_recording(file)
        started_at = time.perf_counter()
        channels = _find(audio, config, detector or ["silero"])
    except StreamerError as error:
        raise _input_error(error.message) from None
    took_s = time.perf_counter() - started_at
    if json:
        _print_json(audio, channels)
    else:
        _print_table(file_name(file), audio, channels, took_s)
    if plot is not None:
        _plot(plot, file_name(file), audio, channels, config)


def _input_error(message: str) -> typer.Exit:
    typer.echo(f"error: {message}", err=True)
    return typer.Exit(2)


def _find(audio: AudioFile, config: VadConfig, detectors: list[str]) -> list[ChannelSpeech]:
    """Return the result of each detector in each channel. Raises ConfigError."""
    from streamer.vad.detectors import make_detector
    from streamer.vad.recording import segments_from, speech_probabilities

    found = []
    for index, samples in enumerate(audio.samples):
        for detector in detectors:
            probabilities = speech_probabilities(samples, audio.sample_rate, make_detector(detector))
            segments = segments_from(probabilities, len(samples), audio.sample_rate, config)
            names = [*([f"channel {index}"] if audio.channels > 1 else []), *([detector] if len(detectors) > 1 else [])]
            found.append(ChannelSpeech(index, detector, ", ".join(names), probabilities, segments))
    return found


def _mean(audio: AudioFile, channel: ChannelSpeech, segment: SpeechOffset) -> float:
    """Return the mean probability of the windows of a segment."""
    from streamer.vad.network import SAMPLE_RATE, WINDOW

    per_window = WINDOW * audio.sample_rate / SAMPLE_RATE
    first, last = int(segment.start / per_window), int(segment.end / per_window) + 1
    return float(channel.probabilities[first:last].mean())


def _print_json(audio: AudioFile, channels: list[ChannelSpeech]) -> None:
    import msgspec

    rate = audio.sample_rate
    several = len({channel.detector for channel in channels}) > 1
    for channel in channels:
        for segment in channel.segments:
            line = {
                "channel": channel.index,
                **({"detector": channel.detector} if several else {}),
                "start": round(segment.start / rate, 4),
                "end": round(segment.end / rate, 4),
                "start_sample": segment.start,
                "end_sample": segment.end,
                "mean_probability": round(_mean(audio, channel, segment), 4),
            }
            typer.echo(msgspec.json.encode(line).decode())


def _print_table(title: str, audio: AudioFile, channels: list[ChannelSpeech], took_s: float) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    several = len(channels) > 1
    rate = audio.sample_rate
    count = f"{audio.channels} channels" if audio.channels > 1 else "mono"
    console.print(f"[bold]{title}[/bold]  [dim]{audio.seconds:.2f} s, {rate} Hz, {count}, {audio.subtype}[/dim]")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in (*(["of"] if several else []), "start", "end", "length", "probability"):
        table.add_column(heading, justify="right")
    for channel in channels:
        if console.encoding.lower().startswith("utf"):
            console.print(_strip(audio, channel), f"[dim]{channel.name}[/dim]" if several else "")
        for segment in channel.segments:
            start, end = segment.start / rate, segment.end / rate
            figures = (
                f"{start:.2f} s",
                f"{end:.2f} s",
                f"{end - start:.2f} s",
                f"{_mean(audio, channel, segment):.0%}",
            )
            table.add_row(*([channel.name] if several else []), *figures)
    found = sum(len(channel.segments) for channel in channels)
    if found:
        console.print(table)
    if len({channel.detector for channel in channels}) > 1:  # a sum over detectors says nothing
        return
    speech_s = sum(segment.end - segment.start for channel in channels for segment in channel.segments) / rate
    total_s = audio.seconds * len(channels)
    segments = {0: "no speech", 1: "1 segment"}.get(found, f"{found} segments")
    console.print(
        f"{segments}, {speech_s:.2f} s of {total_s:.2f} s ({speech_s / total_s:.0%})"
        f"  [dim]found in {took_s * 1000:.0f} ms, {total_s / took_s:.0f} times real time[/dim]"
    )


def _strip(audio: AudioFile, channel: ChannelSpeech) -> Text:
    """Return the strip of a channel: height is the probability, colour is speech."""
    from rich.text import Text

    frames, windows = audio.samples.shape[1], len(channel.probabilities)
    width = min(STRIP, windows)
    strip = Text()
    for column in range(width):
        first, last = column * windows // width, (column + 1) * windows // width
        level = float(channel.probabilities[first:last].max())
        middle = (column + 0.5) / width * frames
        spoken = any(segment.start <= middle < segment.end for segment in channel.segments)
        strip.append(LEVELS[min(int(level * len(LEVELS)), len(LEVELS) - 1)], style="green" if spoken else "dim")
    return strip


def _plot(target: Path, title: str, audio: AudioFile, channels: list[ChannelSpeech], config: VadConfig) -> None:
    from streamer.errors import install_command

    try:
        from streamer.cli.vad_plot import draw
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "matplotlib":
            raise
        raise _input_error(f"--plot needs matplotlib: {install_command('plot')}") from None
    try:
        draw(target, title, audio, channels, config)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _input_error(f"{target}: {reason.splitlines()[0]}") from None
    typer.echo(f"drawn to {target}", err=True)
