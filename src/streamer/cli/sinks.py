"""The sinks of audio out in `streamer client`: a WAV file, the loudspeaker."""

from __future__ import annotations

import asyncio
import wave
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from streamer.audio.format import AudioFormat, Encoding
from streamer.client.events import AudioChunk, AudioOutInfo, Event, Started
from streamer.errors import BadRequest, install_command
from streamer.media.formats import MediaFormat
from streamer.session.events import Mode
from streamer.session.messages import AudioOutFormat

_COMPRESSED_RATE = 48_000
"""Sample rate in Hz of the audio out for compressed input, whose rate is not known."""

_WITHOUT_LOUDSPEAKER = "or save the audio with -o FILE"


class AudioSink(Protocol):
    """Takes audio out in 16-bit integers."""

    @property
    def is_paced(self) -> bool:
        """Whether the audio is heard as it arrives."""
        ...

    def open(self, info: AudioOutInfo) -> None:
        """Prepare for a format, before the first audio. Raises BadRequest if that is not possible."""

    async def write(self, data: bytes) -> None:
        """Take audio; wait while it cannot be taken."""

    def close(self) -> None: ...


class WavSink:
    """A WAV file."""

    is_paced = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: wave.Wave_write | None = None

    def open(self, info: AudioOutInfo) -> None:
        try:
            file = self._file = wave.open(str(self._path), "wb")  # noqa: SIM115 (closed by `close`)
        except OSError as error:
            raise BadRequest(f"--output: {self._path}: {error.strerror}") from error
        file.setnchannels(info.channels)
        file.setsampwidth(2)
        file.setframerate(info.sample_rate)

    async def write(self, data: bytes) -> None:
        if self._file is not None:
            self._file.writeframes(data)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class LoudspeakerSink:
    """The loudspeaker of this machine, by sounddevice."""

    is_paced = True

    def __init__(self) -> None:
        """Prepare the sink. Raises BadRequest if sounddevice or its library is missing."""
        try:
            import sounddevice
        except ModuleNotFoundError as error:
            raise BadRequest(f"--play needs the extra: {install_command('play')} ({error})") from None
        except OSError as error:
            raise BadRequest(
                f"--play: the system's PortAudio library cannot be loaded ({error}); "
                f"install it (Debian: apt install libportaudio2), {_WITHOUT_LOUDSPEAKER}"
            ) from None
        self._sounddevice: Any = sounddevice
        self._output: Any = None

    def open(self, info: AudioOutInfo) -> None:
        try:
            self._output = self._sounddevice.RawOutputStream(info.sample_rate, channels=info.channels, dtype="int16")
            self._output.start()
        except self._sounddevice.PortAudioError as error:
            raise self._failure("cannot be opened", error) from error

    async def write(self, data: bytes) -> None:
        """Play audio; wait while the device has enough. Raises BadRequest if the device fails."""
        try:
            await asyncio.to_thread(self._output.write, data)
        except self._sounddevice.PortAudioError as error:
            raise self._failure("failed", error) from error

    def close(self) -> None:
        """Play the rest, and close the device. A device that has failed is reported by `open` or `write`."""
        if self._output is not None:
            with suppress(self._sounddevice.PortAudioError):
                self._output.stop()
            with suppress(self._sounddevice.PortAudioError):
                self._output.close()

    @staticmethod
    def _failure(problem: str, error: Exception) -> BadRequest:
        return BadRequest(f"--play: the loudspeaker {problem}: {error}; check the device, {_WITHOUT_LOUDSPEAKER}")


class Sinks:
    """All sinks of one stream."""

    def __init__(self, sinks: Sequence[AudioSink], format: AudioFormat | MediaFormat) -> None:
        """Create the sinks of a stream. `format`: of its input."""
        self._sinks = sinks
        self._channels = format.channels or 1
        self._rate = format.sample_rate if isinstance(format, AudioFormat) else _COMPRESSED_RATE

    @property
    def audio_out_format(self) -> AudioOutFormat | bool:
        """The audio to request; False for none."""
        if not self._sinks:
            return False
        return AudioOutFormat(Encoding.PCM_S16LE, self._rate, paced=any(sink.is_paced for sink in self._sinks))

    async def take(self, event: Event | None) -> None:
        """Take the audio of an event. Raises BadRequest for audio that a sink cannot take."""
        if isinstance(event, AudioChunk):
            for sink in self._sinks:
                await sink.write(event.data)
        elif isinstance(event, Started) and self._sinks and event.audio_out is not None:
            if event.mode is Mode.SEGMENTED and self._channels > 1:
                raise BadRequest("audio out on segmented: expected one channel of input, got several")
            for sink in self._sinks:
                sink.open(event.audio_out)

    def close(self) -> None:
        """Close all sinks."""
        for sink in self._sinks:
            sink.close()
