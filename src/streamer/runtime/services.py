"""What the connections of a server share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streamer.audio.coding import Samples
from streamer.clock import Clock, LoopClock
from streamer.inference.contract import InferenceEngine
from streamer.runtime.address_budgets import AddressBudgets
from streamer.runtime.turns import Turns
from streamer.session.memory import MemoryPool
from streamer.telemetry.observer import Observer
from streamer.vad.scorer import Row


class Scoring(Protocol):
    """What a server needs of the speech scorer."""

    on_failure: Callable[[BaseException], None] | None
    """Called once if it can never score again."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def open(self, deliver: Callable[[Sequence[float]], None]) -> Row:
        """`deliver` gets the scores of this row's requests, on the loop, never before `submit` returns."""

    def close(self, row: Row) -> None:
        """The row can go; what is still outstanding on it is not delivered."""

    def reset(self, row: Row) -> None: ...

    def submit(self, row: Row, samples: Samples) -> None: ...


@dataclass(frozen=True, slots=True)
class Services:
    """What every session of a server shares."""

    scoring: Scoring
    engine: InferenceEngine
    observer: Observer = field(default_factory=Observer)
    clock: Clock = field(default_factory=LoopClock)
    turns: Turns = field(default_factory=Turns)
    """Taken by who begins and who ends."""
    memory: MemoryPool = field(default_factory=MemoryPool)
    """For the audio of all sessions."""
    addresses: AddressBudgets = field(default_factory=AddressBudgets)
    """Of all transports."""
