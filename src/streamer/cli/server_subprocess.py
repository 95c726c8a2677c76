"""A `streamer serve` process on a free port, for the duration of a command."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_LAST_LINES = 20
_LAST_WORDS_S = 1.0
_LISTENING = re.compile(r"listening on ((?:http|grpc)://\S+)")


class ServerFailed(Exception):
    """The server did not start; the message has its last lines."""


@dataclass(frozen=True, slots=True)
class ServerSubprocess:
    """A ready server: `http://127.0.0.1:PORT`, its process, and `grpc://...` if requested."""

    address: str
    pid: int
    grpc: str = ""


@asynccontextmanager
async def run_server(*arguments: str, grpc: bool = False) -> AsyncIterator[ServerSubprocess]:
    """Run `streamer serve ARGUMENTS --port 0`; yield it once it is ready. `grpc`: with gRPC as well.

    Raises ServerFailed if it exits first, or is not ready within a minute. It is stopped with SIGTERM, and with SIGKILL
    if necessary.
    """
    # No load balancer has to notice the drain.
    private = [
        "--set",
        "log.format=text",
        "--port",
        "0",
        "--grpc-port",
        "-1" if grpc else "0",
        "--set",
        "drain.lag_s=0",
    ]
    command = [sys.executable, "-m", "streamer", "serve", *arguments, *private]
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE)
    last_lines: deque[str] = deque(maxlen=_LAST_LINES)
    loop = asyncio.get_running_loop()
    addresses: list[asyncio.Future[str]] = [loop.create_future() for _ in range(1 + grpc)]
    listening = asyncio.create_task(_listen(process, last_lines, addresses))
    try:
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                where, *more = await asyncio.gather(*addresses)
                await _ready(where, process, listening, last_lines)
        except TimeoutError:
            raise ServerFailed(
                f"the server was not ready within {_READY_TIMEOUT_S:.0f} s\n" + "\n".join(last_lines)
            ) from None
        yield ServerSubprocess(where, process.pid, *more)
    finally:
        await _stop(process)
        listening.cancel()  # a grandchild may still hold the pipe open
        await asyncio.wait([listening])


async def _listen(process: Process, last_lines: deque[str], addresses: list[asyncio.Future[str]]) -> None:
    """Read the server's stderr to its end, so that it never blocks; return the addresses in it, in their order."""
    assert process.stderr is not None
    async for raw in process.stderr:
        line = raw.decode(errors="replace").rstrip()
        last_lines.append(line)
        waiting = [address for address in addresses if not address.done()]
        if waiting and (match := _LISTENING.search(line)):
            waiting[0].set_result(match[1])
    # Reaped before any signal: a signal to a child whose exit asyncio has not seen confuses its watcher.
    await process.wait()
    for address in addresses:
        if not address.done():
            address.set_exception(ServerFailed("the server ended before it listened\n" + "\n".join(last_lines)))


async def _ready(address: str, process: Process, listening: asyncio.Task[None], output: deque[str]) -> None:
    """Wait until the server reports readiness."""
    import aiohttp

    async with aiohttp.ClientSession() as http:
        while process.returncode is None:
            with suppress(aiohttp.ClientError):
                async with http.get(f"{address}/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)
    await asyncio.wait([listening], timeout=_LAST_WORDS_S)
    raise ServerFailed("the server ended before it was ready\n" + "\n".join(output))


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
