"""Messages that came while a flush or the end of a stream was awaited."""

from __future__ import annotations

from collections import deque

from streamer.session.messages import Audio, Flush, Leave, Message, Start, Stop


class PendingMessages:
    """Queue of messages in the order in which the client sent them. Adjacent audio is one entry."""

    __slots__ = ("_entries", "audio_bytes")

    def __init__(self) -> None:
        self._entries: deque[Start | Flush | Stop | Leave | bytearray] = deque()
        self.audio_bytes = 0
        """Bytes of audio in the queue."""

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, message: Start | Audio | Flush | Stop | Leave) -> None:
        """Append a message."""
        if not isinstance(message, Audio):
            self._entries.append(message)
            return
        self.audio_bytes += len(message.data)
        last = self._entries[-1] if self._entries else None
        if isinstance(last, bytearray):
            last += message.data  # small messages must not become many entries
        else:
            self._entries.append(bytearray(message.data))

    def put_first(self, message: Start) -> None:
        """Prepend a message that came before all others in the queue."""
        self._entries.appendleft(message)

    def pop(self) -> Message:
        """Remove and return the oldest message. Raises IndexError if there is none."""
        oldest = self._entries.popleft()
        if not isinstance(oldest, bytearray):
            return oldest
        self.audio_bytes -= len(oldest)
        return Audio(bytes(oldest))

    def clear(self) -> None:
        """Forget all messages."""
        self._entries.clear()
        self.audio_bytes = 0
