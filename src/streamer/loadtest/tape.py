"""The tape: utterances cut out of recordings, with pauses between them, which all streams share."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.audio.files import AudioFile
from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ConfigError
from streamer.loadtest.workload import Tape, Workload

Samples = NDArray[np.float32]

TAPE_S = 60.0
STEP_S = 0.02
LOUD = 0.03
"""Share of the recording's loudest step above which a step is speech."""
GAP_S = 0.5
"""Shorter pauses belong to the utterance around them."""
EDGE_S = 0.1
"""Audio kept before and after an utterance, where consonants fade."""
NOISE = 1e-4
"""Level of the pauses, -80 dB: no microphone is silent."""

_RAW = {
    Encoding.PCM_U8: ("PCM_U8", "LITTLE"),
    Encoding.PCM_S16LE: ("PCM_16", "LITTLE"),
    Encoding.PCM_S16BE: ("PCM_16", "BIG"),
    Encoding.PCM_S24LE: ("PCM_24", "LITTLE"),
    Encoding.PCM_S32LE: ("PCM_32", "LITTLE"),
    Encoding.PCM_F32LE: ("FLOAT", "LITTLE"),
    Encoding.PCM_F64LE: ("DOUBLE", "LITTLE"),
    Encoding.MULAW: ("ULAW", "LITTLE"),
    Encoding.ALAW: ("ALAW", "LITTLE"),
}
"""Names of libsndfile."""


def make_tape(workload: Workload, recordings: Sequence[AudioFile]) -> Tape:
    """Build a tape of about TAPE_S from the recordings' first channels, in seeded order, with a speech share of `duty`.

    Raises ConfigError if the recordings contain no speech.
    """
    import soxr  # noqa: PLC0415 (not needed to read results)

    rate = workload.format.sample_rate
    spoken = [utterance for recording in recordings for utterance in utterances(recording)]
    if not spoken:
        raise ConfigError(field="--recording", expected="audio that is not silent", got="none")
    voices = [
        soxr.resample(samples, recorded, rate).astype(np.float32) if recorded != rate else samples
        for samples, recorded in spoken
    ]
    samples, speech = _tape(voices, rate, workload)
    whole = -(-len(samples) // workload.chunk_frames) * workload.chunk_frames
    padded = np.concatenate([samples, _is_quiet(whole - len(samples), np.random.default_rng(workload.seed))])
    return Tape(encode(padded, workload.format), workload.chunk_bytes, speech / len(padded))


def utterances(recording: AudioFile) -> list[tuple[Samples, int]]:
    """Yield (samples, rate) of each utterance of the first channel, detected by its loudness alone."""
    samples, rate = recording.samples[0], recording.sample_rate
    step = max(1, int(STEP_S * rate))
    steps = len(samples) // step
    level = np.sqrt((samples[: steps * step].reshape(steps, step) ** 2).mean(axis=1))
    loud = np.flatnonzero(level > LOUD * level.max(initial=0.0))
    if not len(loud):
        return []
    edge = int(EDGE_S * rate)
    parts = np.split(loud, np.flatnonzero(np.diff(loud) > GAP_S / STEP_S) + 1)
    return [(samples[max(0, part[0] * step - edge) : (part[-1] + 1) * step + edge], rate) for part in parts]


def encode(samples: Samples, format: AudioFormat) -> bytes:
    """Encode one channel for the wire."""
    import soundfile  # noqa: PLC0415

    subtype, endian = _RAW[format.encoding]
    file = io.BytesIO()
    soundfile.write(file, samples.clip(-1, 1), format.sample_rate, subtype, endian, "RAW")
    return file.getvalue()


def _tape(voices: Sequence[Samples], rate: int, workload: Workload) -> tuple[Samples, int]:
    """Return utterances and pauses in turn until the tape is long enough, and the number of utterance frames."""
    chance = np.random.default_rng((workload.seed, 0))
    pause = np.mean([len(voice) for voice in voices]) * (1 - workload.speech_share) / workload.speech_share
    parts: list[Samples] = []
    length = speech = 0
    while length < TAPE_S * rate:
        for index in chance.permutation(len(voices)):
            silence = _is_quiet(int(pause * chance.uniform(0.5, 1.5)), chance)
            parts += [silence, voices[index]]
            length += len(silence) + len(voices[index])
            speech += len(voices[index])
    return np.concatenate(parts), speech


def _is_quiet(frames: int, chance: np.random.Generator) -> Samples:
    return chance.normal(0, NOISE, frames).astype(np.float32)
