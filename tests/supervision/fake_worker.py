"""A server process that serves nothing: `python -m tests.supervision.fake_worker HOW DESCRIPTOR`."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time

from streamer.supervision.ipc import (
    COMMAND_DECODER,
    CollectMetrics,
    Drain,
    End,
    IpcConnection,
    MetricsCollected,
    MetricsTotals,
    Ready,
    RequestTotals,
    StartFailed,
    WorkerSettings,
)
from streamer.supervision.single_process import loop_factory


async def main(how: str, end: socket.socket) -> int:
    link = await IpcConnection.from_socket(end, COMMAND_DECODER)
    setup = await link.receive()
    assert isinstance(setup, WorkerSettings)
    if how == "refuse":
        link.send(StartFailed("there is no such model"))
        await link.close()
        return 2
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    link.send(Ready("http://127.0.0.1:1", None, str(os.getpid()), 16_000))
    if how == "crash":
        await link.close()
        return 3
    asked = False
    while (order := await link.receive()) is not None:
        match order:
            case CollectMetrics() if how == "hang":
                time.sleep(60)  # noqa: ASYNC251 (as a model does that holds the interpreter)
            case CollectMetrics():
                link.send(MetricsCollected(setup.settings))
                if how == "gather" and not asked:
                    asked = True
                    link.send(RequestTotals())
            case MetricsTotals(counts):
                # The only way to say something that is kept.
                link.send(StartFailed("nothing" if counts is None else counts.decode()))
                await asyncio.sleep(0.05)
                link.send(RequestTotals())
            case Drain() if how == "stay":
                pass
            case Drain() | End():
                await link.close()
                return 0 if how != "fail to drain" else 4
    return 5


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        sys.exit(runner.run(main(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))))
