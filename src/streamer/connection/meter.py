"""CPU time of a coroutine, without that of other code while it waits."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Meter:
    """Sum of the CPU time of blocks (`with`, not nested) and of coroutines."""

    def __init__(self, cpu: Callable[[], float]) -> None:
        """Create a meter. `cpu`: see `Clock`."""
        self._cpu = cpu
        self._began = 0.0
        self.spent_s = 0.0

    def __enter__(self) -> None:
        self._began = self._cpu()

    def __exit__(self, *_: object) -> None:
        self.spent_s += self._cpu() - self._began

    def take(self) -> float:
        """Return `spent_s` and reset it."""
        spent_s, self.spent_s = self.spent_s, 0.0
        return spent_s

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, and add the CPU time of its steps to `spent_s`."""
        return await self._measured(work)

    @coroutine
    def _measured(self, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        cpu = self._cpu
        step: Callable[[Any], Any] = work.send
        value: Any = None
        while True:
            started_at = cpu()
            try:
                waits_for = step(value)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            finally:
                self.spent_s += cpu() - started_at
                value = None  # an error that leaves here would reference this frame
            try:
                value = yield waits_for
                step = work.send
            except BaseException as error:  # noqa: BLE001 (a cancellation, or the end, of the work itself)
                step, value = work.throw, error
