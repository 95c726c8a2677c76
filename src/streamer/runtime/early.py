"""Audio that came before anything can be done with it: short of a window, its session need not hear of it yet."""

from __future__ import annotations


class Early:
    """What one client has sent since its session was last told. Less than one window of speech, always."""

    __slots__ = ("came", "data", "missing")

    def __init__(self) -> None:
        self.missing = 0
        """Bytes still to come until something can be done; 0 where the session has to hear of every one."""
        self.data = bytearray()
        self.came = 0.0
        """When the last of it came, in monotonic seconds."""

    def keep(self, data: bytes, now: float) -> None:
        """Fewer than `missing` bytes."""
        self.data += data
        self.missing -= len(data)
        self.came = now

    def with_more(self, data: bytes) -> bytes:
        """All there is, and this; nothing is kept then."""
        whole = bytes(self.data + data)
        self.data.clear()
        return whole
