"""A server process that serves nothing: `python -m tests.runtime.fake_member HOW DESCRIPTOR`."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time

from streamer.runtime.control import (
    ORDERS,
    Drain,
    End,
    Failed,
    Gather,
    Gathered,
    Link,
    Ready,
    Report,
    Reported,
    Setup,
)
from streamer.serving.server import loop_factory


async def main(how: str, end: socket.socket) -> int:
    link = await Link.over(end, ORDERS)
    setup = await link.hear()
    assert isinstance(setup, Setup)
    if how == "refuse":
        link.tell(Failed("there is no such model"))
        await link.close()
        return 2
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    link.tell(Ready("http://127.0.0.1:1", None, str(os.getpid()), 16_000))
    if how == "crash":
        await link.close()
        return 3
    asked = False
    while (order := await link.hear()) is not None:
        match order:
            case Report() if how == "hang":
                time.sleep(60)  # noqa: ASYNC251 (as a model does that holds the interpreter)
            case Report():
                link.tell(Reported(setup.settings))
                if how == "gather" and not asked:
                    asked = True
                    link.tell(Gather())
            case Gathered(counts):
                # The only way to say something that is kept.
                link.tell(Failed("nothing" if counts is None else counts.decode()))
                await asyncio.sleep(0.05)
                link.tell(Gather())
            case Drain() if how == "stay":
                pass
            case Drain() | End():
                await link.close()
                return 0 if how != "fail to drain" else 4
    return 5


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        sys.exit(runner.run(main(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))))
