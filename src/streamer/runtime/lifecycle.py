"""The lifecycle of a server: starting, ready, draining, stopped; and the phases of a drain."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from enum import StrEnum

from streamer.config import DrainSettings
from streamer.errors import ErrorCode
from streamer.inference.contract import ModelBackend, Readiness
from streamer.runtime.admission import Admission
from streamer.runtime.conductor import Conductor

log = logging.getLogger(__name__)


class Stage(StrEnum):
    """Stages of a server, in their order. A stage never returns."""

    STARTING = "starting"
    """Listening; the model is not loaded yet."""
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class Lifecycle:
    """Moves a server through its stages."""

    def __init__(self, admission: Admission, conductor: Conductor, engine: ModelBackend) -> None:
        self._admission = admission
        self._conductor = conductor
        self._engine = engine
        self.stage = Stage.STARTING
        self._fault = ""

    @property
    def readiness(self) -> Readiness:
        """Whether new sessions can be accepted; if not, the reason."""
        if self.stage is not Stage.READY:
            return Readiness(False, self.stage)
        return Readiness(False, self._fault) if self._fault else self._engine.readiness

    @property
    def alive(self) -> Readiness:
        """Whether the process is healthy; if not, it should be restarted."""
        return Readiness(not self._fault, self._fault)

    def broken(self, fault: str) -> None:
        """Close all sessions and refuse new ones, because a part that every session needs has failed permanently."""
        self._fault = self._admission.fault = fault
        self._conductor.expel(ErrorCode.INTERNAL, "internal server error")

    def ready(self) -> None:
        """Accept sessions: the model is loaded."""
        self.stage = Stage.READY
        self._admission.starting = False

    def stopped(self) -> None:
        self.stage = Stage.STOPPED
        self._admission.draining = True

    async def drain(self, times: DrainSettings, *, lag_s: float, late_s: float = 0.0) -> int:
        """Drain the sessions; return how many had to be cut off.

        The server is not ready from the start of the drain. New sessions are accepted until `lag_s`. Running sessions
        may end by themselves until `soft_s`; then they are finished, spread over `spread_s`; at `hard_s` the rest is
        cut off. All times count from the request for the drain, which was `late_s` ago, and include pauses of the
        process, because the service manager (systemd, Kubernetes) counts them as well. If the call is cancelled,
        `Conductor.abort` closes the sessions.
        """
        self.stage = Stage.DRAINING
        loop = asyncio.get_running_loop()
        began = loop.time() - late_s
        log.info(
            "draining %d sessions, for %g s at most; a second Ctrl-C or SIGTERM ends them at once",
            len(self._conductor),
            max(0.0, times.hard_s - late_s),
        )
        self._conductor.drain(max(0.0, times.soft_s - late_s))
        with suppress(TimeoutError):
            async with asyncio.timeout_at(began + times.hard_s):
                try:
                    if (lag_s := began + lag_s - loop.time()) > 0:
                        await asyncio.sleep(lag_s)
                finally:
                    self._admission.draining = True
                if not await self._ended_by(began + times.soft_s):
                    await self._conductor.finish(times.spread_s)
                await self._conductor.ended()
                return 0
        left = self._conductor.abort()
        log.warning("%d sessions did not end within %g s and were cut off", left, times.hard_s)
        return left

    async def _ended_by(self, when: float) -> bool:
        try:
            async with asyncio.timeout_at(when):
                await self._conductor.ended()
        except TimeoutError:
            return False
        return True
