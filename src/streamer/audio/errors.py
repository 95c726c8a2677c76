"""Errors of this room. A compiled module (`buffer`) cannot define one."""

from __future__ import annotations

from streamer.errors import ErrorCode, StreamerError


class BufferFull(RuntimeError):
    """An append that would exceed the buffer's bound: its owner forgot to forget. A bug of ours, never of a client."""


class UnreadableFile(StreamerError):
    """A file that is not there, not audio, or not believable; the message is one line that names it and says why."""

    code = ErrorCode.INVALID_AUDIO
