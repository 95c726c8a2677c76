"""One of several server processes; the supervisor starts it as `python -m streamer.supervision.worker DESCRIPTOR`."""

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
from streamer.app import ProcessShared
from streamer.config import LoadedSettings, Settings
from streamer.config.sources import split_key
from streamer.errors import ConfigError, ListenFailed, ModelLoadError
from streamer.supervision.ipc import (
    COMMAND_DECODER,
    CollectMetrics,
    Command,
    Drain,
    End,
    IpcConnection,
    MetricsCollected,
    MetricsTotals,
    RequestTotals,
    StartFailed,
    WorkerSettings,
)
from streamer.supervision.shared_replay_store import SharedReplayStore
from streamer.supervision.shutdown import Shutdown
from streamer.supervision.single_process import exit_code, loop_factory, open_app, serve
from streamer.telemetry.logs import Logs
from streamer.telemetry.metrics_merge import pack_in_slices, unpack

GATHER_TIMEOUT_S = 3.0
"""Time in seconds that a scrape waits for the supervisor."""

log = logging.getLogger(__name__)


class WorkerLink:
    """Connection of a server process to its supervisor."""

    def __init__(self, link: IpcConnection[Command]) -> None:
        self._link = link
        self.collect: Callable[[], Awaitable[Iterable[Metric]]] = _no_metrics
        """Collects the metrics of this process."""
        self._totals: asyncio.Future[bytes | None] | None = None

    async def fetch_totals(self) -> Iterable[Metric]:
        """Return the metrics of all processes, or of this one if they cannot be merged. Raises TimeoutError.

        Scrapes that come together share one answer.
        """
        if self._totals is None:
            self._totals = asyncio.get_running_loop().create_future()
            self._link.send(RequestTotals())
        async with asyncio.timeout(GATHER_TIMEOUT_S):
            counts = await asyncio.shield(self._totals)
        if counts is not None:
            return unpack(counts)
        log.warning("the metrics of all processes cannot be merged: this scrape has those of this process only")
        return await self.collect()

    async def run(self, ending: Shutdown) -> None:
        """Execute the supervisor's commands until it exits."""
        while (order := await self._link.receive()) is not None:
            match order:
                case CollectMetrics():
                    self._link.send(MetricsCollected(await pack_in_slices(await self.collect())))
                case MetricsTotals(counts):
                    if self._totals is not None:
                        self._totals.set_result(counts)
                        self._totals = None
                case Drain(lag):
                    ending.drain(lag=lag)
                case End():
                    ending.end()
        log.error("the supervisor has exited: this process drains its sessions and exits")
        ending.drain(lag=True)


async def _no_metrics() -> Iterable[Metric]:
    """Return the metrics of a process that does not serve yet."""
    return ()


async def _serve(link: IpcConnection[Command], loaded: LoadedSettings, used: SharedReplayStore, logs: Logs) -> int:
    """Serve until the end; return the exit code."""
    worker = WorkerLink(link)
    with Shutdown(supervised=True) as ending:
        async with asyncio.TaskGroup() as tasks:
            obeying = tasks.create_task(worker.run(ending))
            try:
                app = open_app(loaded, logs, shared=ProcessShared(worker.fetch_totals, used))
                worker.collect = app.telemetry.collect
                await serve(app, ending, link.send)
            except (ConfigError, ListenFailed, ModelLoadError) as refusal:
                link.send(StartFailed(refusal.message, getattr(refusal, "detail", "")))
                return exit_code(refusal)
            finally:
                obeying.cancel()
    return 0


async def _run(end: socket.socket) -> int:
    link = await IpcConnection.from_socket(end, COMMAND_DECODER)
    try:
        setup = await link.receive()
        if not isinstance(setup, WorkerSettings):
            return 1  # the supervisor has exited already
        loaded = _load_settings(setup)
        os.set_inheritable(setup.replay_table, False)
        used = SharedReplayStore(setup.replay_table)
        with Logs(loaded.settings.log.level, loaded.settings.log.format) as logs:
            return await _serve(link, loaded, used, logs)
    finally:
        await link.close()


def _load_settings(setup: WorkerSettings) -> LoadedSettings:
    origins = {split_key(key): origin for key, origin in setup.origins.items()}
    return LoadedSettings(Settings.model_validate_json(setup.settings), origins)


def main() -> int:
    # If this process is stopped when its supervisor dies, it is continued: it drains and exits, as the others do.
    parent_death.request_signal(signal.SIGCONT)
    end = socket.socket(fileno=int(sys.argv[1]))
    end.set_inheritable(False)  # model workers must not inherit it
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_run(end))


if __name__ == "__main__":
    sys.exit(main())
