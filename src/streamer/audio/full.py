"""The error of a buffer that is full, apart from it: a compiled module cannot define one."""

from __future__ import annotations


class BufferFull(RuntimeError):
    """More was to be retained than the buffer's bound: its owner forgot to forget. A bug of ours, never of a client."""
