"""The same line over and over says nothing new: the first few, then how many there were."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class Repeats:
    """Lets `burst` of each key through per window of `window_s`; remembers at most `keys` of them, the latest."""

    def __init__(self, burst: int = 5, window_s: float = 10.0, keys: int = 1_000) -> None:
        self._burst = burst
        self._window_s = window_s
        self._keys = keys
        self._seen: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def ask(self, key: Hashable, now: float) -> int | None:
        """None: say nothing. Else how many were held back since this key was last let through."""
        began, count = self._seen.get(key, (now, 0))
        held = 0
        if now - began >= self._window_s:
            held = max(0, count - self._burst)
            began, count = now, 0
        self._seen[key] = (began, count + 1)
        self._seen.move_to_end(key)
        if len(self._seen) > self._keys:
            self._seen.popitem(last=False)
        return held if count < self._burst else None
