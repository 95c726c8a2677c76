"""One server process, as its supervisor sees it: started, monitored, and reaped."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from streamer.clock import Clock, timeout
from streamer.supervision.ipc import (
    NOTIFICATION_DECODER,
    CollectMetrics,
    Command,
    IpcConnection,
    MetricsCollected,
    Notification,
    Ready,
    RequestTotals,
    StartFailed,
    WorkerSettings,
)
from streamer.telemetry.metrics_merge import ProcessState

_FINAL_READ_S = 1.0
"""Time in seconds to read the last messages of a process that has exited."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Health check of a process that serves."""

    interval_s: float = 5.0
    """Interval in seconds of collecting its metrics. Metrics counted after the last answer are lost if it is killed."""
    timeout_s: float = 30.0
    """Time in seconds without an answer after which the process is considered hung."""


@dataclass(frozen=True, slots=True)
class ProcessExit:
    """Exit of a process."""

    code: int
    """Exit code; negative: the signal that killed it."""
    served_s: float
    """Time of service in seconds; 0 if it never served."""
    failure: str | None
    """Reason why it could not start, in its own words."""
    detail: str = ""
    """Traceback of the model author's code, if that is the reason."""

    def __str__(self) -> str:
        if self.failure is not None:
            return f"could not start: {self.failure}"
        if self.code < 0:
            with suppress(ValueError):
                return f"was killed by {signal.Signals(-self.code).name}"
        return f"ended with exit code {self.code}"


class ServerProcess:
    """Starts a process in `run`, which returns when it has exited. `on_message` gets messages for the supervisor."""

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        setup: WorkerSettings,
        watch: HealthCheck,
        clock: Clock,
        on_message: Callable[[ServerProcess, Notification], None],
    ) -> None:
        """Prepare a process. `command` gets the descriptor of its end of the socket pair as a last argument."""
        self.number = number
        self.state = ProcessState.STARTING
        self.metrics = b""
        """Last metrics of the process."""
        self._command = command
        self._health_check = watch
        self._clock = clock
        self._on_message = on_message
        self._setup = setup
        self._unsent: list[Command] = [setup]
        self._link: IpcConnection[Notification] | None = None
        self._process: Process | None = None
        self._ready_at: float | None = None
        self.failure: str | None = None
        """Reason why it could not start."""
        self.detail = ""
        """Traceback of the model author's code, if that is the reason."""
        self._reply: asyncio.Future[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id, once it has been started."""
        return self._process.pid if self._process is not None else None

    @property
    def is_awaiting_reply(self) -> bool:
        """Whether an answer is pending."""
        return self._reply is not None

    def send(self, order: Command) -> None:
        """Send a command; it is queued while the process starts."""
        if self._link is None:
            self._unsent.append(order)
        else:
            self._link.send(order)

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def collect(self, timeout_s: float) -> bool:
        """Update `counts`; return False if the process does not answer within the time-out.

        At most one request is pending, so that a hung process does not fill its socket.
        """
        if self.state is not ProcessState.SERVING:
            return False
        reply = self._reply
        if reply is None:
            reply = self._reply = asyncio.get_running_loop().create_future()
            self.send(CollectMetrics())
        with suppress(TimeoutError):
            async with timeout(self._clock, timeout_s):
                await asyncio.wait([reply])
        return reply.done() and self.state is ProcessState.SERVING

    async def run(self) -> ProcessExit:
        try:
            self._process, self._link = await self._start()
            for order in self._unsent:
                self._link.send(order)
            code = await self._supervise(self._process, self._link)
        except OSError as error:  # out of processes or descriptors, which may be temporary
            return ProcessExit(1, 0.0, f"cannot start a process: {error.strerror}")
        finally:
            self.state = ProcessState.DOWN
            self.kill()  # if this task was cancelled; otherwise it has exited
            if self._reply is not None:
                self._reply.cancel()
            if self._link is not None:
                await self._link.close()
        served_s = 0.0 if self._ready_at is None else monotonic() - self._ready_at
        return ProcessExit(code, served_s, self.failure, self.detail)

    async def _start(self) -> tuple[Process, IpcConnection[Notification]]:
        ours, theirs = socket.socketpair()
        with theirs:
            link = await IpcConnection.from_socket(ours, NOTIFICATION_DECODER)
            end = theirs.fileno()
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command, str(end), stdin=DEVNULL, pass_fds=[end, self._setup.replay_table]
                )
            except BaseException:
                await link.close()
                raise
        return process, link

    async def _supervise(self, process: Process, link: IpcConnection[Notification]) -> int:
        async with asyncio.TaskGroup() as tasks:
            receiving = tasks.create_task(self._receive_loop(link))
            watching = tasks.create_task(self._health_check_loop())
            code = await process.wait()
            await asyncio.wait([receiving], timeout=_FINAL_READ_S)
            receiving.cancel()
            watching.cancel()
        return code

    async def _receive_loop(self, link: IpcConnection[Notification]) -> None:
        while (notification := await link.receive()) is not None:
            match notification:
                case Ready():
                    self.state, self._ready_at = ProcessState.SERVING, monotonic()
                    self._on_message(self, notification)
                case StartFailed(message, detail):
                    self.failure, self.detail = message, detail
                case MetricsCollected(counts):
                    self.metrics = counts
                    if self._reply is not None:
                        self._reply.set_result(None)
                        self._reply = None
                case RequestTotals():
                    self._on_message(self, notification)

    async def _health_check_loop(self) -> None:
        """Keep the metrics fresh; kill the process if it hangs."""
        hung_s = self._health_check.timeout_s
        while True:
            await asyncio.sleep(self._health_check.interval_s)
            if self.state is ProcessState.SERVING and not await self.collect(hung_s):
                log.error("server process %d has not answered for %g s: killing it", self.number, hung_s)
                self.kill()
                return
