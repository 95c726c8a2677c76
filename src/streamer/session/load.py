"""The unprocessed audio and the memory of a session, against its limits."""

from __future__ import annotations

from streamer.errors import ErrorCode
from streamer.media.decoder import MediaDecoder
from streamer.session.memory import MemoryAccount, MemoryPool
from streamer.session.pending import PendingMessages
from streamer.session.settings import Limits
from streamer.session.stream import Stream


class Load:
    """The messages that wait in one session, its running stream, and the memory that both take."""

    def __init__(self, limits: Limits, pool: MemoryPool) -> None:
        self._limits = limits
        self.pending = PendingMessages()
        self.stream: Stream | None = None
        """The one that runs."""
        self.media: MediaDecoder | None = None
        """Of a client that sends compressed audio."""
        self.bad_packets = 0
        """Packets of compressed audio that could not be decoded."""
        self.memory = MemoryAccount(pool, limits.max_session_bytes)

    @property
    def backlog_s(self) -> float:
        """Seconds of audio received and not yet dealt with."""
        stream = self.stream
        if stream is None:
            return 0.0
        form = stream.start.format
        return stream.backlog_s + self.pending.audio_bytes / (form.frame_bytes * form.sample_rate)

    @property
    def held_bytes(self) -> int:
        """Bytes of memory for audio, and for the messages that wait with it."""
        media = self.media.nbytes if self.media is not None else 0
        return self.pending.nbytes + media + (self.stream.held_bytes if self.stream is not None else 0)

    @property
    def is_stuck(self) -> bool:
        """Whether more is held than may be, and no answer is outstanding that would make it less."""
        return self.memory.is_over and not (self.stream is not None and self.stream.is_waiting)

    def count(self) -> None:
        """Count what is held now, and what may be needed to deal with it."""
        reserved = self.stream.reserved_bytes(self.pending.audio_bytes) if self.stream is not None else 0
        self.memory.update(self.held_bytes, reserved)

    def is_ahead(self, ahead_s: float) -> bool:
        """Whether the client should not be read for a while, being more than `ahead_s` seconds ahead or too large."""
        return self.backlog_s > ahead_s or self.memory.is_over

    def has_caught_up(self, ahead_s: float) -> bool:
        """Whether a client that was not read should be read again: half of the backlog is dealt with."""
        return not self.memory.is_over and self.backlog_s < ahead_s / 2

    def excess(self) -> str | None:
        """Count, and return what there is far too much of. None for a client that is not read when it is ahead."""
        self.count()
        most_s, most_bytes = 2 * self._limits.audio_ahead_s, 2 * self._limits.max_session_bytes
        if self.backlog_s > most_s:
            return f"more than {most_s:g} s of audio wait to be processed"
        if self.memory.used > most_bytes:
            return f"expected at most {most_bytes} bytes of audio that wait to be processed, got {self.memory.used}"
        return None

    def stuck(self) -> tuple[ErrorCode, str]:
        """Why a session that is stuck has to end."""
        used, most = self.memory.used, self._limits.max_session_bytes
        if used > most:
            text = f"expected at most {most} bytes of audio in memory (limits.max_session_bytes), got {used}"
            return ErrorCode.TOO_FAST, text
        return ErrorCode.OVERLOADED, f"the server has no memory for {used} bytes of audio (server.max_audio_bytes)"
