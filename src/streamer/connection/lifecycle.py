"""The lifecycle of a server: starting, ready, draining, stopped; and the phases of a drain."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from enum import StrEnum

from streamer.config import DrainSettings
from streamer.connection.admission import Admission
from streamer.connection.manager import ConnectionManager
from streamer.errors import ErrorCode
from streamer.inference.contract import ModelBackend, Readiness

log = logging.getLogger(__name__)


class LifecycleStage(StrEnum):
    """Stages of a server, in their order. A stage never returns."""

    STARTING = "starting"
    """Listening; the model is not loaded yet."""
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class Lifecycle:
    """Moves a server through its stages."""

    def __init__(self, admission: Admission, connections: ConnectionManager, engine: ModelBackend) -> None:
        self._admission = admission
        self._connections = connections
        self._engine = engine
        self.stage = LifecycleStage.STARTING
        self._fault = ""

    @property
    def readiness(self) -> Readiness:
        """Whether new sessions can be accepted; if not, the reason."""
        if self.stage is not LifecycleStage.READY:
            return Readiness(False, self.stage)
        return Readiness(False, self._fault) if self._fault else self._engine.readiness

    @property
    def alive(self) -> Readiness:
        """Whether the process is healthy; if not, it should be restarted."""
        return Readiness(not self._fault, self._fault)

    def fail(self, fault: str) -> None:
        """Close all sessions and refuse new ones, because a part that every session needs has failed permanently."""
        self._fault = self._admission.fault = fault
        self._connections.close_all(ErrorCode.INTERNAL, "internal server error")

    def set_ready(self) -> None:
        """Accept sessions: the model is loaded."""
        self.stage = LifecycleStage.READY
        self._admission.starting = False

    def set_stopped(self) -> None:
        self.stage = LifecycleStage.STOPPED
        self._admission.draining = True

    async def drain(self, times: DrainSettings, *, lag_s: float, late_s: float = 0.0) -> int:
        """Drain the sessions; return how many had to be cut off.

        The server is not ready from the start of the drain. New sessions are accepted until `lag_s`. Running sessions
        may end by themselves until `soft_s`; then they are finished, spread over `spread_s`; at `hard_s` the rest is
        cut off. All times count from the request for the drain, which was `late_s` ago, and include pauses of the
        process, because the service manager (systemd, Kubernetes) counts them as well. If the call is cancelled,
        `ConnectionManager.abort` closes the sessions.
        """
        self.stage = LifecycleStage.DRAINING
        loop = asyncio.get_running_loop()
        started_at = loop.time() - late_s
        log.info(
            "draining %d sessions, for %g s at most; a second Ctrl-C or SIGTERM ends them at once",
            len(self._connections),
            max(0.0, times.hard_s - late_s),
        )
        self._connections.drain(max(0.0, times.soft_s - late_s))
        with suppress(TimeoutError):
            async with asyncio.timeout_at(started_at + times.hard_s):
                try:
                    if (lag_s := started_at + lag_s - loop.time()) > 0:
                        await asyncio.sleep(lag_s)
                finally:
                    self._admission.draining = True
                if not await self._wait_empty_until(started_at + times.soft_s):
                    await self._connections.finish(times.spread_s)
                await self._connections.wait_empty()
                return 0
        cut_off = self._connections.abort()
        log.warning("%d sessions did not end within %g s and were cut off", cut_off, times.hard_s)
        return cut_off

    async def _wait_empty_until(self, when: float) -> bool:
        try:
            async with asyncio.timeout_at(when):
                await self._connections.wait_empty()
        except TimeoutError:
            return False
        return True
