"""One of several server processes; the supervisor starts it as `python -m streamer.serving.member DESCRIPTOR`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable

from prometheus_client import Metric

from streamer import parent_death
from streamer.app import Shared
from streamer.config import Loaded, Settings
from streamer.config.sources import split_key
from streamer.errors import ConfigError, ListenFailed, ModelLoadError
from streamer.runtime.control import ORDERS, Drain, End, Failed, Gather, Gathered, Link, Order, Report, Reported, Setup
from streamer.runtime.used_tokens import SharedReplayCache
from streamer.serving.ending import Ending
from streamer.serving.server import exit_code, loop_factory, open_app, serve
from streamer.telemetry.logs import Logs
from streamer.telemetry.tally import pack_by_pieces, unpack

GATHER_TIMEOUT_S = 3.0
"""Time in seconds that a scrape waits for the supervisor."""

log = logging.getLogger(__name__)


class Member:
    """Connection of a server process to its supervisor."""

    def __init__(self, link: Link[Order]) -> None:
        self._link = link
        self.collect: Callable[[], Awaitable[Iterable[Metric]]] = _nothing
        """Collects the metrics of this process."""
        self._gathered: asyncio.Future[bytes | None] | None = None

    async def gather(self) -> Iterable[Metric]:
        """Return the metrics of all processes, or of this one if they cannot be merged. Raises TimeoutError.

        Scrapes that come together share one answer.
        """
        if self._gathered is None:
            self._gathered = asyncio.get_running_loop().create_future()
            self._link.tell(Gather())
        async with asyncio.timeout(GATHER_TIMEOUT_S):
            counts = await asyncio.shield(self._gathered)
        if counts is not None:
            return unpack(counts)
        log.warning("the metrics of all processes cannot be merged: this scrape has those of this process only")
        return await self.collect()

    async def obey(self, ending: Ending) -> None:
        """Execute the supervisor's commands until it exits."""
        while (order := await self._link.hear()) is not None:
            match order:
                case Report():
                    self._link.tell(Reported(await pack_by_pieces(await self.collect())))
                case Gathered(counts):
                    if self._gathered is not None:
                        self._gathered.set_result(counts)
                        self._gathered = None
                case Drain(lag):
                    ending.drain(lag=lag)
                case End():
                    ending.end()
        log.error("the supervisor has exited: this process drains its sessions and exits")
        ending.drain(lag=True)


async def _nothing() -> Iterable[Metric]:
    """Return the metrics of a process that does not serve yet."""
    return ()


async def _serve(link: Link[Order], loaded: Loaded, used: SharedReplayCache, logs: Logs) -> int:
    """Serve until the end; return the exit code."""
    member = Member(link)
    with Ending(supervised=True) as ending:
        async with asyncio.TaskGroup() as tasks:
            obeying = tasks.create_task(member.obey(ending))
            try:
                app = open_app(loaded, logs, shared=Shared(member.gather, used))
                member.collect = app.telemetry.collect
                await serve(app, ending, link.tell)
            except (ConfigError, ListenFailed, ModelLoadError) as refusal:
                link.tell(Failed(refusal.message))
                return exit_code(refusal)
            finally:
                obeying.cancel()
    return 0


async def _live(end: socket.socket) -> int:
    link = await Link.over(end, ORDERS)
    try:
        setup = await link.hear()
        if not isinstance(setup, Setup):
            return 1  # the supervisor has exited already
        loaded = _loaded(setup)
        os.set_inheritable(setup.used_tokens, False)
        used = SharedReplayCache(setup.used_tokens)
        with Logs(loaded.settings.log.level, loaded.settings.log.format) as logs:
            return await _serve(link, loaded, used, logs)
    finally:
        await link.close()


def _loaded(setup: Setup) -> Loaded:
    origins = {split_key(key): origin for key, origin in setup.origins.items()}
    return Loaded(Settings.model_validate_json(setup.settings), origins)


def main() -> int:
    # If this process is stopped when its supervisor dies, it is continued: it drains and exits, as the others do.
    parent_death.request_signal(signal.SIGCONT)
    end = socket.socket(fileno=int(sys.argv[1]))
    end.set_inheritable(False)  # model workers must not inherit it
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_live(end))


if __name__ == "__main__":
    sys.exit(main())
