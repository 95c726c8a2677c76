"""Backlog and memory of a session, compared with its limits."""

from __future__ import annotations

from streamer.errors import ErrorCode
from streamer.media.decoder import MediaDecoder
from streamer.session.memory import MemoryAccount, MemoryPool
from streamer.session.message_queue import PendingMessages
from streamer.session.settings import Limits
from streamer.session.stream import Stream


class SessionLoad:
    """Queued messages of one session, its running stream, and the memory of both."""

    def __init__(self, limits: Limits, pool: MemoryPool) -> None:
        self._limits = limits
        self.pending = PendingMessages()
        self.stream: Stream | None = None
        """The running stream."""
        self.media: MediaDecoder | None = None
        """The decoder of a client that sends compressed audio."""
        self.undecoded_bytes = 0
        """Memory of messages that wait until the audio before them is decoded."""
        self.bad_packets = 0
        """Number of packets of compressed audio that could not be decoded."""
        self.memory = MemoryAccount(pool, limits.max_session_bytes)

    @property
    def backlog_s(self) -> float:
        """Seconds of audio received and not yet processed."""
        stream = self.stream
        if stream is None:
            return 0.0
        form = stream.start.format
        return stream.backlog_s + self.pending.audio_bytes / (form.frame_bytes * form.sample_rate)

    @property
    def held_bytes(self) -> int:
        """Bytes of memory for audio and queued messages."""
        media = self.undecoded_bytes + (self.media.nbytes if self.media is not None else 0)
        return self.pending.nbytes + media + (self.stream.held_bytes if self.stream is not None else 0)

    @property
    def is_stuck(self) -> bool:
        """Whether memory exceeds the limit, and no pending answer would reduce it."""
        return self.memory.is_over and not (self.stream is not None and self.stream.is_waiting)

    def count(self) -> bool:
        """Update the used memory, and the reserve for processing it; return whether it exceeds the limit."""
        reserved = self.stream.reserved_bytes(self.pending.audio_bytes) if self.stream is not None else 0
        return self.memory.update(self.held_bytes, reserved)

    def clear(self) -> None:
        """Discard queued messages and audio that is not decoded, and free their memory."""
        self.pending.clear()
        self.media, self.undecoded_bytes = None, 0
        self.count()

    def is_ahead(self, ahead_s: float) -> bool:
        """Return whether reading should pause: the client is more than `ahead_s` seconds ahead, or memory is full."""
        return self.backlog_s > ahead_s or self.memory.is_over

    def has_caught_up(self, ahead_s: float) -> bool:
        """Return whether reading should resume: half of the backlog is processed."""
        return not self.memory.is_over and self.backlog_s < ahead_s / 2

    def excess(self) -> str | None:
        """Update the used memory; return an error text if far too much is queued, which a paused reader prevents."""
        self.count()
        most_s, most_bytes = 2 * self._limits.audio_ahead_s, 2 * self._limits.max_session_bytes
        if self.backlog_s > most_s:
            return f"more than {most_s:g} s of audio are unprocessed"
        if self.memory.used > most_bytes:
            return f"expected at most {most_bytes} bytes of unprocessed audio, got {self.memory.used}"
        return None

    def stuck(self) -> tuple[ErrorCode, str]:
        """Return the error text of a session that is stuck."""
        used, limit = self.memory.used, self._limits.max_session_bytes
        if used > limit:
            text = f"expected at most {limit} bytes of audio in memory (limits.max_session_bytes), got {used}"
            return ErrorCode.TOO_FAST, text
        return ErrorCode.OVERLOADED, f"the server has no memory for {used} bytes of audio (server.max_audio_bytes)"
