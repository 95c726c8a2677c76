"""One serving process, as its supervisor sees it: started, asked, told, and gone."""

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
"""For what a process said before its end to be read."""

log = logging.getLogger(__name__)


class State(StrEnum):
    """Where a serving process stands."""

    STARTING = "starting"
    SERVING = "serving"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Watch:
    """How a process is looked after while it serves."""

    interval_s: float = 5.0
    """So often it is asked what it has counted. What it counts after its last answer is lost if it is killed."""
    hung_s: float = 30.0
    """An event loop that answers nothing for so long serves nobody either."""


@dataclass(frozen=True, slots=True)
class Gone:
    """How a process ended."""

    code: int
    """Its exit code; negative: the signal that killed it."""
    served_s: float
    """How long it served; 0: it never did."""
    failure: str | None
    """Why it could not start, in its own words."""

    def __str__(self) -> str:
        if self.failure is not None:
            return f"could not start: {self.failure}"
        if self.code < 0:
            with suppress(ValueError):
                return f"was killed by {signal.Signals(-self.code).name}"
        return f"ended with exit code {self.code}"


class ServingProcess:
    """`run` starts it and returns when it is gone. `heard` is told of what is not for this class to answer."""

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        setup: Setup,
        watch: Watch,
        clock: Clock,
        heard: Callable[[ServingProcess, Answer], None],
    ) -> None:
        """`command` gets the number of its end of the socket pair as a last argument."""
        self.number = number
        self.state = State.STARTING
        self.counts = b""
        """What it had counted when it last said so."""
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
        """Why it could not start, once it said so."""
        self._asked: asyncio.Future[None] | None = None

    @property
    def pid(self) -> int | None:
        """Once it has been started."""
        return self._process.pid if self._process is not None else None

    @property
    def is_asked(self) -> bool:
        """Whether it owes an answer."""
        return self._asked is not None

    def tell(self, order: Order) -> None:
        """Said to one that is still being started, it waits."""
        if self._link is None:
            self._unsaid.append(order)
        else:
            self._link.tell(order)

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def report(self, timeout_s: float) -> bool:
        """See that `counts` are those of now; False where it does not answer in time. There is one question at a time,
        so that one that is hung does not fill its socket."""
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
        except OSError as error:  # no process to be had, no descriptor: it may be different the next time
            return Gone(1, 0.0, f"cannot start a process: {error.strerror}")
        finally:
            self.state = State.DOWN
            self.kill()  # where we are cancelled; it is gone otherwise
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
        """Keep its counts fresh; kill it where it hangs."""
        hung_s = self._watching.hung_s
        while True:
            await asyncio.sleep(self._watching.interval_s)
            if self.state is State.SERVING and not await self.report(hung_s):
                log.error("server process %d has not answered for %g s: killing it", self.number, hung_s)
                self.kill()
                return
