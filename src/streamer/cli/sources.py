"""The sources of `streamer client`: a recording, a compressed file, a pipe, a URL, a microphone."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from streamer.audio.format import AudioFormat, Encoding
from streamer.client.sources import chunks, pace
from streamer.errors import ErrorCode, StreamerError
from streamer.media.formats import Container, MediaFormat

_PIPE_BYTES = 4_096
_MICROPHONE = AudioFormat(Encoding.PCM_S16LE, 16_000, 1)
_RECORDERS = (
    ("parec", "--raw", "--format=s16le", "--rate=16000", "--channels=1", "--latency-msec=20"),
    ("arecord", "-q", "-t", "raw", "-f", "S16_LE", "-r", "16000", "-c", "1"),
    ("rec", "-q", "-t", "raw", "-e", "signed", "-b", "16", "-L", "-r", "16000", "-c", "1", "-"),
)
"""Programs that write a microphone's samples to stdout."""


class NoSource(StreamerError):
    """Audio that cannot be read."""

    code = ErrorCode.INVALID_AUDIO


class Source(Protocol):
    """Audio as it goes over the wire."""

    @property
    def format(self) -> AudioFormat | MediaFormat: ...

    @property
    def seconds(self) -> float:
        """Length; 0 if it is not known."""
        ...

    def pieces(self, chunk_bytes: int, *, real_time: bool) -> AsyncIterator[tuple[bytes, float]]:
        """Yield messages, each with the seconds of audio up to its end."""
        ...


@dataclass(frozen=True, slots=True)
class Recording:
    """PCM that is there as a whole."""

    format: AudioFormat
    data: bytes

    @property
    def bytes_per_second(self) -> int:
        """Of all channels together."""
        return self.format.sample_rate * self.format.frame_bytes

    @property
    def seconds(self) -> float:
        return len(self.data) / self.bytes_per_second

    async def pieces(self, chunk_bytes: int, *, real_time: bool) -> AsyncIterator[tuple[bytes, float]]:
        sent = 0
        async for piece in _timed(chunks(self.data, chunk_bytes), self.bytes_per_second, real_time=real_time):
            sent += len(piece)
            yield piece, sent / self.bytes_per_second


@dataclass(frozen=True, slots=True)
class CompressedFile:
    """A file that is sent as it is. For its pace it is demuxed here, not decoded."""

    data: bytes
    seconds: float
    format: MediaFormat = MediaFormat(Container.AUTO)

    @classmethod
    def of(cls, data: bytes) -> CompressedFile:
        """Look at a whole file. Raises StreamerError if it is not audio that the server takes."""
        from streamer.media.containers import demuxer_for
        from streamer.media.packets import Packet, Track

        demuxer, seconds, rate = demuxer_for(MediaFormat(Container.AUTO)), 0.0, 0
        for items in (demuxer.push(data), demuxer.finish()):
            for item in items:
                if isinstance(item, Track):
                    rate = item.sample_rate
                elif isinstance(item, Packet) and rate:
                    seconds += item.samples / rate
        return cls(data, seconds)

    async def pieces(self, chunk_bytes: int, *, real_time: bool) -> AsyncIterator[tuple[bytes, float]]:
        """Yield messages. Their seconds are those of an even bit rate."""
        per_second = len(self.data) / self.seconds if self.seconds else float("inf")
        sent = 0
        async for piece in _timed(chunks(self.data, chunk_bytes), per_second, real_time=real_time):
            sent += len(piece)
            yield piece, sent / per_second


@dataclass(frozen=True, slots=True)
class Pipe:
    """Audio that comes at its own pace, from stdin or from a program."""

    format: AudioFormat | MediaFormat
    command: tuple[str, ...] = ()
    seconds: float = 0.0

    async def pieces(self, chunk_bytes: int, *, real_time: bool) -> AsyncIterator[tuple[bytes, float]]:
        if not self.command:
            loop = asyncio.get_running_loop()
            while data := await loop.run_in_executor(None, os.read, sys.stdin.fileno(), _PIPE_BYTES):
                yield data, 0.0
            return
        process = await asyncio.create_subprocess_exec(*self.command, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        try:
            while data := await process.stdout.read(_PIPE_BYTES):
                yield data, 0.0
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


@dataclass(frozen=True, slots=True)
class Download:
    """Audio behind a URL, sent while it comes."""

    url: str
    format: MediaFormat = MediaFormat(Container.AUTO)
    seconds: float = 0.0

    async def pieces(self, chunk_bytes: int, *, real_time: bool) -> AsyncIterator[tuple[bytes, float]]:
        import aiohttp

        try:
            async with aiohttp.ClientSession(raise_for_status=True) as http, http.get(self.url) as answer:
                async for data in answer.content.iter_any():
                    yield data, 0.0
        except aiohttp.ClientError as error:
            raise NoSource(f"{self.url}: expected audio, got {error}") from error


def source_of(name: str, *, as_it_is: bool) -> Source:
    """Return the source of a name: `-`, a URL, or a file.

    `as_it_is`: the server takes compressed audio; without it a file is decoded here. Raises StreamerError.
    """
    if name == "-":
        return Pipe(MediaFormat(Container.AUTO))
    if name.startswith(("http://", "https://")):
        return Download(name)
    from streamer.audio.files import read_audio
    from streamer.client.sources import wire_audio

    if as_it_is and (data := _compressed(Path(name))):
        return CompressedFile.of(data)
    return Recording(*wire_audio(read_audio(name)))


def microphone() -> Pipe:
    """Return the microphone of this machine. Raises NoSource."""
    for command in _RECORDERS:
        if shutil.which(command[0]):
            return Pipe(_MICROPHONE, command)
    names = ", ".join(command[0] for command in _RECORDERS)
    raise NoSource(f"--mic: expected one of {names} to be installed, found none of them")


def _compressed(path: Path) -> bytes:
    """Return a file's bytes if it is compressed audio. Empty for WAV and FLAC, whose samples can be sent exactly."""
    from streamer.media.packets import UnsupportedMedia
    from streamer.media.sniffing import leading_tag, sniff

    try:
        data = path.read_bytes()
        if leading_tag(data):
            return data
        return data if sniff(data, is_last=True) not in (Container.WAV, Container.FLAC) else b""
    except (OSError, UnsupportedMedia):
        return b""


async def _timed(pieces: Iterable[bytes], bytes_per_second: float, *, real_time: bool) -> AsyncIterator[bytes]:
    if real_time:
        async for piece in pace(pieces, bytes_per_second):
            yield piece
        return
    for piece in pieces:
        yield piece
