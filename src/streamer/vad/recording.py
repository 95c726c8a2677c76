"""Speech detection in a whole recording, with the network and the endpointer."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from streamer.errors import InvalidFormat
from streamer.vad.endpointer import Endpointer, SpeechOffset
from streamer.vad.network import SAMPLE_RATE, WINDOW, one_blas_thread
from streamer.vad.scorer import SpeechScorer
from streamer.vad.settings import VadConfig
from streamer.vad.silero import SileroScorer

_BLOCK = 4096
"""Windows scored in one call: limits the memory for a long recording (8 MB)."""


def speech_probabilities(
    samples: NDArray[np.float32], sample_rate: int, detector: SpeechScorer | None = None
) -> NDArray[np.float32]:
    """Return the speech probability of each 32 ms of a recording, float32 [windows].

    `samples`: float32 [n] in [-1, 1], one channel, at any `sample_rate` in Hz. Window i covers the samples from i *
    0.032 * sample_rate on; the last is padded with silence. Values that are not finite count as silence. `detector`:
    None for Silero's network. Raises InvalidFormat for another shape or rate.
    """
    if sample_rate <= 0:
        raise InvalidFormat(field="sample_rate", expected="a positive number of Hz", got=sample_rate)
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise InvalidFormat(field="samples", expected="float32 [n]", got=f"{samples.dtype} {list(samples.shape)}")
    samples = np.where(np.isfinite(samples), samples, 0.0).astype(np.float32)
    if sample_rate != SAMPLE_RATE:
        samples = np.asarray(soxr.resample(samples, sample_rate, SAMPLE_RATE), dtype=np.float32)
    samples = np.pad(samples, (0, -len(samples) % WINDOW))
    scorer = detector or SileroScorer()
    row = scorer.open()
    size = _BLOCK * WINDOW
    with one_blas_thread():
        blocks = [scorer.score([(row, samples[at : at + size])])[0] for at in range(0, len(samples), size)]
    return np.concatenate([np.empty(0, np.float32), *blocks])


def speech_segments(
    samples: NDArray[np.float32], sample_rate: int, config: VadConfig | None = None
) -> list[SpeechOffset]:
    """Return the speech segments of a recording, in samples at `sample_rate`, as a stream would have them.

    Takes the arguments of `speech_probabilities`; `config` defaults to VadConfig().
    """
    return segments_from(speech_probabilities(samples, sample_rate), len(samples), sample_rate, config or VadConfig())


def segments_from(
    probabilities: NDArray[np.float32], length: int, sample_rate: int, config: VadConfig
) -> list[SpeechOffset]:
    """Return the segments of a recording of `length` samples from its window probabilities."""
    endpointer = Endpointer(config, SAMPLE_RATE)
    events = [event for value in probabilities.tolist() for event in endpointer.push(WINDOW, value)]
    events += endpointer.finish()

    def position(sample: int) -> int:
        return min(round(sample * sample_rate / SAMPLE_RATE), length)

    return [
        SpeechOffset(position(event.start), position(event.end)) for event in events if isinstance(event, SpeechOffset)
    ]
