"""The picture of `streamer vad --plot`: waveform, probabilities with both thresholds, segments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from streamer.audio.files import AudioFile
from streamer.cli.vad_result import ChannelSpeech
from streamer.vad.network import SAMPLE_RATE, WINDOW
from streamer.vad.settings import VadConfig

INK, FAINT, WAVE, SPEECH, CURVE, GRID = "#1f2933", "#7b8794", "#9aa5b1", "#0f8a6d", "#d9632b", "#e4e7eb"
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.direction": "out",
    "legend.frameon": False,
}
COLUMNS = 2000
"""Columns of the waveform: each is a line from the smallest to the largest sample in it."""

LABEL_PART = 0.08
"""Share of the width below which a segment has no space for its times."""


def draw(target: Path, title: str, audio: AudioFile, channels: list[ChannelSpeech], config: VadConfig) -> None:
    """Draw the picture in the format of the target's suffix. Raises OSError or ValueError."""
    with rc_context(STYLE):
        width = float(np.clip(audio.seconds * 0.8, 10.0, 24.0))
        figure = Figure(figsize=(width, 0.7 + 3.1 * len(channels)), dpi=150, layout="constrained")
        axes = figure.subplots(
            2 * len(channels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": [3, 2] * len(channels)}
        )[:, 0]
        for number, channel in enumerate(channels):
            wave, curve = axes[2 * number], axes[2 * number + 1]
            if channel.name:
                wave.set_title(channel.name, fontsize=9, color=FAINT)
            _waveform(wave, audio.samples[channel.index], audio, channel)
            _probability(curve, audio, channel, config)
        axes[0].set_xlim(0, audio.seconds)
        axes[-1].set_xlabel("seconds")
        _heading(figure, title, audio, channels)
        figure.savefig(target)


def _heading(figure: Figure, title: str, audio: AudioFile, channels: list[ChannelSpeech]) -> None:
    found = "   ·   ".join(_found(audio, channels, detector) for detector in _detectors(channels))
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.text(
        0.99, 0.99, f"{audio.seconds:.2f} s at {audio.sample_rate} Hz   ·   {found}", ha="right", va="top", color=FAINT
    )


def _detectors(channels: list[ChannelSpeech]) -> list[str]:
    return list(dict.fromkeys(channel.detector for channel in channels))


def _found(audio: AudioFile, channels: list[ChannelSpeech], detector: str) -> str:
    """Return a summary of one detector over all channels."""
    lengths = [
        segment.end - segment.start
        for channel in channels
        if channel.detector == detector
        for segment in channel.segments
    ]
    name = f"{detector}: " if len(_detectors(channels)) > 1 else ""
    segments = f"{len(lengths)} segment{'' if len(lengths) == 1 else 's'}"
    return f"{name}{segments}, {sum(lengths) / audio.sample_rate:.2f} s of speech"


def _waveform(axis: Any, samples: NDArray[np.float32], audio: AudioFile, channel: ChannelSpeech) -> None:
    columns = np.array_split(samples, min(COLUMNS, len(samples)))
    at = (np.arange(len(columns)) + 0.5) * audio.seconds / len(columns)
    low, high = np.array([part.min() for part in columns]), np.array([part.max() for part in columns])
    rate = audio.sample_rate
    spoken = np.zeros(len(at), dtype=bool)
    limit = 1.1 * max(float(np.abs(samples).max()), 0.01)
    top = 1.35 * limit  # space for the labels
    for segment in channel.segments:
        start, end = segment.start / rate, segment.end / rate
        spoken |= (at >= start) & (at < end)
        _shade(axis, start, end)
        if end - start > LABEL_PART * audio.seconds:
            label = f"{start:.2f} – {end:.2f} s"  # noqa: RUF001 (a range is set with an en dash)
            axis.annotate(label, (start, top), (4, -4), textcoords="offset points", va="top", color=SPEECH, fontsize=8)
    axis.axhline(0, color=WAVE, linewidth=0.5)
    axis.vlines(at[~spoken], low[~spoken], high[~spoken], color=WAVE, linewidth=0.7)
    axis.vlines(at[spoken], low[spoken], high[spoken], color=SPEECH, linewidth=0.7)
    axis.set_ylim(-limit, top)
    axis.set_ylabel("amplitude")
    axis.tick_params(bottom=False)
    axis.spines["bottom"].set_visible(False)


def _shade(axis: Any, start: float, end: float) -> None:
    axis.axvspan(start, end, color=SPEECH, alpha=0.09, linewidth=0)
    for edge in (start, end):
        axis.axvline(edge, color=SPEECH, linewidth=0.8)


def _probability(axis: Any, audio: AudioFile, channel: ChannelSpeech, config: VadConfig) -> None:
    window_s = WINDOW / SAMPLE_RATE
    edges = np.minimum(np.arange(len(channel.probabilities) + 1) * window_s, audio.seconds)
    rate = audio.sample_rate
    for segment in channel.segments:
        _shade(axis, segment.start / rate, segment.end / rate)
    axis.stairs(channel.probabilities, edges, color=CURVE, linewidth=1.2, baseline=None)
    for value, name in (
        (config.positive_speech_threshold, "opens"),
        (config.negative_speech_threshold, "silence"),
    ):
        axis.axhline(value, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axis.annotate(
            f"{name} {value:g}", (1.0, value), (4, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", fontsize=8,
        )  # fmt: skip
    axis.set_ylim(0, 1.03)
    axis.set_yticks([0, 0.5, 1])
    axis.set_ylabel("speech")
