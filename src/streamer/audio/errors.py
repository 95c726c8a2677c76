"""Errors of this package. A compiled module (`buffer`) cannot define one."""

from __future__ import annotations

from streamer.errors import ErrorCode, StreamerError


class BufferFull(RuntimeError):
    """An append exceeded the buffer's limit, because its owner did not forget: a bug, never a client's error."""


class UnreadableFile(StreamerError):
    """A file that is missing, not audio, or implausible; the message is one line with its name and the reason."""

    code = ErrorCode.INVALID_AUDIO
