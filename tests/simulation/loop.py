"""An event loop whose time stands still while there is work and jumps when there is none."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any


class Stuck(AssertionError):
    """Nothing is left to run and no timer is set: somebody waits for ever."""


class _NoWait(selectors.BaseSelector):
    """Never waits for a socket: there are none. Asked to wait, it moves the clock instead."""

    def __init__(self) -> None:
        self._keys: dict[Any, selectors.SelectorKey] = {}
        self.now = 0.0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, 0, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("nothing to run, no timer set")
        self.now += timeout
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs coroutines in the time they would take, at once. Deterministic: no threads, no sockets, one clock."""

    def __init__(self) -> None:
        self._virtual = _NoWait()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


class VirtualClock:
    """The connection manager's clock on a virtual loop; a `clock.Clock`."""

    paused_s = 0.0

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def cpu(self) -> float:
        return 0.0  # runs from one seed are the same on every machine

    def now(self) -> float:
        return self._loop.time()

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_at(when, callback)
