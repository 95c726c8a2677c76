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
from enum import StrEnum
from time import monotonic

from streamer.clock import Clock, timeout
from streamer.runtime.control import ANSWERS, Answer, Failed, Gather, Link, Order, Ready, Report, Reported, Setup

_LAST_WORDS_S = 1.0
"""Time in seconds to read the last messages of a process that has exited."""

log = logging.getLogger(__name__)


class State(StrEnum):
    """State of a server process."""

    STARTING = "starting"
    SERVING = "serving"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Watch:
    """Health check of a process that serves."""

    interval_s: float = 5.0
    """Interval in seconds of collecting its metrics. Metrics counted after the last answer are lost if it is killed."""
    hung_s: float = 30.0
    """Time in seconds without an answer after which the process is considered hung."""


@dataclass(frozen=True, slots=True)
class Gone:
    """Exit of a process."""

    code: int
    """Exit code; negative: the signal that killed it."""
    served_s: float
    """Time of service in seconds; 0 if it never served."""
    failure: str | None
    """Reason why it could not start, in its own words."""

    def __str__(self) -> str:
        if self.failure is not None:
            return f"could not start: {self.failure}"
        if self.code < 0:
            with suppress(ValueError):
                return f"was killed by {signal.Signals(-self.code).name}"
        return f"ended with exit code {self.code}"


class ServingProcess:
    """Starts a process in `run`, which returns when it has exited. `heard` gets messages for the supervisor."""

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        setup: Setup,
        watch: Watch,
        clock: Clock,
        heard: Callable[[ServingProcess, Answer], None],
    ) -> None:
        """Prepare a process. `command` gets the descriptor of its end of the socket pair as a last argument."""
        self.number = number
        self.state = State.STARTING
        self.counts = b""
        """Last metrics of the process."""
        self._command = command
        self._watching = watch
        self._clock = clock
        self._heard = heard
        self._setup = setup
        self._unsaid: list[Order] = [setup]
        self._link: Link[Answer] | None = None
        self._process: Process | None = None
        self._ready_at: float | None = None
        self.failure: str | None = None
        """Reason why it could not start."""
        self._asked: asyncio.Future[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id, once it has been started."""
        return self._process.pid if self._process is not None else None

    @property
    def is_asked(self) -> bool:
        """Whether an answer is pending."""
        return self._asked is not None

    def tell(self, order: Order) -> None:
        """Send a command; it is queued while the process starts."""
        if self._link is None:
            self._unsaid.append(order)
        else:
            self._link.tell(order)

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def report(self, timeout_s: float) -> bool:
        """Update `counts`; return False if the process does not answer within the time-out.

        At most one request is pending, so that a hung process does not fill its socket.
        """
        if self.state is not State.SERVING:
            return False
        asked = self._asked
        if asked is None:
            asked = self._asked = asyncio.get_running_loop().create_future()
            self.tell(Report())
        with suppress(TimeoutError):
            async with timeout(self._clock, timeout_s):
                await asyncio.wait([asked])
        return asked.done() and self.state is State.SERVING

    async def run(self) -> Gone:
        try:
            self._process, self._link = await self._start()
            for order in self._unsaid:
                self._link.tell(order)
            code = await self._live(self._process, self._link)
        except OSError as error:  # out of processes or descriptors, which may be temporary
            return Gone(1, 0.0, f"cannot start a process: {error.strerror}")
        finally:
            self.state = State.DOWN
            self.kill()  # if this task was cancelled; otherwise it has exited
            if self._asked is not None:
                self._asked.cancel()
            if self._link is not None:
                await self._link.close()
        return Gone(code, 0.0 if self._ready_at is None else monotonic() - self._ready_at, self.failure)

    async def _start(self) -> tuple[Process, Link[Answer]]:
        ours, theirs = socket.socketpair()
        with theirs:
            link = await Link.over(ours, ANSWERS)
            end = theirs.fileno()
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command, str(end), stdin=DEVNULL, pass_fds=[end, self._setup.used_tokens]
                )
            except BaseException:
                await link.close()
                raise
        return process, link

    async def _live(self, process: Process, link: Link[Answer]) -> int:
        async with asyncio.TaskGroup() as tasks:
            hearing = tasks.create_task(self._hear(link))
            watching = tasks.create_task(self._watch())
            code = await process.wait()
            await asyncio.wait([hearing], timeout=_LAST_WORDS_S)
            hearing.cancel()
            watching.cancel()
        return code

    async def _hear(self, link: Link[Answer]) -> None:
        while (word := await link.hear()) is not None:
            match word:
                case Ready():
                    self.state, self._ready_at = State.SERVING, monotonic()
                    self._heard(self, word)
                case Failed(message):
                    self.failure = message
                case Reported(counts):
                    self.counts = counts
                    if self._asked is not None:
                        self._asked.set_result(None)
                        self._asked = None
                case Gather():
                    self._heard(self, word)

    async def _watch(self) -> None:
        """Keep the metrics fresh; kill the process if it hangs."""
        hung_s = self._watching.hung_s
        while True:
            await asyncio.sleep(self._watching.interval_s)
            if self.state is State.SERVING and not await self.report(hung_s):
                log.error("server process %d has not answered for %g s: killing it", self.number, hung_s)
                self.kill()
                return
