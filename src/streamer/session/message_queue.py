"""Messages that wait for a flush or the end of a stream."""

from __future__ import annotations

from collections import deque

from streamer.session.messages import Audio, Configure, Flush, HalfClose, Message, SetFormat, Start, Stop

_MAX_JOINED_BYTES = 64 * 1024
"""Size up to which small messages of audio are joined."""
_MESSAGE_BYTES = 512
"""Memory of a message without its variable parts."""


class PendingMessages:
    """Queue of messages in the client's order. Adjacent audio counts as one message."""

    __slots__ = ("_count", "_entries", "audio_bytes", "nbytes")

    def __init__(self) -> None:
        self._entries: deque[Start | Configure | SetFormat | Flush | Stop | HalfClose | bytes | bytearray] = deque()
        self._count = 0
        self.audio_bytes = 0
        """Bytes of audio in the queue."""
        self.nbytes = 0
        """Approximate memory of the queue in bytes."""

    def __len__(self) -> int:
        return self._count

    def put(self, message: Start | Audio | Configure | SetFormat | Flush | Stop | HalfClose) -> None:
        """Append a message."""
        if not isinstance(message, Audio):
            self._entries.append(message)
            self._count += 1
            self.nbytes += memory_of(message)
            return
        data = message.data
        last = self._entries[-1] if self._entries else None
        self.audio_bytes += len(data)
        self.nbytes += len(data)
        if not isinstance(last, bytes | bytearray):
            self._count += 1
        elif isinstance(last, bytearray) and len(last) + len(data) <= _MAX_JOINED_BYTES:
            last += data
            return
        self._entries.append(data if len(data) >= _MAX_JOINED_BYTES else bytearray(data))

    def prepend(self, message: Start) -> None:
        """Prepend a message that precedes all others."""
        self._entries.appendleft(message)
        self._count += 1
        self.nbytes += memory_of(message)

    def pop(self) -> Message:
        """Remove and return the oldest message, or a part of the oldest audio.

        Raises IndexError if the queue is empty.
        """
        oldest = self._entries.popleft()
        if not isinstance(oldest, bytes | bytearray):
            self._count -= 1
            self.nbytes -= memory_of(oldest)
            return oldest
        self.audio_bytes -= len(oldest)
        self.nbytes -= len(oldest)
        if not self._entries or not isinstance(self._entries[0], bytes | bytearray):
            self._count -= 1
        return Audio(bytes(oldest))

    def clear(self) -> None:
        """Forget all messages."""
        self._entries.clear()
        self._count = self.audio_bytes = self.nbytes = 0


def memory_of(message: Start | Audio | Configure | SetFormat | Flush | Stop | HalfClose) -> int:
    """Return the approximate memory of a message in bytes."""
    if isinstance(message, Audio):
        return _MESSAGE_BYTES + len(message.data)
    if isinstance(message, Configure):
        return _MESSAGE_BYTES + len(message.options)
    if not isinstance(message, Start):
        return _MESSAGE_BYTES
    return _MESSAGE_BYTES + len(message.options) + sum(len(key) + len(text) for key, text in message.metadata.items())
