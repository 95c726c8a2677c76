"""Cutting of samples into windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Windower:
    """Cuts a channel into windows of `window` samples without gap or overlap; an incomplete one waits for more."""

    __slots__ = ("_pending", "_rest")

    def __init__(self, window: int) -> None:
        self._rest = np.zeros(window, np.float32)
        self._pending = 0

    @property
    def pending(self) -> int:
        """Samples of the incomplete window. Always less than a window."""
        return self._pending

    def push(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take x [n]; return the windows it completes, [k * window], k may be 0. May share its memory with x."""
        if not self._pending and not x.size % self._rest.size:
            return x
        total = self._pending + x.size
        left = total % self._rest.size
        if total == left:
            self._rest[self._pending : total] = x
            self._pending = total
            return np.empty(0, np.float32)
        size = x.size - left
        windows = np.concatenate((self._rest[: self._pending], x[:size])) if self._pending else x[:size]
        self._rest[:left] = x[size:]
        self._pending = left
        return windows

    def flush(self) -> tuple[NDArray[np.float32], int] | None:
        """Return the incomplete window padded with zeros, and its number of real samples; None if it is empty."""
        if not self._pending:
            return None
        window, real = self._rest.copy(), self._pending
        window[real:] = 0
        self._pending = 0
        return window, real
