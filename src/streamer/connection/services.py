"""Services shared by the connections of a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streamer.audio.deferred_decoder import AudioSamples
from streamer.clock import Clock, LoopClock
from streamer.connection.address_budgets import AddressBudgets
from streamer.connection.loop_throttle import LoopThrottle
from streamer.inference.contract import InferenceEngine
from streamer.session.memory import MemoryPool
from streamer.telemetry.observer import Observer
from streamer.vad.scorer import Row


class Scoring(Protocol):
    """Interface of the speech scorer."""

    on_failure: Callable[[BaseException], None] | None
    """Called once if the scorer has failed permanently."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def open(self, deliver: Callable[[Sequence[float]], None]) -> Row:
        """Open a row. `deliver` gets the scores of its requests, on the loop, never before `submit` returns."""

    def close(self, row: Row) -> None:
        """Close a row. Pending scores are not delivered."""

    def reset(self, row: Row) -> None: ...

    def submit(self, row: Row, samples: AudioSamples) -> None: ...


@dataclass(frozen=True, slots=True)
class Services:
    """Services shared by all sessions of a server."""

    scoring: Scoring
    engine: InferenceEngine
    observer: Observer = field(default_factory=Observer)
    clock: Clock = field(default_factory=LoopClock)
    throttle: LoopThrottle = field(default_factory=LoopThrottle)
    """Acquired by a session that starts or ends."""
    memory: MemoryPool = field(default_factory=MemoryPool)
    """For the audio of all sessions."""
    addresses: AddressBudgets = field(default_factory=AddressBudgets)
    """Of all transports."""
