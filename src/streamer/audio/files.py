"""Audio files of all kinds that libsndfile reads (WAV, FLAC, Ogg, AIFF, ...), validated before their use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from streamer.audio.errors import UnreadableFile
from streamer.audio.format import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE


@dataclass(frozen=True, slots=True, eq=False)
class AudioFile:
    """A whole recording. `samples`: float32 [channels, n] in [-1, 1]; `sample_rate` in Hz.

    `subtype` is libsndfile's name of the encoding in the file: PCM_16, PCM_24, FLOAT, ULAW, ...
    """

    samples: NDArray[np.float32]
    sample_rate: int
    subtype: str

    @property
    def channels(self) -> int:
        return len(self.samples)

    @property
    def seconds(self) -> float:
        """Duration of the recording."""
        return float(self.samples.shape[1] / self.sample_rate)


def read_audio(path: str | Path) -> AudioFile:
    """Read a recording; samples that are not finite become 0. Raises UnreadableFile."""
    name = str(path)
    try:
        with open(name, "rb") as opened:
            return decode_audio(opened, name)
    except OSError as error:
        raise UnreadableFile(f"{name}: {error.strerror or error}") from error


def decode_audio(opened: BinaryIO, name: str) -> AudioFile:
    """Read a recording from an open file, as `read_audio`. `name`: for the error. Raises UnreadableFile."""
    try:
        with soundfile.SoundFile(opened) as file:
            rate = int(file.samplerate)
            if not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
                raise UnreadableFile(
                    f"{name}: expected a sample rate of {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz, got {rate} Hz"
                )
            samples = file.read(dtype="float32", always_2d=True)
            subtype = str(file.subtype)
    except soundfile.SoundFileError as error:
        reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
        raise UnreadableFile(f"{name}: cannot be read as audio ({reason})") from error
    if not len(samples):
        raise UnreadableFile(f"{name}: the file contains no audio")
    by_channel = np.ascontiguousarray(samples.T)
    by_channel[~np.isfinite(by_channel)] = 0.0
    return AudioFile(by_channel, rate, subtype)
